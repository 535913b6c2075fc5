"""From comparisons to what may be said: declared endpoints, Holm, non-inferiority, verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType
from typing import Literal

from tfgrpo.metrics.bootstrap import check_level
from tfgrpo.metrics.estimate import holm
from tfgrpo.types import Comparison, Estimate

Verdict = Literal["better", "worse", "non-inferior", "inconclusive"]
NO_MARGINS: Mapping[str, float] = MappingProxyType({})
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Claim:
    """One arm's comparison on one declared endpoint.

    `holm_p` is adjusted over all arms and endpoints declared together. `detectable` is the
    smallest true difference that this comparison would find with 80% power.
    """

    arm: str
    comparison: Comparison
    holm_p: float
    verdict: Verdict
    detectable: float


def declared_claims(
    comparisons: Mapping[str, Sequence[Comparison]],
    endpoints: Sequence[str],
    margins: Mapping[str, float] = NO_MARGINS,
) -> tuple[Claim, ...]:
    """Verdicts on endpoints named before the data were seen, for each arm against its base.

    `comparisons` maps arms to their comparisons; those that are no endpoint are exploratory and
    neither judged nor counted by Holm. `margins` maps endpoints to non-inferiority margins.
    Order: arms, then endpoints, as given.

    Raises:
        ValueError: if no endpoint is declared, one is declared twice or not compared for an arm,
            or a margin is not positive or of no endpoint.
    """
    if not endpoints or len(set(endpoints)) != len(endpoints) or margins.keys() - set(endpoints):
        raise ValueError("Endpoints must be declared once each, margins for them; correct both.")
    found: list[tuple[str, Comparison]] = []
    for arm, compared in comparisons.items():
        by_name = {c.name: c for c in compared}
        for name in endpoints:
            if name not in by_name:
                raise ValueError(f"{arm} was not compared on {name}; compare it or undeclare it.")
            found.append((arm, by_name[name]))
    adjusted = holm([c.p_value for _, c in found])
    return tuple(
        Claim(arm, c, p, verdict(c.difference, p, margins.get(c.name)), detectable(c.difference))
        for (arm, c), p in zip(found, adjusted, strict=True)
    )


def verdict(difference: Estimate, p_value: float, margin: float | None = None) -> Verdict:
    """What an interval of b - a and its (adjusted) p-value say together.

    "better" or "worse" where the interval excludes 0 and p < 1 - level; else "non-inferior" where
    it lies above -margin; else "inconclusive", which is not "equal".

    Raises:
        ValueError: if the margin is not positive.
    """
    if p_value < 1 - difference.level and difference.low > 0:
        return "better"
    if p_value < 1 - difference.level and difference.high < 0:
        return "worse"
    if margin is not None and non_inferior(difference, margin):
        return "non-inferior"
    return "inconclusive"


def non_inferior(difference: Estimate, margin: float) -> bool:
    """Whether b is worse than a by less than `margin`: the interval of b - a lies above -margin.

    A two-sided 95% interval makes this a one-sided test at 2.5%. Without an interval, False.

    Raises:
        ValueError: if the margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"A non-inferiority margin must be positive, not {margin}; use 0.01.")
    return difference.low > -margin


def detectable(difference: Estimate, power: float = 0.8) -> float:
    """Smallest true difference found with `power`, read off an interval's width.

    half-width * (1 + z_power / z_{(1+level)/2}): `minimum_detectable` without the problems'
    differences, about 1.43 half-widths. NaN without an interval.

    Raises:
        ValueError: if power is not in (0, 1).
    """
    check_level(power)
    z = _NORMAL.inv_cdf((1 + difference.level) / 2)
    return (difference.high - difference.low) / 2 * (1 + _NORMAL.inv_cdf(power) / z)
