"""Stored replies under another verifier: new verdicts beside what was measured while sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tfgrpo.protocols import Reward
from tfgrpo.types import Failure, Score, Task, TaskOutcome


@dataclass(frozen=True, slots=True)
class Flip:
    """A reply whose verdict changed; it was right before if `was_right`."""

    task: Task
    text: str
    was_right: bool
    answer_before: str | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class Regraded:
    """One problem's new outcome, and the indices in the old one of the samples that it has.

    `failures` tell why the others could not be graded now.
    """

    outcome: TaskOutcome
    kept: tuple[int, ...]
    failures: tuple[str, ...]
    flips: tuple[Flip, ...]


def regrade(task: Task, outcome: TaskOutcome, texts: Sequence[str], reward: Reward) -> Regraded:
    """Grade `texts`, one for each graded sample of `outcome`, in its order.

    Entropies and lengths stay with their samples; what failed while sampling stays failed.
    """
    scores = [reward.score(task, text) for text in texts]
    graded = [(i, score) for i, score in enumerate(scores) if isinstance(score, Score)]
    broken = [score for score in scores if isinstance(score, Failure)]
    kept = tuple(i for i, _ in graded)
    new = replace(
        outcome,
        correct=tuple(score.correct for _, score in graded),
        answers=tuple(score.answer for _, score in graded),
        modes=tuple(score.mode for _, score in graded),
        entropies=tuple(outcome.entropies[i] for i in kept),
        lengths=tuple(outcome.lengths[i] for i in kept),
        truncated=min(outcome.truncated, len(kept)),
        failures=outcome.failures + len(broken),
        entropy_bounds=tuple(outcome.entropy_bounds[i] for i in kept if outcome.entropy_bounds),
    )
    flips = tuple(
        Flip(task, texts[i], outcome.correct[i], outcome.answers[i], score.answer)
        for i, score in graded
        if score.correct != outcome.correct[i]
    )
    told = tuple(f"{failure.stage}: {failure.reason}" for failure in broken)
    return Regraded(new, kept, told, flips)
