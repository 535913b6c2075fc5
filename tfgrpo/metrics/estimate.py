"""Intervals and tests over problems: bootstrap, t, sign flips, Holm.

The unit is the problem, never the sample: resampling samples inside a problem with replacement
would turn the unbiased pass@k into the biased plug-in 1 - (1 - c/n)^k.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfgrpo.seeding import derive_seed
from tfgrpo.types import Comparison, Estimate

CHUNK_CELLS = 1_000_000  # of 8 bytes; a few arrays of this size are alive at once
EXACT_FLIPS = 20
_TIE = 1e-12  # relative: equal means summed in another order differ by rounding
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
    x = _finite(values)
    _check_level(level)
    if ceiling is not None and np.all(x == 0.0):
        high = ceiling * _zero_successes_bound(x.size, level)
        return Estimate(0.0, 0.0, high, x.size, "clopper-pearson", level)
    if ceiling is not None and np.all(x == ceiling):
        low = ceiling * (1 - _zero_successes_bound(x.size, level))
        return Estimate(ceiling, low, ceiling, x.size, "clopper-pearson", level)
    return _bca(x, seed, level, resamples)


def bootstrap_means(values: ArrayLike, seed: int, resamples: int) -> NDArray[np.float64]:
    """Means of `resamples` draws of P problems with replacement, shape (B,).

    Raises:
        ValueError: if values are empty or not finite, or resamples < 1.
    """
    x = _finite(values)
    if resamples < 1:
        raise ValueError(f"A bootstrap needs at least 1 resample, not {resamples}; use 10000.")
    rng = np.random.default_rng(seed)
    blocks = (rng.integers(x.size, size=(rows, x.size)) for rows in _chunks(resamples, x.size))
    return np.concatenate([x[drawn].mean(axis=1) for drawn in blocks])


def t_interval(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean +- t_{P-1} * s / sqrt(P), s the sample standard deviation. NaN ends for one value.

    Raises:
        ValueError: if values are empty or not finite, or level is not in (0, 1).
    """
    x = _finite(values)
    _check_level(level)
    mean = _mean(x)
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
    d = _finite(differences)
    if draws < 1:
        raise ValueError(f"A sign-flip test needs at least 1 draw, not {draws}; use 10000.")
    d = d[d != 0.0]
    threshold = abs(d.sum()) - _TIE * np.abs(d).sum()
    if d.size <= EXACT_FLIPS:
        sums = np.zeros(1)
        for value in d:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= threshold))
    rng = np.random.default_rng(seed)
    beyond = 0
    for rows in _chunks(draws, d.size):
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
    x = _finite([a[i] for i in shared])
    y = _finite([b[i] for i in shared])
    d = y - x
    interval = bootstrap_mean(d, derive_seed(seed, "bootstrap"), ceiling=None)
    p = sign_flip_p(d, derive_seed(seed, "sign-flip"))
    difference = replace(interval, method=f"paired {interval.method}")
    return Comparison(name, _mean(x), _mean(y), difference, p)


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
    d = _finite(differences)
    _check_level(level)
    _check_level(power)
    if d.size < 2:
        raise ValueError("The spread of 1 difference is undefined; compare at least 2 problems.")
    quantiles = _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power)
    return quantiles * float(d.std(ddof=1)) / math.sqrt(d.size)


def _bca(x: NDArray[np.float64], seed: int, level: float, resamples: int) -> Estimate:
    """Bias-corrected accelerated interval of the mean (Efron 1987).

    With z0 = Phi^-1(share of bootstrap means below the mean, ties half) and jackknife
    acceleration a = sum d^3 / (6 (sum d^2)^{3/2}), d = x - mean, the ends are the bootstrap
    quantiles at Phi(z0 + (z0 + z) / (1 - a (z0 + z))), z = Phi^-1((1 -+ level) / 2).
    """
    mean = _mean(x)
    scale = float(np.abs(x).max())
    if float(np.ptp(x)) <= _TIE * scale:
        width = 0.0 if x.size > 1 else math.nan
        return Estimate(mean, mean - width, mean + width, x.size, "constant", level)
    means = bootstrap_means(x, seed, resamples)
    tie = _TIE * scale
    below = float(np.mean(means < mean - tie) + np.mean(means <= mean + tie)) / 2
    margin = 0.5 / resamples
    z0 = _NORMAL.inv_cdf(min(max(below, margin), 1 - margin))
    d = (x - mean) / scale
    acceleration = float((d**3).sum() / (6 * (d**2).sum() ** 1.5))
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = z0 + _NORMAL.inv_cdf(tail)
        denominator = max(1 - acceleration * shifted, 1e-9)
        ends.append(_NORMAL.cdf(z0 + shifted / denominator))
    low, high = np.quantile(means, ends)
    return Estimate(mean, float(low), float(high), x.size, "bca", level)


def _mean(x: NDArray[np.float64]) -> float:
    return math.fsum(x) / x.size  # exactly rounded, so the order of problems cannot matter


def _zero_successes_bound(trials: int, level: float) -> float:
    """Clopper-Pearson upper end for 0 of `trials`: 1 - ((1 - level) / 2)^(1 / trials)."""
    return 1.0 - math.pow((1.0 - level) / 2, 1.0 / trials)


def _chunks(rows: int, width: int) -> Iterator[int]:
    """Split `rows` so that a block of rows x width stays within CHUNK_CELLS cells."""
    size = max(1, CHUNK_CELLS // width)
    for start in range(0, rows, size):
        yield min(size, rows - start)


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError("An estimate needs at least one finite value per problem; drop the rest.")
    return x


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"A level or power must lie between 0 and 1, not {level}; use 0.95.")
