"""Problems that are not independent: clusters from one source, and datasets of unequal size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfgrpo.metrics.bootstrap import (
    TIE,
    bca_ends,
    bootstrap_means,
    check_level,
    finite,
    resampled_sums,
)
from tfgrpo.metrics.estimate import mean_of
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Estimate


def clustered_t(values: ArrayLike, clusters: Sequence[str], level: float = 0.95) -> Estimate:
    """Mean over P problems with a cluster-robust t interval; `n` counts the C clusters.

    se^2 = C / (C-1) sum_c (sum_{i in c} (x_i - mean))^2 / P^2, df = C - 1 (Miller 2024, arXiv
    2411.00640). One cluster has no interval: NaN.

    Raises:
        ValueError: if values are empty or not finite, labels are not one for each value, or
            level is not in (0, 1).
    """
    x = finite(values)
    check_level(level)
    sums, sizes = _by_cluster(x, clusters)
    mean, count = mean_of(x), sums.size
    if count == 1:
        return Estimate(mean, math.nan, math.nan, 1, "clustered t", level)
    from scipy.special import stdtrit

    residuals = sums - mean * sizes
    error = math.sqrt(count / (count - 1) * float(residuals @ residuals)) / x.size
    half = float(stdtrit(count - 1, (1 + level) / 2)) * error
    return Estimate(mean, mean - half, mean + half, count, "clustered t", level)


def cluster_bootstrap(
    values: ArrayLike,
    clusters: Sequence[str],
    seed: int,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Estimate:
    """Mean over problems with a BCa interval from drawing whole clusters with replacement.

    A draw's mean is its sum over its number of problems. `n` counts clusters; one cluster has no
    interval: NaN. Clusters of one problem each give `bootstrap_mean`.

    Raises:
        ValueError: as `clustered_t`, or if resamples < 1.
    """
    x = finite(values)
    check_level(level)
    sums, sizes = _by_cluster(x, clusters)
    mean, scale = mean_of(x), float(np.abs(x).max())
    influence = sums - mean * sizes
    if float(np.abs(influence).max()) <= TIE * scale * x.size:
        width = 0.0 if sums.size > 1 else math.nan
        return Estimate(mean, mean - width, mean + width, sums.size, "constant", level)
    drawn = resampled_sums(np.column_stack([sums, sizes]), seed, resamples)
    low, high = bca_ends(mean, drawn[:, 0] / drawn[:, 1], influence, scale, level)
    return Estimate(mean, low, high, sums.size, "cluster bca", level)


def macro_mean(
    values: ArrayLike,
    strata: Sequence[str],
    seed: int,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Estimate:
    """Unweighted mean of the strata's means, such as datasets; problems are redrawn within each.

    Every stratum weighs the same however many problems it has. `n` counts problems.

    Raises:
        ValueError: as `clustered_t`, if resamples < 1, or if a stratum has only one problem.
    """
    x = finite(values)
    check_level(level)
    index = _indices(x, strata)
    parts = {name: x[index == i] for i, name in enumerate(sorted(set(strata)))}
    if min(part.size for part in parts.values()) < 2:
        raise ValueError("A dataset with one problem has no spread; add problems or leave it out.")
    means = {name: mean_of(part) for name, part in parts.items()}
    mean = math.fsum(means.values()) / len(means)
    influence = np.concatenate([(p - means[name]) / p.size for name, p in parts.items()])
    scale = float(np.abs(x).max())
    if float(np.abs(influence).max()) <= TIE * scale:
        return Estimate(mean, mean, mean, x.size, "constant", level)
    draws = [bootstrap_means(p, derive_seed(seed, name), resamples) for name, p in parts.items()]
    low, high = bca_ends(mean, np.mean(draws, axis=0), influence, scale, level)
    return Estimate(mean, low, high, x.size, "stratified bca", level)


def _by_cluster(
    x: NDArray[np.float64], clusters: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and size of each cluster, shape (C,), in sorted order."""
    index = _indices(x, clusters)
    sums, sizes = np.bincount(index, weights=x), np.bincount(index)
    return sums.astype(np.float64), sizes.astype(np.float64)


def _indices(x: NDArray[np.float64], labels: Sequence[str]) -> NDArray[np.intp]:
    """The rank of each problem's label among the sorted labels, shape (P,)."""
    if len(labels) != x.size:
        raise ValueError(f"{len(labels)} labels for {x.size} problems; label each problem once.")
    return np.unique(list(labels), return_inverse=True)[1]
