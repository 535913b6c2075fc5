"""Where the base overtakes, in a few signs."""

from __future__ import annotations

from tfgrpo.metrics.crossover import CrossoverLaw


def k_star(law: CrossoverLaw | None, level: float) -> str:
    """`k* 12 [5, >64]`, `k* >64`, or nothing where the arm does not lead at one sample."""
    if law is None or not law.estimate.led or law.no_lead == law.resamples:
        return ""
    low, high = law.interval(level)
    if (low, high) == (None, None):
        return f"k* {law.estimate.label}"
    return f"k* {law.estimate.label} [{_end(low, law)}, {_end(high, law)}]"


def _end(k: int | None, law: CrossoverLaw) -> str:
    return f">{law.limit}" if k is None else str(k)
