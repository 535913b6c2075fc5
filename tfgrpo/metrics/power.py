"""Planning: how many problems and samples a question needs before anything is sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

from tfgrpo.metrics.bootstrap import check_level
from tfgrpo.metrics.spread import Spread

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Plan:
    """`problems` x `samples` for each arm, and the smallest difference that they would find."""

    problems: int
    samples: int
    detectable: float

    @property
    def cost(self) -> int:
        """Samples to draw for one arm."""
        return self.problems * self.samples


def problems_needed(variance: float, effect: float, power: float = 0.8, level: float = 0.95) -> int:
    """Problems at which a true mean difference `effect` is found with `power`.

    ceil((z_{(1+level)/2} + z_power)^2 variance / effect^2), the inverse of `minimum_detectable`;
    `variance` is that of one problem's difference.

    Raises:
        ValueError: if variance < 0, effect <= 0, or power or level is not in (0, 1).
    """
    if not variance >= 0 or not effect > 0:
        raise ValueError("A plan needs a variance >= 0 and an effect > 0; use 0.0625 and 0.03.")
    return max(2, math.ceil(_quantiles(power, level) ** 2 * variance / effect**2))


def plans(
    spreads: Mapping[int, Spread],
    effect: float,
    problems: int | None = None,
    power: float = 0.8,
    level: float = 0.95,
) -> tuple[Plan, ...]:
    """One plan for each number of samples n of `spreads`, cheapest first.

    `spreads` maps n to the paired spread at n. Each plan has the fewest problems that find
    `effect`; where only `problems` exist, plans that need more are cut to them, and `detectable`
    says what is left. Raises as `problems_needed`, or if `spreads` is empty or problems < 2.
    """
    if not spreads or (problems is not None and problems < 2):
        raise ValueError("A plan needs a spread at some n and 2 problems or more; supply them.")
    made = []
    for n, spread in spreads.items():
        size = problems_needed(spread.total, effect, power, level)
        size = size if problems is None else min(size, problems)
        reach = _quantiles(power, level) * math.sqrt(spread.total / size)
        made.append(Plan(size, n, reach))
    return tuple(sorted(made, key=lambda p: (p.detectable > effect, p.cost, p.samples)))


def _quantiles(power: float, level: float) -> float:
    check_level(power)
    check_level(level)
    return _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power)
