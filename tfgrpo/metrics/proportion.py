"""Exact intervals for a share of problems: solved or not, covered or not."""

from __future__ import annotations

from tfgrpo.metrics.bootstrap import check_level
from tfgrpo.metrics.pass_at_k import check_draw
from tfgrpo.types import Estimate


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> Estimate:
    """Share with its exact binomial interval (Clopper and Pearson 1934); covers at least `level`.

    The ends are the shares p at which P(X >= successes) or P(X <= successes) equals
    (1 - level) / 2, quantiles of Beta(c, n-c+1) and Beta(c+1, n-c).

    Raises:
        ValueError: unless 0 <= successes <= trials are integers, trials >= 1, level in (0, 1).
    """
    check_draw(trials, successes, 1)
    check_level(level)
    from scipy.special import betaincinv

    c, n, tail = successes, trials, (1 - level) / 2
    low = float(betaincinv(c, n - c + 1, tail)) if c else 0.0
    high = float(betaincinv(c + 1, n - c, 1 - tail)) if c < n else 1.0
    return Estimate(c / n, low, high, n, "clopper-pearson", level)
