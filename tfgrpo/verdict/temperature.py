"""The temperature at which a policy is as random as its base: decoding matched in entropy.

What an arm lost at a large k may be lost with its entropy alone. Sampled again at this temperature
it has the base's entropy, and what is still lost then was not in the decoding.
Source: Yue et al., arXiv 2504.13837, section 4.5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tfgrpo.errors import ConfigError

LOWEST, HIGHEST = 0.2, 3.0
STRIDE = 1.5
"""By what factor the search steps away from its start until the target lies between."""

NARROW = 1e-3
"""Temperatures that are closer than this count as one."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The mean entropy of a token, in nats, where it is drawn at `temperature`."""

    temperature: float
    entropy: float


@dataclass(frozen=True, slots=True)
class Found:
    """The temperature whose entropy is nearest to `target`: the last of `probes`, in order."""

    target: float
    probes: tuple[Probe, ...]

    @property
    def temperature(self) -> float:
        return self.probes[-1].temperature

    @property
    def entropy(self) -> float:
        return self.probes[-1].entropy


def find_temperature(
    measure: Callable[[float], float],
    target: float,
    start: float = 1.0,
    tolerance: float = 0.02,
    told: Callable[[Probe], None] = lambda probe: None,
) -> Found:
    """Bisection on `measure`, temperature to nats, until it is within `tolerance` * `target`.

    It steps from `start` until the target lies between two probes, so that no text is sampled much
    hotter than it must be, and then halves. `measure` may be noisy, as it is where every
    temperature draws replies of its own: some crossing of the target is found then. `told` hears
    of each probe.

    Raises:
        ConfigError: if the target is 0, lies outside of what `LOWEST` to `HIGHEST` give, or is
            leapt over between temperatures less than `NARROW` apart.
    """
    if not target > 0:
        raise ConfigError(
            "The base has no entropy at its temperature, so none can be matched; give an "
            "evaluation that sampled at a temperature above 0."
        )
    probes: list[Probe] = []
    below: Probe | None = None
    above: Probe | None = None
    while True:
        temperature = _next(below, above, start, target)
        probe = Probe(temperature, measure(temperature))
        probes.append(probe)
        told(probe)
        if abs(probe.entropy - target) <= tolerance * target:
            return Found(target, tuple(probes))
        if probe.entropy < target:
            below = probe
        else:
            above = probe


def _next(below: Probe | None, above: Probe | None, start: float, target: float) -> float:
    """Where to look, given the nearest probes on both sides of the target."""
    if below is None:
        if above is None:
            return min(max(start, LOWEST), HIGHEST)
        if above.temperature > LOWEST:
            return max(above.temperature / STRIDE, LOWEST)
        raise _out_of_reach(above, target)
    if above is None:
        if below.temperature < HIGHEST:
            return min(below.temperature * STRIDE, HIGHEST)
        raise _out_of_reach(below, target)
    if above.temperature - below.temperature < NARROW:
        raise ConfigError(
            f"Between the temperatures {below.temperature:g} and {above.temperature:g} the entropy "
            f"leaps from {below.entropy:.3g} to {above.entropy:.3g} nats a token, past the base's "
            f"{target:.3g}; measure on more problems or samples, or allow a larger tolerance."
        )
    return (below.temperature + above.temperature) / 2


def _out_of_reach(probe: Probe, target: float) -> ConfigError:
    return ConfigError(
        f"At temperature {probe.temperature:g} the entropy is {probe.entropy:.3g} nats a token, "
        f"where the base's is {target:.3g}, and no temperature from {LOWEST:g} to {HIGHEST:g} "
        "matches it; compare these two as they are."
    )
