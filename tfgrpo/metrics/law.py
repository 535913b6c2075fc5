"""The empirical law between reward and entropy: R = -a exp(H) + b (arXiv 2505.22617, eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfgrpo.seeding import derive_seed
from tfgrpo.types import Estimate

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class EntropyLaw:
    """R = -a exp(H) + b; H in nats. `ceiling` is R at H = 0, b - a; `rmse` is in units of R.

    An observational fit over the steps of one run, for runs without intervention.
    """

    a: Estimate
    b: Estimate
    ceiling: Estimate
    r_squared: float
    rmse: float


def fit_law(rewards: Sequence[float], entropies: Sequence[float], seed: int) -> EntropyLaw:
    """Least squares in exp(H), with percentile intervals from a block bootstrap over steps.

    Blocks are of about sqrt(n) neighbouring steps, since neighbours are alike.

    Raises:
        ValueError: with fewer than 8 steps, or if the entropy never moves.
    """
    n = len(rewards)
    if n < 8 or n != len(entropies):
        raise ValueError("The law needs the reward and the entropy of at least 8 steps; train on.")
    x, y = np.exp(np.asarray(entropies, float)), np.asarray(rewards, float)
    if np.ptp(x) == 0:
        raise ValueError("The entropy is the same in all steps, so no law can be fitted.")
    a, b = _least_squares(x, y)
    rng = np.random.default_rng(derive_seed(seed, "law") % 2**63)
    width = max(2, round(n**0.5))
    draws: list[tuple[float, float]] = []
    while len(draws) < RESAMPLES:
        starts = rng.integers(0, n - width + 1, -(-n // width))
        index = (starts[:, None] + np.arange(width)).ravel()[:n]
        if np.ptp(x[index]) > 0:
            draws.append(_least_squares(x[index], y[index]))
    found = np.array(draws)
    residual = y - (b - a * x)
    total = float(((y - y.mean()) ** 2).sum())

    def interval(value: float, values: np.ndarray) -> Estimate:
        low, high = np.percentile(values, [2.5, 97.5])
        return Estimate(value, float(low), float(high), n, "block bootstrap over steps")

    return EntropyLaw(
        interval(a, found[:, 0]),
        interval(b, found[:, 1]),
        interval(b - a, found[:, 1] - found[:, 0]),
        1 - float((residual**2).sum()) / total if total else 0.0,
        float((residual**2).mean() ** 0.5),
    )


def _least_squares(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    slope, offset = np.polyfit(x, y, 1)
    return -float(slope), float(offset)
