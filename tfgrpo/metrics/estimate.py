"""Intervals and tests over problems, one value each: bootstrap, t, sign flips, Holm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfgrpo.metrics.bootstrap import TIE, bca_ends, bootstrap_means, check_level, chunks, finite
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Comparison, Estimate

EXACT_FLIPS = 20
_NORMAL = NormalDist()


def bootstrap_mean(
    values: ArrayLike,
    seed: int,
    level: float = 0.95,
    resamples: int = 10_000,
    ceiling: float | None = 1.0,
) -> Estimate:
    """Mean over problems with a BCa bootstrap interval; `values` has shape (P,).

    A bootstrap of constant data has no width. Where all problems lie at 0 or all at `ceiling`,
    the largest value that one problem can take, the interval is Clopper-Pearson's on P problems
    times `ceiling`, which bounds the mean because x <= ceiling * 1{x > 0}. `ceiling=None` says
    that the metric has no known maximum. Other constant data give zero width, method "constant".
    One problem that is not at a bound has no interval: NaN.

    Raises:
        ValueError: if values are empty or not finite, or level or resamples are out of range.
    """
    x = finite(values)
    check_level(level)
    if (agreed := without_spread(x, level, ceiling)) is not None:
        return agreed
    mean, scale = mean_of(x), float(np.abs(x).max())
    draws = bootstrap_means(x, seed, resamples)
    low, high = bca_ends(mean, draws, x - mean, scale, level)
    return Estimate(mean, low, high, x.size, "bca", level)


def without_spread(x: NDArray[np.float64], level: float, ceiling: float | None) -> Estimate | None:
    """What `bootstrap_mean` says of problems that all agree, shape (P,); None if they differ."""
    if ceiling is not None and np.all(x == 0.0):
        high = ceiling * _zero_successes_bound(x.size, level)
        return Estimate(0.0, 0.0, high, x.size, "clopper-pearson", level)
    if ceiling is not None and np.all(x == ceiling):
        low = ceiling * (1 - _zero_successes_bound(x.size, level))
        return Estimate(ceiling, low, ceiling, x.size, "clopper-pearson", level)
    if float(np.ptp(x)) <= TIE * float(np.abs(x).max()):
        mean, width = mean_of(x), 0.0 if x.size > 1 else math.nan
        return Estimate(mean, mean - width, mean + width, x.size, "constant", level)
    return None


def t_interval(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean +- t_{P-1} * s / sqrt(P), s the sample standard deviation. NaN ends for one value.

    Raises:
        ValueError: if values are empty or not finite, or level is not in (0, 1).
    """
    x = finite(values)
    check_level(level)
    mean = mean_of(x)
    if x.size == 1:
        return Estimate(mean, math.nan, math.nan, 1, "t", level)
    from scipy.special import stdtrit

    quantile = float(stdtrit(x.size - 1, (1 + level) / 2))
    half = quantile * float(x.std(ddof=1)) / math.sqrt(x.size)
    return Estimate(mean, mean - half, mean + half, x.size, "t", level)


def seed_summary(values: Sequence[float]) -> Estimate:
    """t interval over training seeds, df = S - 1; a bootstrap of 3 seeds has only 10 multisets.

    `n` of the result counts seeds. Raises ValueError if values are empty or not finite.
    """
    return replace(t_interval(values), method="t over seeds")


def sign_flip_p(differences: ArrayLike, seed: int, draws: int = 10_000) -> float:
    """Two-sided p of mean difference 0 by flipping the signs of paired differences, shape (P,).

    p = share of sign patterns s with |sum s_i d_i| >= |sum d_i|, exact up to 20 nonzero
    differences (zeros change no sum), else (b + 1) / (draws + 1) over random patterns, which is
    valid at every size (Phipson and Smyth 2010). Assumes differences symmetric under the null.

    Raises:
        ValueError: if differences are empty or not finite, or draws < 1.
    """
    d = finite(differences)
    if draws < 1:
        raise ValueError(f"A sign-flip test needs at least 1 draw, not {draws}; use 10000.")
    d = d[d != 0.0]
    threshold = abs(d.sum()) - TIE * np.abs(d).sum()
    if d.size <= EXACT_FLIPS:
        sums = np.zeros(1)
        for value in d:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= threshold))
    rng = np.random.default_rng(seed)
    beyond = 0
    for rows in chunks(draws, d.size):
        positive = rng.integers(2, size=(rows, d.size), dtype=np.int8).astype(np.float64)
        beyond += int(np.sum(np.abs(2.0 * (positive @ d) - d.sum()) >= threshold))
    return (beyond + 1) / (draws + 1)


def paired_difference(
    name: str, a: Mapping[str, float], b: Mapping[str, float], seed: int
) -> Comparison:
    """Mean of b - a over the problems that both have, with paired BCa interval and sign-flip p.

    Equal arms give [0, 0] and p = 1; swapping the arms negates difference and interval. One
    shared problem has no interval: NaN.

    Raises:
        ValueError: if no problem is shared or a value is not finite.
    """
    shared = sorted(a.keys() & b.keys())
    if not shared:
        raise ValueError(f"The arms share no problem for {name}; evaluate both on one task set.")
    x = finite([a[i] for i in shared])
    y = finite([b[i] for i in shared])
    d = y - x
    interval = bootstrap_mean(d, derive_seed(seed, "bootstrap"), ceiling=None)
    p = sign_flip_p(d, derive_seed(seed, "sign-flip"))
    difference = replace(interval, method=f"paired {interval.method}")
    return Comparison(name, mean_of(x), mean_of(y), difference, p)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjusted p-values in the given order (Holm 1979).

    adj_(i) = max_{j <= i} min(1, (m - j + 1) p_(j)) over p sorted ascending.

    Raises:
        ValueError: if a p-value is outside [0, 1].
    """
    if not all(0.0 <= p <= 1.0 for p in p_values):
        raise ValueError("Holm's method needs p-values in [0, 1]; leave out undefined tests.")
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return tuple(adjusted)


def minimum_detectable(differences: ArrayLike, power: float = 0.8, level: float = 0.95) -> float:
    """Smallest true mean difference found with `power`: (z_{(1+level)/2} + z_power) s / sqrt(P).

    About 2.8 s / sqrt(P) by default. Printed beside a comparison so that "inconclusive" is not
    read as "equal". Normal approximation; s is the sample standard deviation of the differences.

    Raises:
        ValueError: for fewer than 2 differences, or if power or level is not in (0, 1).
    """
    d = finite(differences)
    check_level(level)
    check_level(power)
    if d.size < 2:
        raise ValueError("The spread of 1 difference is undefined; compare at least 2 problems.")
    quantiles = _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power)
    return quantiles * float(d.std(ddof=1)) / math.sqrt(d.size)


def mean_of(x: NDArray[np.float64]) -> float:
    return math.fsum(x) / x.size  # exactly rounded, so the order of problems cannot matter


def _zero_successes_bound(trials: int, level: float) -> float:
    """Clopper-Pearson upper end for 0 of `trials`: 1 - ((1 - level) / 2)^(1 / trials)."""
    return 1.0 - math.pow((1.0 - level) / 2, 1.0 / trials)
