"""Whether stated confidence q in [0, 1] matches being right, y in {0, 1}.

Samples of all problems are pooled; `cluster_bootstrap` by problem gives Brier's interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Bins = Literal["width", "mass"]
Missing = Literal["drop", "half"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BrierParts:
    """Brier = reliability - resolution + uncertainty (Murphy 1973)."""

    reliability: float
    resolution: float
    uncertainty: float


def brier(confidence: Sequence[float], correct: Sequence[bool]) -> float:
    """mean (q - y)^2, in [0, 1]; lower is better.

    Raises:
        ValueError: if there are no samples, lengths differ, or a confidence is not in [0, 1].
    """
    q, y = _pairs(confidence, correct)
    return float(np.mean((q - y) ** 2))


def brier_parts(confidence: Sequence[float], correct: Sequence[bool]) -> BrierParts:
    """Murphy's exact decomposition, samples grouped by equal confidence.

    reliability = sum w_g (q_g - y_g)^2, resolution = sum w_g (y_g - y)^2, uncertainty = y (1 - y),
    y_g and w_g a group's share right and its weight. Raises as `brier`.
    """
    q, y = _pairs(confidence, correct)
    levels, group = np.unique(q, return_inverse=True)
    size = np.bincount(group)
    right, rate = np.bincount(group, weights=y) / size, float(y.mean())
    reliability = float(size @ (levels - right) ** 2) / q.size
    resolution = float(size @ (right - rate) ** 2) / q.size
    return BrierParts(reliability, resolution, rate * (1 - rate))


def ece(
    confidence: Sequence[float], correct: Sequence[bool], bins: int = 10, by: Bins = "width"
) -> float:
    """Expected calibration error sum_b w_b |mean q - mean y|, in [0, 1].

    Bins of equal width, q = 1 in the last, or of equal mass, where equal confidences stay
    together. Biased up: calibrated answers score about 0.14 at 50 samples and 10 bins, so compare
    arms at equal numbers, beside `ece_floor`. Raises as `brier`, or if bins < 1.
    """
    q, y = _pairs(confidence, correct)
    gap, _ = _gaps(q, y, _bins(q, bins, by))
    return float(np.abs(gap).sum()) / q.size


def ece_floor(
    confidence: Sequence[float], seed: int, bins: int = 10, by: Bins = "width", draws: int = 1000
) -> float:
    """Mean ECE if these confidences were exactly right: y ~ Bernoulli(q), `draws` times.

    What ECE shows without any miscalibration. Raises as `ece`, or if draws < 1.
    """
    q, _ = _pairs(confidence, [False] * len(confidence))
    if draws < 1:
        raise ValueError(f"The floor needs at least 1 draw, not {draws}; use 1000.")
    which = _bins(q, bins, by)
    rng = np.random.default_rng(seed)
    gaps = (_gaps(q, (rng.random(q.size) < q).astype(np.float64), which)[0] for _ in range(draws))
    return math.fsum(float(np.abs(gap).sum()) / q.size for gap in gaps) / draws


def squared_ece(
    confidence: Sequence[float], correct: Sequence[bool], bins: int = 10, by: Bins = "width"
) -> float:
    """Debiased squared calibration error, around 0 (below too) for calibrated answers.

    sum_b w_b [(mean q - mean y)^2 - y_b (1 - y_b) / (n_b - 1)], y_b the bin's share right: the
    subtracted variance is what chance adds (Kumar et al. 2019, arXiv 1909.10155 section 5).
    Bins of one sample, which have no variance, are left out. Raises as `ece`, or if none is left.
    """
    q, y = _pairs(confidence, correct)
    which = _bins(q, bins, by)
    gap, size = _gaps(q, y, which)
    kept = size > 1
    if not kept.any():
        raise ValueError("Every bin holds a single sample; use fewer bins or more samples.")
    n, rate = size[kept], np.bincount(which, weights=y)[kept] / size[kept]
    excess = (gap[kept] / n) ** 2 - rate * (1 - rate) / (n - 1)
    return float(n @ excess) / float(n.sum())


def auroc(confidence: Sequence[float], correct: Sequence[bool]) -> float:
    """P(q+ > q-) + P(q+ = q-) / 2 over right and wrong samples; NaN if all are of one kind.

    The Mann-Whitney statistic by mid-ranks. Raises as `brier`.
    """
    q, y = _pairs(confidence, correct)
    right, wrong = float(y.sum()), float(y.size - y.sum())
    if not right or not wrong:
        return math.nan
    _, group, size = np.unique(q, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2)[group]
    return float(ranks @ y - right * (right + 1) / 2) / (right * wrong)


def stated(
    confidence: Sequence[float | None], correct: Sequence[bool], missing: Missing
) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    """Samples with a confidence: those without are dropped, or count as 0.5 ("half").

    Report both readings and the share that is missing: an arm could look calibrated by staying
    silent. Raises ValueError if lengths differ.
    """
    pairs = zip(confidence, correct, strict=True)
    kept = [(0.5 if q is None else q, y) for q, y in pairs if q is not None or missing == "half"]
    return tuple(q for q, _ in kept), tuple(y for _, y in kept)


def _pairs(confidence: Sequence[float], correct: Sequence[bool]) -> tuple[Floats, Floats]:
    q, y = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if not q.size or q.shape != y.shape or not np.all((q >= 0) & (q <= 1)):
        raise ValueError("Calibration needs one confidence in [0, 1] per sample; drop the rest.")
    return q, y


def _bins(q: Floats, bins: int, by: Bins) -> NDArray[np.intp]:
    """Each sample's bin, shape (N,). Edges are i / bins: a running sum would misplace q = 0.3."""
    if bins < 1:
        raise ValueError(f"Calibration needs at least 1 bin, not {bins}; use 10.")
    if by == "width":
        return np.digitize(q, np.arange(1, bins) / bins)
    below = np.searchsorted(np.sort(q), q, side="left")
    return below * bins // q.size


def _gaps(q: Floats, y: Floats, which: NDArray[np.intp]) -> tuple[Floats, NDArray[np.intp]]:
    """Sum of q - y and number of samples of each bin."""
    return np.bincount(which, weights=q - y).astype(np.float64), np.bincount(which)
