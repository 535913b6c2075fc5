"""The search for a temperature, on entropies that are known to the last digit."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.errors import ConfigError
from tfgrpo.verdict.temperature import HIGHEST, LOWEST, NARROW, Found, Probe, find_temperature


def entropy(logits: Sequence[Sequence[float]]) -> Callable[[float], float]:
    """The mean entropy of softmax(z / T) over rows of logits, by T: rising and exact."""
    z = np.array(logits, float)

    def at(temperature: float) -> float:
        scaled = z / temperature
        log_p = scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)
        return float(-(np.exp(log_p) * log_p).sum(-1).mean())

    return at


LOGITS = entropy([[0.0, 1.0, 4.0], [2.0, 2.0, -1.0]])
rows = st.lists(
    st.lists(st.floats(-6, 6), min_size=4, max_size=4).filter(lambda r: max(r) - min(r) > 0.5),
    min_size=1,
    max_size=4,
)
temperatures = st.floats(LOWEST, HIGHEST)


def test_two_tokens_whose_entropy_is_known_by_hand() -> None:
    """With logits (ln 3, 0), T = 1 / 2 gives (9, 1) / 10 and T = 1 gives (3, 1) / 4."""
    by_hand = entropy([[math.log(3), 0.0]])
    target = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert by_hand(0.5) == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    found = find_temperature(by_hand, target, start=0.5, tolerance=1e-4)
    assert found.temperature == pytest.approx(1.0, abs=2e-3)
    assert (found.target, found.entropy) == (target, by_hand(found.temperature))
    # From 0.5 by steps of 1.5 until above, then halves of what is left between.
    assert [p.temperature for p in found.probes[:5]] == [0.5, 0.75, 1.125, 0.9375, 1.03125]


@given(rows, temperatures, temperatures, st.sampled_from([0.02, 0.1]))
def test_whatever_a_temperature_gives_is_found_again(
    logits: list[list[float]], hidden: float, start: float, tolerance: float
) -> None:
    measure = entropy(logits)
    target = measure(hidden)
    found = find_temperature(measure, target, start, tolerance)
    assert abs(found.entropy - target) <= tolerance * target
    assert LOWEST <= found.temperature <= HIGHEST
    # Every probe that came before had failed, and none lies further from the start than it must.
    assert all(abs(p.entropy - target) > tolerance * target for p in found.probes[:-1])
    reached = [min(start, hidden) / 1.5, max(start, hidden) * 1.5]
    assert all(reached[0] - 1e-9 <= p.temperature <= reached[1] + 1e-9 for p in found.probes)
    assert len(found.probes) <= 8 + math.log2((HIGHEST - LOWEST) / NARROW)


@given(rows, st.floats(0.4, 2.5), st.integers(0, 1000))
def test_noise_below_the_tolerance_does_not_mislead(
    logits: list[list[float]], hidden: float, seed: int
) -> None:
    measure = entropy(logits)
    target = measure(hidden)

    def noisy(temperature: float) -> float:
        bits = hashlib.sha256(f"{seed}/{temperature}".encode()).digest()[0]
        return measure(temperature) + 0.02 * target * (bits / 255 - 0.5)

    found = find_temperature(noisy, target, tolerance=0.02)
    assert abs(measure(found.temperature) - target) <= 0.03 * target


def test_the_trace_is_what_was_measured_in_order() -> None:
    asked: list[float] = []
    heard: list[Probe] = []

    def measure(temperature: float) -> float:
        asked.append(temperature)
        return LOGITS(temperature)

    found = find_temperature(measure, LOGITS(2.0), told=heard.append)
    assert found.probes == tuple(heard) == tuple(Probe(t, LOGITS(t)) for t in asked)
    assert found == Found(LOGITS(2.0), found.probes)
    assert (found.temperature, found.entropy) == (asked[-1], LOGITS(asked[-1]))


def test_a_policy_that_is_its_base_needs_one_look() -> None:
    assert find_temperature(LOGITS, LOGITS(0.7), start=0.7).probes == (Probe(0.7, LOGITS(0.7)),)


def test_a_start_outside_is_brought_inside() -> None:
    hot, cold = (find_temperature(LOGITS, LOGITS(1.0), start=t).probes[0] for t in (9.0, 0.01))
    assert (hot.temperature, cold.temperature) == (HIGHEST, LOWEST)


@pytest.mark.parametrize(
    ("target", "end", "looked_at"),
    [(math.log(3) + 0.1, HIGHEST, [1, 1.5, 2.25, 3]), (1e-6, LOWEST, [1, 1 / 1.5, 1 / 2.25])],
)
def test_what_no_temperature_gives_is_said(
    target: float, end: float, looked_at: list[float]
) -> None:
    asked: list[float] = []

    def measure(temperature: float) -> float:
        asked.append(temperature)
        return LOGITS(temperature) + 0.01

    told = f"At temperature {end:g} the entropy is {LOGITS(end) + 0.01:.3g} nats a token"
    with pytest.raises(ConfigError, match=rf"^{re.escape(told)}.*; compare these two as they are"):
        find_temperature(measure, target)
    assert asked[: len(looked_at)] == pytest.approx(looked_at)
    assert asked[-1] == end


def test_a_leap_over_the_target_is_said() -> None:
    message = r"Between the temperatures 1\.3\S* and 1\.4\S* the entropy leaps from 0\.1 to 3 nats"
    with pytest.raises(ConfigError, match=rf"{message}.*base's 1; measure on more problems"):
        find_temperature(lambda t: 0.1 if t < 1.4 else 3.0, 1.0)


def test_a_base_without_entropy_is_refused() -> None:
    with pytest.raises(ConfigError, match="no entropy at its temperature"):
        find_temperature(LOGITS, 0.0)
