"""Training seeds as a level of their own, crossed with problems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from tfgrpo.metrics.bootstrap import check_level
from tfgrpo.metrics.estimate import paired_difference, seed_summary
from tfgrpo.types import Comparison, Estimate

MIN_SEEDS = 3


@dataclass(frozen=True, slots=True)
class SeededDifference:
    """A paired difference b - a over problems and training seeds.

    `by_seed` holds each seed's mean difference. `problems` compares the seed-averaged values per
    problem, `seeds` is the t interval over `by_seed`, `crossed` lets both levels vary.
    """

    name: str
    by_seed: tuple[float, ...]
    problems: Comparison
    seeds: Estimate
    crossed: Estimate

    @property
    def agreeing(self) -> int:
        """How many seeds differ in the direction of the mean."""
        mean = self.problems.difference.value
        return sum(d * mean > 0 for d in self.by_seed)

    @property
    def support(self) -> str:
        """What may be said of the seeds: "seed interval", a count such as "2/3 seeds"."""
        if len(self.by_seed) >= MIN_SEEDS and excludes_zero(self.seeds):
            return "seed interval"
        return f"{self.agreeing}/{len(self.by_seed)} seeds"

    @property
    def holds(self) -> bool:
        """Whether a difference may be claimed.

        The interval over problems excludes 0, and there are `MIN_SEEDS` seeds or more of which
        either the interval excludes 0 or all agree in sign; the latter is "3/3 seeds", never
        "significant".
        """
        seeds = len(self.by_seed)
        enough = seeds >= MIN_SEEDS and excludes_zero(self.problems.difference)
        return enough and (excludes_zero(self.seeds) or self.agreeing == seeds)


def seeded_difference(
    name: str,
    a: Sequence[Mapping[str, float]],
    b: Sequence[Mapping[str, float]],
    seed: int,
) -> SeededDifference:
    """Compare two arms, one mapping of problem to value for each training seed, paired by seed.

    An arm without training, one mapping, is compared with every seed of the other. Only problems
    that all seeds of both arms have count.

    Raises:
        ValueError: if an arm is empty, the numbers of seeds differ (neither being 1), no problem
            is shared, or a value is not finite.
    """
    seeds = max(len(a), len(b))
    if not a or not b or {len(a), len(b)} - {1, seeds}:
        raise ValueError(
            f"Arms with {len(a)} and {len(b)} seeds cannot be paired; run the same seeds in both."
        )
    arms = [list(x) * (seeds // len(x)) for x in (a, b)]
    shared = sorted(set.intersection(*(set(m) for arm in arms for m in arm)))
    if not shared:
        raise ValueError(f"The arms share no problem for {name}; evaluate both on one task set.")
    x, y = (np.array([[m[i] for i in shared] for m in arm], dtype=np.float64) for arm in arms)
    first, second = (dict(zip(shared, v.mean(axis=0).tolist(), strict=True)) for v in (x, y))
    by_seed = tuple(float(d) for d in (y - x).mean(axis=1))
    return SeededDifference(
        name=name,
        by_seed=by_seed,
        problems=paired_difference(name, first, second, seed),
        seeds=seed_summary(by_seed),
        crossed=crossed_mean(y - x),
    )


def crossed_mean(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean of an (S, P) table with a t interval that lets both seeds and problems vary.

    Two-way random effects with mean squares M_S, M_P and interaction M_SP: the variance of the
    mean is (M_S + M_P - M_SP) / SP, never below either term alone, which is what is left where
    the other level's variance is estimated as 0; df by Satterthwaite (1946). `n` counts problems.
    One seed or one problem has no interval: NaN.

    Raises:
        ValueError: if values are not a finite (S, P) table, or level is not in (0, 1).
    """
    x = np.asarray(values, dtype=np.float64)
    check_level(level)
    if x.ndim != 2 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError("Seeds need a finite value for each problem; drop incomplete problems.")
    seeds, problems = x.shape
    mean = float(x.mean())
    estimate = Estimate(mean, math.nan, math.nan, problems, "t over seeds x problems", level)
    if min(seeds, problems) < 2:
        return estimate
    rows, columns = x.mean(axis=1) - mean, x.mean(axis=0) - mean
    rest = x - mean - rows[:, None] - columns
    dfs = (seeds - 1, problems - 1, (seeds - 1) * (problems - 1))
    squares = (problems * (rows @ rows), seeds * (columns @ columns), float((rest**2).sum()))
    m_s, m_p, m_sp = (float(square) / df for square, df in zip(squares, dfs, strict=True))
    both = m_s + m_p - m_sp
    if both <= 0.0 or both < max(m_s, m_p):
        both, df = max((m_s, float(dfs[0])), (m_p, float(dfs[1])))
    else:
        parts = zip((m_s, m_p, m_sp), dfs, strict=True)
        df = both**2 / sum(m**2 / d for m, d in parts)
    from scipy.special import stdtrit

    half = float(stdtrit(df, (1 + level) / 2)) * math.sqrt(both / x.size)
    return replace(estimate, low=mean - half, high=mean + half)


def excludes_zero(interval: Estimate) -> bool:
    return interval.low > 0.0 or interval.high < 0.0
