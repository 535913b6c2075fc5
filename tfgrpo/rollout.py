"""Sample and grade groups. A group that is complete goes on; nothing waits for the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from tfgrpo.protocols import Policy, Reward
from tfgrpo.rewards.table import vote_scores
from tfgrpo.seeding import derive_seed
from tfgrpo.types import (
    ChatRequest,
    Completion,
    FailedRollout,
    Failure,
    Phase,
    Prompt,
    Rollout,
    RolloutGroup,
    SamplingParams,
    Score,
    Task,
)

Grader = Callable[[Task, Sequence[str]], Sequence[Score | Failure]]
AnswerReader = Callable[[Task, str], str | None]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a group is drawn: `n` rollouts, decoding, and which ledger line pays."""

    n: int
    params: SamplingParams
    phase: Phase = "rollout"
    detail: bool = False


def gold_grader(reward: Reward) -> Grader:
    def grade(task: Task, texts: Sequence[str]) -> list[Score | Failure]:
        return [reward.score(task, text) for text in texts]

    return grade


def vote_grader(read: AnswerReader, min_share: float) -> Grader:
    """Grades by agreement: the majority's canonical answer counts as right (arXiv 2504.16084).

    A group without a majority is unscored, which is not wrong.
    """

    def grade(task: Task, texts: Sequence[str]) -> list[Score | Failure]:
        answers = [read(task, text) for text in texts]
        undecided = Failure("grading", "the attempts agree on no answer")
        return [
            undecided if score is None else Score(score, score > 0, answer)
            for answer, score in zip(answers, vote_scores(answers, min_share), strict=True)
        ]

    return grade


async def sample_group(
    policy: Policy, task: Task, grader: Grader, sampling: Sampling
) -> RolloutGroup:
    """Draw and grade one group. Neighbouring rollouts with equal prompts share one request."""
    prompts = [policy.render(task, index) for index in range(sampling.n)]
    runs = [list(run) for _, run in groupby(range(sampling.n), key=lambda i: prompts[i])]
    sampling = replace(sampling, params=own_stream(sampling.params, task.task_id))
    replies = await asyncio.gather(
        *(policy.model.complete(_request(prompts[run[0]], run, sampling)) for run in runs)
    )
    outcomes = [outcome for reply in replies for outcome in reply]
    texts = [o.text for o in outcomes if isinstance(o, Completion)]
    scores = iter(await asyncio.to_thread(grader, task, texts))

    rollouts: list[Rollout] = []
    failures: list[FailedRollout] = []
    for index, outcome in enumerate(outcomes):
        key = (task.task_id, index, policy.policy_id)
        shown = prompts[index].shown
        score = next(scores) if isinstance(outcome, Completion) else outcome
        if isinstance(outcome, Completion) and isinstance(score, Score):
            rollouts.append(Rollout(*key, outcome, score, shown))
        elif isinstance(score, Failure):
            failures.append(FailedRollout(*key, score, shown))
    return RolloutGroup(task, tuple(rollouts), tuple(failures))


def own_stream(params: SamplingParams, *labels: object) -> SamplingParams:
    """The settings under a child seed.

    Samplers draw rollout i of equal seeds from equal random numbers. Under one seed for all tasks
    the replies to different tasks would vary together, and intervals over tasks would be too short.
    """
    if params.seed is None:
        return params
    return replace(params, seed=derive_seed(params.seed, *labels))


def _request(prompt: Prompt, run: Sequence[int], sampling: Sampling) -> ChatRequest:
    return ChatRequest(
        prompt.messages, sampling.params, len(run), run[0], sampling.phase, sampling.detail
    )


async def sample_groups(
    policy: Policy, tasks: Sequence[Task], grader: Grader, sampling: Sampling
) -> AsyncIterator[RolloutGroup]:
    """Groups in the order in which they complete; the caller restores an order where it matters."""
    pending = [
        asyncio.ensure_future(sample_group(policy, task, grader, sampling)) for task in tasks
    ]
    try:
        for done in asyncio.as_completed(pending):
            yield await done
    finally:
        for future in pending:
            future.cancel()
