"""Training seeds as a level of their own, crossed with problems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfgrpo.metrics.bootstrap import check_level
from tfgrpo.metrics.columns import bootstrap_columns, sign_flip_columns
from tfgrpo.metrics.estimate import paired_difference, seed_summary
from tfgrpo.metrics.proportion import clopper_pearson
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Comparison, Estimate

MIN_SEEDS = 3
FEW = 5
"""Differing problems up to which a bootstrap of their differences is not trusted."""


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


def seeded_columns(
    names: Sequence[str],
    pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    seed: int,
    resamples: int = 10_000,
    ceilings: Sequence[float | None] | None = None,
) -> tuple[dict[str, SeededDifference], ...]:
    """`seeded_difference` of many metrics and pairs of arms, from shared draws of the problems.

    Each pair (a, b) holds tables of shape (S, P, M): seeds, problems in the same order, metrics
    named by `names`. An arm without training, S = 1, is compared with every seed of the other.

    `ceilings` are the largest values of one problem, None where unknown (and by default). Where
    `FEW` problems or fewer differ between two arms, a bootstrap is too narrow, or has no width at
    all; the mean is then bounded by Clopper-Pearson's bounds on the shares of problems that go up
    and down, each times its ceiling.

    Raises:
        ValueError: if the shapes do not fit or a value is not finite.
    """
    if not all(_fit(a, b, len(names)) for a, b in pairs):
        raise ValueError("The arms' tables do not fit; tabulate both for the same problems.")
    each = [b - a for a, b in pairs]
    means = np.concatenate([d.mean(axis=0) for d in each], axis=1)
    intervals = bootstrap_columns(
        means, derive_seed(seed, "bootstrap"), resamples=resamples,
        ceilings=[None] * means.shape[1],
    )  # fmt: skip
    p_values = sign_flip_columns(means, derive_seed(seed, "sign-flip"), resamples)
    found: list[dict[str, SeededDifference]] = []
    for i, (a, b) in enumerate(pairs):
        row = {}
        for m, name in enumerate(names):
            drawn, p = intervals[i * len(names) + m], p_values[i * len(names) + m]
            if ceilings is not None:
                drawn = _widened(drawn, means[:, i * len(names) + m], ceilings[m])
            row[name] = _seeded(name, a[:, :, m], b[:, :, m], drawn, p)
        found.append(row)
    return tuple(found)


def _seeded(
    name: str, a: NDArray[np.float64], b: NDArray[np.float64], drawn: Estimate, p: float
) -> SeededDifference:
    each = b - a
    by_seed = tuple(each.mean(axis=1).tolist())
    interval = replace(drawn, method=f"paired {drawn.method}")
    return SeededDifference(
        name=name,
        by_seed=by_seed,
        problems=Comparison(name, float(a.mean()), float(b.mean()), interval, p),
        seeds=seed_summary(by_seed),
        crossed=crossed_mean(each),
    )


def _widened(drawn: Estimate, mean: NDArray[np.float64], ceiling: float | None) -> Estimate:
    """`mean` (P,) are the problems' differences. mean(d) <= ceiling * share(d > 0), and so on."""
    up, down = int(np.sum(mean > 0)), int(np.sum(mean < 0))
    if ceiling is None or up + down > FEW:
        return drawn
    high, low = (clopper_pearson(m, mean.size, drawn.level).high for m in (up, down))
    return replace(drawn, low=-ceiling * low, high=ceiling * high, method="clopper-pearson")


def _fit(a: NDArray[np.float64], b: NDArray[np.float64], metrics: int) -> bool:
    paired = a.shape[0] == b.shape[0] or 1 in (a.shape[0], b.shape[0])
    return paired and a.shape[1:] == b.shape[1:] and a.shape[2] == metrics


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
