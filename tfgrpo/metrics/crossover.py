"""Where the base overtakes a tuned policy on the pass@k curve."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfgrpo.metrics.bootstrap import check_level, resampled_sums

_TIE = 1e-12  # absolute: pass@k lies in [0, 1]


@dataclass(frozen=True, slots=True)
class Crossover:
    """The smallest k of the curve at which base >= tuned, after tuned led at the first k.

    `k` is None where that never happens up to `limit`, or where tuned does not lead (`led`).
    `interpolated` is where the curves meet, linear in log k since the k before. `changes` counts
    sign changes over the whole curve: above 1, the lead changed back.
    """

    k: int | None
    interpolated: float | None
    limit: int
    led: bool
    changes: int

    @property
    def label(self) -> str:
        """The number, ">64" for none up to 64, or "no lead"."""
        if not self.led:
            return "no lead"
        return f">{self.limit}" if self.k is None else str(self.k)


@dataclass(frozen=True, slots=True)
class CrossoverLaw:
    """Distribution of the crossover over bootstrap draws of problems.

    `counts` maps k to draws. In `censored` draws tuned led and was not overtaken up to `limit`;
    in `no_lead` draws it did not lead at k = 1.
    """

    estimate: Crossover
    counts: Mapping[int, int]
    censored: int
    no_lead: int

    @property
    def limit(self) -> int:
        return self.estimate.limit

    @property
    def resamples(self) -> int:
        return sum(self.counts.values()) + self.censored + self.no_lead

    @property
    def censored_share(self) -> float:
        """Share of all draws without a crossing up to `limit`: to be printed beside k*."""
        return self.censored / self.resamples

    def quantile(self, q: float) -> int | None:
        """Smallest k reached by a share q of the draws in which tuned led; None is beyond `limit`.

        Raises:
            ValueError: if q is not in (0, 1), or tuned led in no draw.
        """
        check_level(q)
        led = self.resamples - self.no_lead
        if not led:
            raise ValueError("The tuned arm led in no draw, so none can cross; compare pass@1.")
        reached = 0
        for k, count in sorted(self.counts.items()):
            reached += count
            if reached >= q * led:
                return k
        return None

    def interval(self, level: float = 0.95) -> tuple[int | None, int | None]:
        """Percentile interval of k* given that tuned led; raises as `quantile`."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)


def crossover(base: Mapping[int, float], tuned: Mapping[int, float]) -> Crossover:
    """Compare two pass@k curves over the same grid of k; all integers give the exact k*.

    Raises:
        ValueError: if the grids differ or are empty, k < 1, or a value is not finite.
    """
    ks = sorted(base)
    if not ks or ks[0] < 1 or base.keys() != tuned.keys():
        raise ValueError("A crossover needs both curves at the same k >= 1; evaluate both alike.")
    lead = np.array([tuned[k] - base[k] for k in ks])
    if not np.isfinite(lead).all():
        raise ValueError("A crossover needs finite curves; draw more samples or lower k.")
    signs = np.sign(np.where(np.abs(lead) <= _TIE, 0.0, lead))
    strict = signs[signs != 0]
    changes = int(np.sum(strict[1:] != strict[:-1]))
    behind = np.flatnonzero(signs <= 0)
    if signs[0] <= 0 or not behind.size:
        return Crossover(None, None, ks[-1], bool(signs[0] > 0), changes)
    at = int(behind[0])
    part = float(lead[at - 1] / (lead[at - 1] - min(lead[at], 0.0)))
    meet = ks[at - 1] * math.pow(ks[at] / ks[at - 1], part)
    return Crossover(ks[at], meet, ks[-1], True, changes)


def crossover_law(
    base: ArrayLike, tuned: ArrayLike, seed: int, resamples: int = 10_000
) -> CrossoverLaw:
    """k* over paired draws of problems; `base` and `tuned` are pass@1 .. pass@K, shape (P, K).

    Rows are the same problems in the same order, as `per_task_curve` gives them.

    Raises:
        ValueError: if the shapes differ, a value is not finite, or resamples < 1.
    """
    x, y = np.asarray(base, dtype=np.float64), np.asarray(tuned, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 2 or x.size == 0:
        raise ValueError("A crossover needs the same problems and k in both arms; align them.")
    lead = resampled_sums(y - x, seed, resamples) / x.shape[0]
    led = lead[:, 0] > _TIE
    behind: NDArray[np.bool_] = lead <= _TIE
    crossed = led & behind.any(axis=1)
    firsts = behind[crossed].argmax(axis=1) + 1
    ks = range(1, x.shape[1] + 1)
    curves = (dict(zip(ks, v.mean(axis=0).tolist(), strict=True)) for v in (x, y))
    return CrossoverLaw(
        estimate=crossover(*curves),
        counts=dict(sorted(Counter(firsts.tolist()).items())),
        censored=int(np.sum(led & ~crossed)),
        no_lead=int(np.sum(~led)),
    )


def efficiency_gap(base: Mapping[int, float], tuned: Mapping[int, float]) -> float:
    """Delta_SE = pass@K of the base - pass@1 of the tuned policy, K the last k of the base.

    How far tuning is from reaching in one sample what the base reaches in K; lower is better
    (Yue et al. 2025, arXiv 2504.13837, section 4.3).

    Raises:
        ValueError: if the base's curve is empty or the tuned one lacks k = 1.
    """
    if not base or 1 not in tuned:
        raise ValueError("The gap needs the base's curve and the tuned pass@1; evaluate both.")
    return base[max(base)] - tuned[1]
