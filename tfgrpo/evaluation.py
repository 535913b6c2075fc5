"""Evaluate a frozen policy: samples in, one sufficient statistic for each task out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from tfgrpo.protocols import Policy
from tfgrpo.rollout import Grader, Sampling, sample_groups
from tfgrpo.types import RolloutGroup, Task, TaskOutcome

OnGroup = Callable[[RolloutGroup], None]


def outcome_of(group: RolloutGroup) -> TaskOutcome:
    """What every metric needs of a group; a pure function of it."""
    graded = group.rollouts
    bounds = tuple(r.completion.entropy_bounds for r in graded)
    return TaskOutcome(
        task_id=group.task.task_id,
        dataset=group.task.dataset,
        correct=tuple(r.score.correct for r in graded),
        answers=tuple(r.score.answer for r in graded),
        modes=tuple(r.score.mode for r in graded),
        entropies=tuple(fmean(e) if (e := r.completion.entropies) else None for r in graded),
        lengths=tuple(r.completion.usage.completion_tokens for r in graded),
        truncated=sum(r.completion.finish_reason == "length" for r in graded),
        failures=len(group.failures),
        entropy_bounds=bounds if any(bounds) else (),
    )


async def evaluate(
    policy: Policy,
    tasks: Sequence[Task],
    grader: Grader,
    sampling: Sampling,
    on_group: OnGroup = lambda group: None,
) -> tuple[TaskOutcome, ...]:
    """Outcomes in the order of `tasks`; `on_group` is told of each group as it completes."""
    found: dict[str, TaskOutcome] = {}
    async for group in sample_groups(policy, tasks, grader, sampling):
        on_group(group)
        found[group.task.task_id] = outcome_of(group)
    return tuple(found[task.task_id] for task in tasks)
