"""Resampling of problems, one column or many at once.

The unit is the problem, never the sample: resampling samples inside a problem with replacement
would turn the unbiased pass@k into the biased plug-in 1 - (1 - c/n)^k.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHUNK_CELLS = 1_000_000  # of 8 bytes; a few arrays of this size are alive at once
TIE = 1e-12  # relative: equal means summed in another order differ by rounding
_NORMAL = NormalDist()


def bootstrap_means(values: ArrayLike, seed: int, resamples: int) -> NDArray[np.float64]:
    """Means of `resamples` draws of P problems with replacement, shape (B,).

    Raises:
        ValueError: if values are empty or not finite, or resamples < 1.
    """
    x = finite(values)
    check_resamples(resamples)
    rng = np.random.default_rng(seed)
    blocks = (rng.integers(x.size, size=(rows, x.size)) for rows in chunks(resamples, x.size))
    return np.concatenate([x[drawn].mean(axis=1) for drawn in blocks])


def resampled_sums(columns: ArrayLike, seed: int, resamples: int) -> NDArray[np.float64]:
    """Sums over P rows drawn with replacement, shape (B, M), for columns of shape (P, M).

    How often each row was drawn, a (B, P) matrix of multinomial counts, times the columns: every
    column sees the same draws, so that differences of columns are paired, and one product serves
    all arms, metrics and k. The draws are those of `bootstrap_means` at the same seed.

    Raises:
        ValueError: if columns are not a finite matrix with rows, or resamples < 1.
    """
    x = np.asarray(columns, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] == 0 or not np.isfinite(x).all():
        raise ValueError("A bootstrap needs a finite row of values per problem; drop the rest.")
    check_resamples(resamples)
    rng = np.random.default_rng(seed)
    size = x.shape[0]
    sums = np.empty((resamples, x.shape[1]))
    start = 0
    for rows in chunks(resamples, size):
        drawn = rng.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
        sums[start : start + rows] = counts.astype(np.float64) @ x
        start += rows
    return sums


def bca_ends(
    value: float,
    draws: NDArray[np.float64],
    influence: NDArray[np.float64],
    scale: float,
    level: float,
) -> tuple[float, float]:
    """Bias-corrected accelerated ends for a statistic and its bootstrap draws (Efron 1987).

    With z0 = Phi^-1(share of draws below the value, ties half) and acceleration
    a = sum u^3 / (6 (sum u^2)^{3/2}) from the influence u of each unit on the statistic, for a
    mean x - mean, the ends are the quantiles of the draws at
    Phi(z0 + (z0 + z) / (1 - a (z0 + z))), z = Phi^-1((1 -+ level) / 2). `scale` is the largest
    magnitude among the units, to which ties are relative; `influence` must not be all zero.
    """
    tie = TIE * scale
    below = float(np.mean(draws < value - tie) + np.mean(draws <= value + tie)) / 2
    margin = 0.5 / draws.size
    z0 = _NORMAL.inv_cdf(min(max(below, margin), 1 - margin))
    u = influence / scale
    acceleration = float((u**3).sum() / (6 * (u**2).sum() ** 1.5))
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = z0 + _NORMAL.inv_cdf(tail)
        denominator = max(1 - acceleration * shifted, 1e-9)
        ends.append(_NORMAL.cdf(z0 + shifted / denominator))
    low, high = np.quantile(draws, ends)
    return float(low), float(high)


def chunks(rows: int, width: int) -> Iterator[int]:
    """Split `rows` so that a block of rows x width stays within CHUNK_CELLS cells."""
    size = max(1, CHUNK_CELLS // width)
    for start in range(0, rows, size):
        yield min(size, rows - start)


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """Values as an array of shape (P,); ValueError if there is none or one is not finite."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError("An estimate needs at least one finite value per problem; drop the rest.")
    return x


def check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"A level or power must lie between 0 and 1, not {level}; use 0.95.")


def check_resamples(resamples: int) -> None:
    if resamples < 1:
        raise ValueError(f"A bootstrap needs at least 1 resample, not {resamples}; use 10000.")
