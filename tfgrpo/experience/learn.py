"""Training-Free GRPO: sample groups, compare them in words, edit the library, repeat.

    sample G rollouts under the library -> grade -> keep groups with a spread of rewards
    -> summarise -> compare (semantic advantage) -> consolidate -> apply -> next batch

Departures from the reference (arXiv 2510.08191), each for a reason given in docs/method.md: the
library stands before the question; ids are stable; groups are informative when their rewards
spread, not when 0 < mean < 1; a partial last batch is used; the order of problems depends on
(seed, epoch) alone.

The loop does no IO and holds no global state; `tfgrpo.runs` writes what it yields.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from tfgrpo.advantage import group_kind
from tfgrpo.experience.casebook import Casebook, Practice, StepMemory, harvest
from tfgrpo.experience.consolidate import Candidate, Consolidation, consolidate
from tfgrpo.experience.context_policy import ContextPolicy
from tfgrpo.experience.edits import Keep
from tfgrpo.experience.guard import leaks
from tfgrpo.experience.library import Applied, EditContext, ExperienceLibrary, Source
from tfgrpo.experience.reflect import Advantage, Reflector, compare
from tfgrpo.prompts import PromptPack
from tfgrpo.protocols import ChatModel
from tfgrpo.rollout import Grader, Sampling, own_stream, sample_group
from tfgrpo.seeding import derive_rng
from tfgrpo.types import EMPTY, RolloutGroup, StepRecord, Task


@dataclass(frozen=True, slots=True)
class Learner:
    """Who plays which part, and the settings of the loop. The three models may be one."""

    model: ChatModel
    pack: PromptPack
    reflector: Reflector
    editor: Reflector
    grader: Grader
    sampling: Sampling
    epochs: int
    batch_size: int
    seed: int
    dropout: float = 0.0
    practice: Practice | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Everything that one step saw and did, in task order."""

    record: StepRecord
    policy_id: str
    groups: tuple[RolloutGroup, ...]
    advantages: tuple[Advantage, ...]
    consolidation: Consolidation
    applied: Applied
    memory: StepMemory | None = None

    @property
    def library(self) -> ExperienceLibrary:
        return self.applied.library


OnGroup = Callable[[RolloutGroup, str], None]


def batches(tasks: Sequence[Task], learner: Learner) -> list[tuple[int, tuple[Task, ...]]]:
    """(epoch, batch) in order. The shuffle is a function of (seed, epoch); no tail is dropped."""
    out = []
    for epoch in range(learner.epochs):
        order = list(tasks)
        derive_rng(learner.seed, "epoch", epoch).shuffle(order)
        for start in range(0, len(order), learner.batch_size):
            out.append((epoch, tuple(order[start : start + learner.batch_size])))
    return out


async def learn(
    learner: Learner,
    tasks: Sequence[Task],
    library: ExperienceLibrary,
    on_group: OnGroup = lambda group, kind: None,
    first: int = 0,
) -> AsyncIterator[Step]:
    """Yield one `Step` after another, each with the library that the next one starts from.

    To go on with a run, give the library that it left and the number of its `first` open step.
    """
    for number, (epoch, batch) in enumerate(batches(tasks, learner)):
        if number < first:
            continue
        step = await _step(learner, batch, library, (number, epoch), on_group)
        library = step.library
        yield step


async def _step(
    learner: Learner,
    batch: Sequence[Task],
    library: ExperienceLibrary,
    position: tuple[int, int],
    on_group: OnGroup,
) -> Step:
    number, epoch = position
    # Without the step in the seed, a later epoch under an unchanged library would see its first
    # replies again.
    sampling = replace(learner.sampling, params=own_stream(learner.sampling.params, number))
    editor = replace(learner.editor, params=own_stream(learner.editor.params, number))
    casebook = learner.practice.open() if learner.practice else None
    policy = ContextPolicy(
        learner.model, learner.pack, library, learner.dropout, learner.seed, casebook
    )

    async def one(task: Task) -> tuple[RolloutGroup, Advantage | None]:
        group = await sample_group(policy, task, learner.grader, sampling)
        kind = group_kind(group.rewards)
        on_group(group, kind)
        if kind != "mixed":
            return group, None
        own = own_stream(learner.reflector.params, number, task.task_id)
        return group, await compare(group, library, replace(learner.reflector, params=own))

    results = await asyncio.gather(*(one(task) for task in batch))
    groups = tuple(group for group, _ in results)
    advantages = tuple(a for _, a in results if a is not None)
    candidates = _candidates(groups, advantages)
    consolidation = await consolidate(library, candidates, editor)
    context = _context(number, learner, groups, advantages)
    applied = library.apply(consolidation.edits, context)
    record = StepRecord(
        step=number,
        epoch=epoch,
        policy_id=policy.policy_id,
        reward_mean=_mean_reward(groups),
        groups=dict(sorted(Counter(group_kind(g.rewards) for g in groups).items())),
        failures=sum(len(g.failures) for g in groups),
        usage=EMPTY,
        metrics=_metrics(candidates, consolidation, applied),
    )
    return Step(
        record, policy.policy_id, groups, advantages, consolidation, applied,
        _memory(learner, number, casebook, groups, advantages, applied.library),
    )  # fmt: skip


def _memory(
    learner: Learner,
    number: int,
    casebook: Casebook | None,
    groups: Sequence[RolloutGroup],
    advantages: Sequence[Advantage],
    library: ExperienceLibrary,
) -> StepMemory | None:
    if learner.practice is None:
        return None
    summaries = {a.task_id: a.summaries for a in advantages}
    position, model = (learner.practice, number), learner.model.model_id
    return harvest(casebook, position, groups, summaries, library.active, model)


def _candidates(groups: Sequence[RolloutGroup], advantages: Sequence[Advantage]) -> list[Candidate]:
    dataset = {g.task.task_id: g.task.dataset for g in groups}
    proposals = [
        (edit, a.task_id)
        for a in advantages
        for edit in a.edits
        if not (isinstance(edit, Keep) and not edit.target)
    ]
    return [
        Candidate(f"C{i}", edit, task_id, dataset[task_id])
        for i, (edit, task_id) in enumerate(proposals, 1)
    ]


def _context(
    number: int,
    learner: Learner,
    groups: Sequence[RolloutGroup],
    advantages: Sequence[Advantage],
) -> EditContext:
    tasks: Mapping[str, Task] = {g.task.task_id: g.task for g in groups}
    sources = {
        a.task_id: (Source(a.task_id, number, tuple(str(s.index) for s in a.summaries), 1),)
        for a in advantages
    }

    def leak(text: str, evidence: tuple[str, ...]) -> str | None:
        return leaks(text, [tasks[e] for e in evidence if e in tasks])

    return EditContext(number, learner.editor.model.model_id, learner.pack.version, sources, leak)


def _mean_reward(groups: Sequence[RolloutGroup]) -> float:
    rewards = [r for g in groups for r in g.rewards]
    return fmean(rewards) if rewards else 0.0


def _metrics(
    candidates: Sequence[Candidate], consolidation: Consolidation, applied: Applied
) -> dict[str, float]:
    codes = Counter(outcome.code for outcome in applied.outcomes)
    return {
        "candidates": len(candidates),
        "degraded": consolidation.degraded,
        "entries": len(applied.library.active),
        "library_tokens": applied.library.tokens,
        **{f"edits.{code}": count for code, count in sorted(codes.items())},
    }
