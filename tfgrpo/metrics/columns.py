"""Many means over the same problems at once: curves over k, several arms, several metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfgrpo.metrics.bootstrap import TIE, bca_ends, check_level, chunks, resampled_sums
from tfgrpo.metrics.estimate import EXACT_FLIPS, mean_of, sign_flip_p, without_spread
from tfgrpo.types import Estimate


def bootstrap_columns(
    columns: ArrayLike,
    seed: int,
    level: float = 0.95,
    resamples: int = 10_000,
    ceilings: Sequence[float | None] | None = None,
) -> tuple[Estimate, ...]:
    """`bootstrap_mean` of each column of a (P, M) matrix, from shared draws of the P problems.

    Pointwise intervals: each holds at `level` by itself. `ceilings`, one for each column, are
    `bootstrap_mean`'s `ceiling`; all are 1 by default.

    Raises:
        ValueError: as `bootstrap_mean`, or if there is not one ceiling for each column.
    """
    check_level(level)
    x, draws = _drawn(columns, seed, resamples)
    return _intervals(x, draws, level, ceilings)


def simultaneous_band(
    columns: ArrayLike,
    seed: int,
    level: float = 0.95,
    resamples: int = 10_000,
    ceilings: Sequence[float | None] | None = None,
) -> tuple[Estimate, ...]:
    """A band that holds all true column means of a (P, M) matrix at once with `level`.

    The pointwise intervals of `bootstrap_columns` at the higher level at which a share `level` of
    the draws lies between the quantiles of every column (Montiel Olea and Plagborg-Moller 2019),
    so that the band keeps their skewness. Correlated columns cost little.

    Raises:
        ValueError: as `bootstrap_columns`.
    """
    check_level(level)
    x, draws = _drawn(columns, seed, resamples)
    tails = np.min([_two_sided(column) for column in draws.T], axis=0)
    pointwise = max(level, 1 - float(np.quantile(tails, 1 - level)))
    return tuple(
        replace(e, method=f"simultaneous {e.method}", level=level)
        for e in _intervals(x, draws, min(pointwise, 1 - 1 / resamples), ceilings)
    )


def sign_flip_columns(columns: ArrayLike, seed: int, draws: int = 10_000) -> tuple[float, ...]:
    """`sign_flip_p` of each column of paired differences, shape (P, M), from shared flips.

    Columns with few nonzero differences are enumerated exactly, as there.

    Raises:
        ValueError: if columns are not a finite matrix with rows, or draws < 1.
    """
    x = np.asarray(columns, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] == 0 or not np.isfinite(x).all() or draws < 1:
        raise ValueError("Sign flips need a finite row of differences per problem and a draw.")
    few = np.count_nonzero(x, axis=0) <= EXACT_FLIPS
    totals = x.sum(axis=0)
    thresholds = np.abs(totals) - TIE * np.abs(x).sum(axis=0)
    beyond = np.zeros(x.shape[1], dtype=np.int64)
    rng = np.random.default_rng(seed)
    for rows in chunks(draws, x.shape[0]):
        positive = rng.integers(2, size=(rows, x.shape[0]), dtype=np.int8).astype(np.float64)
        beyond += np.sum(np.abs(2.0 * (positive @ x) - totals) >= thresholds, axis=0)
    return tuple(
        sign_flip_p(column, seed) if exact else float((b + 1) / (draws + 1))
        for column, exact, b in zip(x.T, few, beyond, strict=True)
    )


def _drawn(
    columns: ArrayLike, seed: int, resamples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = np.asarray(columns, dtype=np.float64)
    sums = resampled_sums(x, seed, resamples)
    return x, sums / x.shape[0]


def _intervals(
    x: NDArray[np.float64],
    draws: NDArray[np.float64],
    level: float,
    ceilings: Sequence[float | None] | None,
) -> tuple[Estimate, ...]:
    tops = [1.0] * x.shape[1] if ceilings is None else ceilings
    pairs = zip(x.T, draws.T, tops, strict=True)
    return tuple(_column(column, drawn, level, top) for column, drawn, top in pairs)


def _two_sided(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the share of draws at least as far out on the same side, shape (B,)."""
    ordered = np.sort(draws)
    below = np.searchsorted(ordered, draws, side="right")
    above = draws.size - np.searchsorted(ordered, draws, side="left")
    return np.asarray(2 * np.minimum(below, above) / draws.size, dtype=np.float64)


def _column(
    x: NDArray[np.float64], draws: NDArray[np.float64], level: float, ceiling: float | None
) -> Estimate:
    if (agreed := without_spread(x, level, ceiling)) is not None:
        return agreed
    mean = mean_of(x)
    low, high = bca_ends(mean, draws, x - mean, float(np.abs(x).max()), level)
    return Estimate(mean, low, high, x.size, "bca", level)
