"""Claims on strategies: one format takes over in RL, fine-tuning on diverse replies keeps many."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from baselines.claims.coverage import accuracy
from baselines.claims.finding import Finding, Runs, difference, of_difference, points
from baselines.claims.registry import claim
from tfgrpo.metrics.diversity import UNREAD, mode_histogram, rarefied_entropy
from tfgrpo.metrics.pass_at_k import pass_at_k
from tfgrpo.types import TaskOutcome

LEAST = 2
"""Replies that a problem needs before their strategies can differ."""


def format_collapse(base: Runs, tuned: Runs) -> Finding:
    """One format takes over during RL (arXiv 2504.07912).

    A problem's entropy of strategies over all replies, tuned minus base, both rarefied to the
    smaller number of replies; paired. Raises ValueError where no reply names a strategy.
    """
    found = difference("modes", base, tuned, _entropy_in(_equal_sizes(base, tuned, False), False))
    shares = [fmean(map(_largest, arm)) for arm in (base, tuned)]
    detail = (
        f"Nats per problem {found.problems.a:.3f} to {found.problems.b:.3f}; the most frequent "
        f"strategy of a data set has {points(shares[0])}% of the base's replies and "
        f"{points(shares[1])}% of GRPO's."
    )
    return of_difference(claim("format-collapse").rule, found, detail, _reach(base, tuned))


def diverse_sft(base: Runs, tuned: Runs) -> Finding:
    """Fine-tuning on diverse right replies keeps breadth (arXiv 2408.16673, 2502.07154).

    A problem's entropy of strategies among right replies, fine-tuned minus base, both rarefied to
    the smaller number of right replies; problems with fewer than two in some arm have none.
    Raises ValueError where no reply names a strategy.
    """
    sizes = _equal_sizes(base, tuned, True)
    if max(sizes.values()) < LEAST:
        raise ValueError("No problem has two right replies in every arm; draw more samples.")
    found = difference("modes", base, tuned, _entropy_in(sizes, True))
    last = min(o.n for run in (*base, *tuned) for o in run)
    at_1 = difference("pass@1", base, tuned, accuracy).problems
    at_k = difference(f"pass@{last}", base, tuned, lambda o: pass_at_k(o.n, o.c, last)).problems
    detail = (
        f"Nats {found.problems.a:.3f} to {found.problems.b:.3f} on {found.problems.difference.n} "
        f"problems; pass@1 {points(at_1.a)} to {points(at_1.b)}, pass@{last} {points(at_k.a)} to "
        f"{points(at_k.b)}."
    )
    return of_difference(claim("diverse-sft").rule, found, detail, _reach(base, tuned))


def _reach(base: Runs, tuned: Runs) -> float:
    """The largest entropy that the strategies seen can have."""
    return math.log(len({m for run in (*base, *tuned) for o in run for m in _modes(o, False)}))


def _modes(outcome: TaskOutcome, only_right: bool) -> Counter[str]:
    pairs = zip(outcome.modes, outcome.correct, strict=True)
    return Counter(mode or UNREAD for mode, right in pairs if right or not only_right)


def _equal_sizes(base: Runs, tuned: Runs, only_right: bool) -> dict[str, int]:
    """How many replies every run has of a problem; raises where there are no strategies at all."""
    runs = (*base, *tuned)
    if not any(mode is not None for run in runs for o in run for mode in o.modes):
        raise ValueError("No reply names a strategy; use generated task families, whose do.")
    sizes: dict[str, list[int]] = {}
    for run in runs:
        for o in run:
            sizes.setdefault(o.task_id, []).append(_modes(o, only_right).total())
    return {name: min(found) for name, found in sizes.items()}


def _entropy_in(sizes: dict[str, int], only_right: bool) -> Callable[[TaskOutcome], float | None]:
    """Nats of a problem's strategies among as many replies as `sizes` says; None below `LEAST`."""

    def of(outcome: TaskOutcome) -> float | None:
        size = sizes[outcome.task_id]
        if size < LEAST:
            return None
        return rarefied_entropy(_modes(outcome, only_right).values(), size)

    return of


def _largest(outcomes: Sequence[TaskOutcome]) -> float:
    """The largest share of a strategy, averaged over data sets."""
    return fmean(max(shares.values()) for shares in mode_histogram(outcomes).values())
