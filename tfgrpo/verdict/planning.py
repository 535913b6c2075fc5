"""Before anything is spent: which problems x samples find an effect, and what they cost.

Differences are of pass@k, arm minus base, paired by problem, as shares. The base is sampled once
and every other arm once for each training seed, whose samples are averaged within a problem.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from tfgrpo.errors import ConfigError
from tfgrpo.ledger import Price
from tfgrpo.metrics.power import plans
from tfgrpo.metrics.seeds import MIN_SEEDS
from tfgrpo.metrics.spread import Spread
from tfgrpo.types import Usage
from tfgrpo.verdict.expecting import Expectation, spread_of
from tfgrpo.verdict.problems import SMALL

_NORMAL = NormalDist()
_UNKNOWN = Price()


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be found: a true difference `effect` of pass@k at every k of `ks`, with `power`.

    `tests` comparisons are judged together; a design must pass Holm's first and strictest step,
    p < (1 - level) / tests, in each of them.
    """

    effect: float
    ks: tuple[int, ...] = (1,)
    power: float = 0.8
    level: float = 0.95
    arms: int = 2
    seeds: int = 3
    tests: int = 1

    def __post_init__(self) -> None:
        if not (0 < self.effect < 1 and 0 < self.power < 1 and 0 < self.level < 1):
            raise ConfigError(
                "An effect, a power and a level are shares between 0 and 1; give 0.03 for 3 points."
            )
        if not self.ks or min(*self.ks, self.arms - 1, self.seeds, self.tests) < 1:
            raise ConfigError(
                "A plan needs k >= 1, two arms, one seed and one test at least; correct them."
            )

    @property
    def evaluations(self) -> int:
        return 1 + (self.arms - 1) * self.seeds

    @property
    def strict_level(self) -> float:
        return 1 - (1 - self.level) / self.tests


def detectable(variance: float, problems: int, power: float, level: float) -> float:
    """Smallest true difference found with `power`: (z_{(1+level)/2} + z_power) sqrt(variance / P).

    The inverse of `problems_needed`.
    """
    quantiles = _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power)
    return quantiles * math.sqrt(variance / problems)


@dataclass(frozen=True, slots=True)
class Bill:
    """Calls, tokens and seconds inside of calls; wall seconds and US dollars, None if unknown."""

    usage: Usage
    wall: float | None
    usd: float | None

    def __add__(self, other: Bill) -> Bill:
        return Bill(
            self.usage + other.usage, _sum(self.wall, other.wall), _sum(self.usd, other.usd)
        )


@dataclass(frozen=True, slots=True)
class Rate:
    """What a pilot took for `problems` with `samples` in all; `wall` None if nobody timed it."""

    usage: Usage
    problems: int
    samples: int
    wall: float | None = None
    price: Price = _UNKNOWN

    def bill(self, problems: int, samples: int, times: int = 1) -> Bill:
        """The same for `problems` x `samples` each, `times` over.

        Replies and time grow with samples. Calls and prompts grow with problems where one call
        asked for all samples of a problem, else with samples too.
        """
        replies = times * problems * samples / self.samples
        shared = self.usage.calls < 2 * self.problems
        prompts = times * problems / self.problems if shared else replies
        usage = Usage(
            calls=round(self.usage.calls * prompts),
            prompt_tokens=round(self.usage.prompt_tokens * prompts),
            cached_tokens=round(self.usage.cached_tokens * prompts),
            completion_tokens=round(self.usage.completion_tokens * replies),
            reasoning_tokens=round(self.usage.reasoning_tokens * replies),
            seconds=self.usage.seconds * replies,
        )
        wall = None if self.wall is None else self.wall * replies
        return Bill(usage, wall, self.price.cost(usage))


@dataclass(frozen=True, slots=True)
class Design:
    """`problems` x `samples` in every evaluation, and the difference of pass@k found, by k.

    `draws` counts the samples of all evaluations. A k above `samples` is missing.
    """

    problems: int
    samples: int
    draws: int
    found: Mapping[int, float]
    bill: Bill | None = None


def grid(
    expected: Expectation, ask: Ask, problems: Sequence[int], samples: Sequence[int]
) -> tuple[Design, ...]:
    """What every number of problems and of samples would find; problems vary slowest.

    Raises:
        ConfigError: if a number of problems is below 2 or one of samples below 1.
    """
    if min(problems, default=2) < 2 or min(samples, default=1) < 1:
        raise ConfigError("A design has 2 problems and 1 sample or more; correct the numbers.")
    spreads = {n: _spreads(expected, ask, n) for n in samples}
    return tuple(_design(ask, p, n, spreads[n]) for p in problems for n in samples)


def designs(
    expected: Expectation,
    ask: Ask,
    samples: Sequence[int],
    limit: int | None = None,
    rates: Sequence[Rate] = (),
) -> tuple[Design, ...]:
    """For each number of samples the fewest problems that find the effect at every k.

    Cheapest first, by samples drawn. Those that miss the effect because only `limit` problems
    exist come last, the sharpest of them first. `rates` are of the base and of the other arms, or
    one for all.

    Raises:
        ConfigError: if no number of samples reaches the largest k, or `limit` is below 2.
    """
    if limit is not None and limit < 2:
        raise ConfigError("A plan needs 2 problems or more; give a larger --limit.")
    made = []
    for n in sorted({n for n in samples if n >= max(ask.ks)}):
        spreads = _spreads(expected, ask, n)
        needed = [
            plans({n: spread}, ask.effect, limit, ask.power, ask.strict_level)[0].problems
            for spread in spreads.values()
        ]
        bill = _bill(ask, max(needed), n, rates) if rates else None
        made.append(replace(_design(ask, max(needed), n, spreads), bill=bill))
    if not made:
        raise ConfigError(f"pass@{max(ask.ks)} needs as many samples; give larger --samples.")
    return tuple(sorted(made, key=lambda d: _rank(d, ask)))


def reaches(design: Design, ask: Ask) -> bool:
    """Whether the effect is found at every k that is asked for."""
    return all(design.found.get(k, math.inf) <= ask.effect * (1 + 1e-9) for k in ask.ks)


def cautions(expected: Expectation, ask: Ask, design: Design) -> tuple[str, ...]:
    """What could make this design promise more than it keeps, each with what to do."""
    points, found = f"{100 * ask.effect:.1f}", []
    if not reaches(design, ask):
        worst = 100 * max(design.found.values())
        found.append(
            f"{design.problems} problems find no less than {worst:.1f} points, where {points} are "
            "wanted; take more problems."
        )
    if noisy := [k for k in ask.ks if k > max(1, design.samples / 2)]:
        found.append(
            f"k = {_listed(noisy)} is more than half of {design.samples} samples, where pass@k is "
            f"at its noisiest; draw {2 * max(noisy)} samples or more."
        )
    if design.problems < SMALL:
        found.append(
            f"Intervals over {design.problems} problems are too short; take {SMALL} or more."
        )
    if full := [k for k in ask.ks if 1 - expected.passes[k] < ask.effect]:
        found.append(
            f"At k = {_listed(full)} the base leaves less room than {points} points; take harder "
            "problems or a smaller k."
        )
    if ask.seeds < MIN_SEEDS:
        found.append(
            f"With fewer than {MIN_SEEDS} training seeds ({ask.seeds}) a method is not told from "
            f"luck; train {MIN_SEEDS} or more."
        )
    if expected.seen and (beyond := [k for k in ask.ks if k > expected.seen]):
        found.append(
            f"The pilot has {expected.seen} samples a problem: what it says at k = "
            f"{_listed(beyond)} rests on a fitted Beta skill; draw as many samples in the pilot."
        )
    if not expected.measured:
        found.append(
            f"The pairing correlation {expected.correlation:g} is assumed; evaluate a second arm "
            "on the pilot's problems and give it as a second --pilot."
        )
    return tuple(found)


def _spreads(expected: Expectation, ask: Ask, n: int) -> dict[int, Spread]:
    return {k: spread_of(expected, n, k, ask.seeds) for k in ask.ks if k <= n}


def _design(ask: Ask, problems: int, n: int, spreads: Mapping[int, Spread]) -> Design:
    found = {
        k: detectable(spread.total, problems, ask.power, ask.strict_level)
        for k, spread in spreads.items()
    }
    return Design(problems, n, problems * n * ask.evaluations, found)


def _rank(design: Design, ask: Ask) -> tuple[bool, float, int]:
    if reaches(design, ask):
        return False, design.draws, design.samples
    return True, max(design.found.values()), design.samples


def _bill(ask: Ask, problems: int, n: int, rates: Sequence[Rate]) -> Bill:
    base, others = rates[0], rates[-1]
    return base.bill(problems, n) + others.bill(problems, n, ask.evaluations - 1)


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


def _listed(ks: Sequence[int]) -> str:
    return ", ".join(map(str, ks))
