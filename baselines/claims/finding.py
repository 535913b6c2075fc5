"""From a measured value, its interval and the seeds to a verdict by the declared rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from baselines.claims.registry import Rule
from tfgrpo.metrics.bootstrap import resampled_sums
from tfgrpo.metrics.seeds import MIN_SEEDS, SeededDifference, seeded_difference
from tfgrpo.seeding import derive_seed
from tfgrpo.types import TaskOutcome

Verdict = Literal["supported", "not supported", "inconclusive"]
Floats = NDArray[np.float64]
Runs = Sequence[Sequence[TaskOutcome]]
"""The outcomes of one arm: one evaluation for each training seed, or a single untrained one."""

SEED = 0
RESAMPLES = 10_000
UNDEFINED_ABOVE = 0.95
"""Share of draws that must be defined."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was measured, its 95% interval, and what may be said; `detail` is one sentence.

    A value or an end that does not exist is None.
    """

    value: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    detail: str


def verdict(rule: Rule, value: float, low: float, high: float, by_seed: Sequence[float]) -> Verdict:
    """The rule's word on an interval [low, high] round `value`; see `Rule`. NaN decides nothing."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "inconclusive"
    floor, ceiling = rule.low + rule.smallest, rule.high - rule.smallest
    if high < floor or low > ceiling:
        return "not supported"
    inside = low > rule.low and high < rule.high and floor <= value <= ceiling
    if inside and (len(by_seed) < MIN_SEEDS or all(rule.low < x < rule.high for x in by_seed)):
        return "supported"
    return "inconclusive"


def both(first: Verdict, second: Verdict) -> Verdict:
    """Of a claim that says two things: each must hold, and one that fails is enough."""
    for word in ("not supported", "inconclusive"):
        if word in (first, second):
            return word
    return "supported"


def judged(
    rule: Rule, value: float, low: float, high: float, by_seed: Sequence[float], detail: str
) -> Finding:
    """The finding; `by_seed` are the values of each training seed, told where there are several."""
    told = ", ".join(f"{x:.4g}" for x in by_seed)
    seeds = f" By seed: {told}." if len(by_seed) > 1 else ""
    return Finding(
        known(value),
        known(low),
        known(high),
        verdict(rule, value, low, high, by_seed),
        detail + seeds,
    )


def known(value: float) -> float | None:
    return value if math.isfinite(value) else None


# differences over problems ------------------------------------------------------------------------


def difference(
    name: str, a: Runs, b: Runs, of: Callable[[TaskOutcome], float | None]
) -> SeededDifference:
    """b - a of `of`, paired by problem and training seed.

    Problems without graded samples, and those where `of` is None, are left out. Raises ValueError
    as `seeded_difference` does.
    """

    def values(run: Sequence[TaskOutcome]) -> Mapping[str, float]:
        return {o.task_id: x for o in run if o.n and (x := of(o)) is not None}

    seed = derive_seed(SEED, name)
    return seeded_difference(name, [values(run) for run in a], [values(run) for run in b], seed)


def of_difference(rule: Rule, found: SeededDifference, detail: str, reach: float = 1.0) -> Finding:
    """The finding on seed-averaged differences, with their interval over problems.

    Where all problems differ alike a bootstrap has no width. Then up to 1 - 0.025^(1/P) of all
    problems may differ otherwise, by up to `reach`, without one of them among these P.
    """
    d = found.problems.difference
    unseen = reach * unseen_share(d.n) if d.low == d.high else 0.0
    return judged(rule, d.value, d.low - unseen, d.high + unseen, found.by_seed, detail)


def unseen_share(problems: int) -> float:
    """Largest share of a kind of problem that may exist when none of so many is of it, at 97.5%."""
    return float(1.0 - 0.025 ** (1.0 / problems))


# statistics of sums over clusters -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spread:
    """A statistic averaged over training seeds, with its percentile interval over clusters."""

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]


def cluster_sums(columns: Sequence[Floats], clusters: NDArray[np.int64]) -> Floats:
    """Sums of N values of each column by cluster, shape (C, M); clusters in ascending order."""
    _, index = np.unique(clusters, return_inverse=True)
    return np.stack([np.bincount(index, weights=x) for x in columns], axis=1)


def of_sums(sums: Sequence[Floats], statistic: Callable[[Floats], Floats], label: str) -> Spread:
    """`statistic` of column totals, (..., M) to (...), with whole clusters drawn again.

    `sums` holds each seed's (C, M), see `cluster_sums`; seeds are drawn independently of one
    another. Draws in which the statistic is undefined are left out, see `spread`.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        by_seed = [float(statistic(x.sum(axis=0))) for x in sums]
        draws = np.mean(
            [
                statistic(resampled_sums(x, derive_seed(SEED, label, i), RESAMPLES))
                for i, x in enumerate(sums)
            ],
            axis=0,
        )
    return spread(by_seed, draws)


def spread(by_seed: Sequence[float], draws: Floats) -> Spread:
    """Mean over seeds, and the middle 95% of `draws` of that mean.

    NaN where more than one draw in twenty is undefined: the others would be too good a sample.
    """
    kept = draws[np.isfinite(draws)]
    low = high = math.nan
    if kept.size > UNDEFINED_ABOVE * draws.size:
        low, high = np.percentile(kept, [2.5, 97.5])
    return Spread(float(np.mean(by_seed)), float(low), float(high), tuple(by_seed))


def of_spread(rule: Rule, found: Spread, detail: str) -> Finding:
    return judged(rule, found.value, found.low, found.high, found.by_seed, detail)


def points(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f}"
