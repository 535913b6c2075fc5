from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tfgrpo.errors import ConfigError
from tfgrpo.ledger import Price
from tfgrpo.metrics.pass_at_k import pass_at_k
from tfgrpo.metrics.power import problems_needed
from tfgrpo.types import TaskOutcome, Usage
from tfgrpo.verdict.expecting import (
    Expectation,
    assumed,
    expected_pass,
    of_pair,
    of_pilot,
    spread_of,
)
from tfgrpo.verdict.planning import Ask, Rate, cautions, designs, detectable, grid, reaches

EVEN = math.sqrt(1 / 12)  # the spread of chances that are uniform in [0, 1]: Beta(1, 1)
Shares = NDArray[np.float64]


def uniform(ks: Sequence[int] = (1,), correlation: float = 0.5) -> Expectation:
    return assumed(0.5, EVEN, correlation, ks)


def sampled(skills: Shares, n: int, seed: int) -> list[TaskOutcome]:
    rng, none = np.random.default_rng(seed), (None,) * n
    return [
        TaskOutcome(str(i), "sum", tuple((rng.random(n) < p).tolist()), none, none, none, (1,) * n)
        for i, p in enumerate(skills)
    ]


# what is expected ---------------------------------------------------------------------------------


def test_even_skills_by_hand() -> None:
    """1 - p is uniform: E pass@k = k / (k + 1), and Var (1 - p)^2 = 1/5 - 1/9 = 4/45."""
    expected = uniform((1, 2, 3))
    assert (expected.base.a, expected.base.b) == (pytest.approx(1), pytest.approx(1))
    assert expected.passes == {k: pytest.approx(k / (k + 1)) for k in (1, 2, 3)}
    assert expected.between[1] == pytest.approx(2 * 0.5 / 12)
    assert expected.between[2] == pytest.approx(2 * 0.5 * 4 / 45)
    assert expected_pass(expected.base, 63) == pytest.approx(63 / 64)


def test_seeds_average_the_arms_noise_and_never_the_bases() -> None:
    """At k = 1 one arm's noise is E p (1 - p) / n = 1 / 6n; at n = k = 2 it is 2/9 - 4/45."""
    once, thrice = (spread_of(uniform(), 4, 1, seeds) for seeds in (1, 3))
    assert once.within == pytest.approx(2 / 24)
    assert thrice.within == pytest.approx((1 + 1 / 3) / 24)
    assert thrice.between == once.between
    assert spread_of(uniform((2,)), 2, 2, 1).within == pytest.approx(2 * (2 / 9 - 4 / 45))


def test_a_pilot_is_taken_at_its_word_up_to_its_samples() -> None:
    pilot = sampled(np.random.default_rng(0).beta(1, 1, 2000), 8, 1)
    expected = of_pilot(pilot, 0.5, (1, 8, 32))
    assert expected.passes[8] == pytest.approx(np.mean([o.c > 0 for o in pilot]))
    assert expected.passes[32] == pytest.approx(32 / 33, abs=0.01)
    assert (expected.seen, expected.measured) == (8, False)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_two_pilots_tell_how_the_arms_pair(correlation: float) -> None:
    """Chances that are equal with this probability, else independent, correlate so at every k."""
    rng = np.random.default_rng(2)
    p, other = rng.beta(1, 1.5, (2, 800))
    q = np.where(rng.random(800) < correlation, p, other)
    expected = of_pair(sampled(p, 16, 3), sampled(q, 16, 4), (1, 64))
    assert expected.correlation == pytest.approx(correlation, abs=0.08)
    told = assumed(0.4, math.sqrt(0.24 / 3.5), correlation, (1, 64))
    for k in (1, 64):
        assert expected.between[k] == pytest.approx(told.between[k], abs=0.02)
    assert expected.measured


def test_pilots_need_problems_in_common() -> None:
    base = sampled(np.array([0.2, 0.5, 0.8, 0.4]), 32, 0)
    arm = [replace(o, task_id=f"other {o.task_id}") for o in base[1:]]
    with pytest.raises(ConfigError, match="share no problems; evaluate"):
        of_pair(base, [base[0], *arm], (1,))


# designs ------------------------------------------------------------------------------------------


def test_detectable_differences_by_hand() -> None:
    """z = 1.960 + 0.842 = 2.802; with three tests judged together z = 2.394 + 0.842 = 3.235."""
    assert detectable(0.0625, 100, 0.8, 0.95) == pytest.approx(0.0700, abs=5e-5)
    assert detectable(0.0625, 1000, 0.8, 0.95) == pytest.approx(0.02215, abs=5e-6)
    strict = Ask(0.1, tests=3).strict_level
    assert detectable(0.0625, 100, 0.8, strict) == pytest.approx(0.0809, abs=5e-5)


@given(st.floats(0.001, 0.5), st.floats(0.02, 0.3), st.floats(0.6, 0.95))
def test_detectable_is_the_inverse_of_problems_needed(
    variance: float, effect: float, power: float
) -> None:
    size = problems_needed(variance, effect, power)
    assert detectable(variance, size, power, 0.95) <= effect * (1 + 1e-9)
    if size > 2:
        assert detectable(variance, size - 1, power, 0.95) >= effect * (1 - 1e-9)


@pytest.mark.parametrize(
    ("seeds", "tests", "problems"),
    [
        (1, 1, 131),  # 7.8489 (1/12 + 2/24) / 0.01 = 130.8
        (2, 1, 115),  # 7.8489 (1/12 + 1.5/24) / 0.01 = 114.5
        (1, 3, 175),  # 10.469 (1/12 + 2/24) / 0.01 = 174.5
    ],
)
def test_problems_by_hand(seeds: int, tests: int, problems: int) -> None:
    ask = Ask(0.1, (1,), seeds=seeds, tests=tests)
    (design,) = designs(uniform(), ask, (4,))
    assert (design.problems, design.samples) == (problems, 4)
    assert design.draws == problems * 4 * (1 + seeds)
    assert 0.09 < design.found[1] <= 0.1


def test_the_first_design_is_the_cheapest_that_finds_the_effect_at_every_k() -> None:
    ask, samples = Ask(0.05, (1, 4), seeds=2), (1, 4, 8, 16, 64)
    expected = uniform((1, 4), 0.9)
    found = designs(expected, ask, samples)
    assert [d.samples for d in found if d.samples < 4] == []
    assert [d.draws for d in found] == sorted(d.draws for d in found)
    by_hand = {
        n: max(problems_needed(spread_of(expected, n, k, 2).total, 0.05, 0.8, 0.95) for k in (1, 4))
        for n in samples
        if n >= 4
    }
    assert {d.samples: d.problems for d in found} == by_hand
    assert all(reaches(d, ask) for d in found)


def test_too_few_problems_are_told_and_the_sharpest_design_comes_first() -> None:
    ask = Ask(0.02, (1,))
    found = designs(uniform(), ask, (1, 4, 16), limit=30)
    assert {d.problems for d in found} == {30}
    assert [d.samples for d in found] == [16, 4, 1]
    assert found[0].found[1] == pytest.approx(
        detectable(spread_of(uniform(), 16, 1, 3).total, 30, 0.8, 0.95)
    )
    told = cautions(uniform(), ask, found[0])
    assert told[0].startswith("30 problems find no less than 15.9 points, where 2.0")


def test_a_table_has_no_cell_for_a_k_above_its_samples() -> None:
    cells = grid(uniform((1, 8)), Ask(0.05, (1, 8)), (50, 100), (4, 8))
    assert [(d.problems, d.samples, sorted(d.found)) for d in cells] == [
        (50, 4, [1]), (50, 8, [1, 8]), (100, 4, [1]), (100, 8, [1, 8]),
    ]  # fmt: skip
    assert cells[0].found[1] == pytest.approx(math.sqrt(2) * cells[2].found[1])


@given(
    st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.floats(0, 1), st.integers(1, 4), st.integers(1, 20)
)
def test_more_of_anything_never_finds_less(
    mean: float, part: float, correlation: float, seeds: int, n: int
) -> None:
    spread = part * math.sqrt(mean * (1 - mean))
    expected = assumed(mean, spread, correlation, (1,))
    ask = Ask(0.05, (1,), seeds=seeds)
    few, samples, problems, both = grid(expected, ask, (50, 80), (n, n + 3))
    more_seeds = grid(expected, replace(ask, seeds=seeds + 1), (50,), (n,))[0]
    for better in (samples, problems, both, more_seeds):
        assert better.found[1] <= few.found[1] * (1 + 1e-9)


# promises -----------------------------------------------------------------------------------------


def found_share(p: Shares, q: Shares, n: int, k: int, seeds: int, shift: float) -> float:
    """How often an interval over problems excludes 0; p and q have shape (experiments, problems).

    `shift` is added to every difference. Each seed samples the arm anew.
    """
    rng = np.random.default_rng(7)
    table = np.array([pass_at_k(n, c, k) for c in range(n + 1)])
    arm = np.mean([table[rng.binomial(n, q)] for _ in range(seeds)], axis=0)
    d = arm - table[rng.binomial(n, p)] + shift
    error = d.std(axis=1, ddof=1) / math.sqrt(d.shape[1])
    return float(np.mean(np.abs(d.mean(axis=1)) > NormalDist().inv_cdf(0.975) * error))


@pytest.mark.parametrize(("n", "k", "seeds", "power"), [(8, 4, 2, 0.8), (4, 1, 1, 0.9)])
def test_the_promised_power_is_reached(n: int, k: int, seeds: int, power: float) -> None:
    effect, correlation, experiments = 0.05, 0.7, 1500
    ask = Ask(effect, (k,), power, seeds=seeds)
    expected = assumed(0.4, math.sqrt(0.24 / 3.5), correlation, (k,))  # Beta(1, 1.5)
    (design,) = designs(expected, ask, (n,))
    rng = np.random.default_rng(5)
    p, other = rng.beta(1, 1.5, (2, experiments, design.problems))
    q = np.where(rng.random(p.shape) < correlation, p, other)
    share = found_share(p, q, n, k, seeds, effect)
    assert share == pytest.approx(power, abs=3 * math.sqrt(power * (1 - power) / experiments))


def test_power_planned_from_two_pilots_is_reached() -> None:
    """An arm that solves a part of what is left on half of the problems, and nothing elsewhere."""

    def world(rng: np.random.Generator, *shape: int) -> tuple[Shares, Shares]:
        p = rng.beta(0.8, 1.2, shape)
        return p, p + 0.2 * (1 - p) * (rng.random(shape) < 0.5)

    p, q = world(np.random.default_rng(1), 1000)
    effect = 0.2 * 0.6 / 2
    expected = of_pair(sampled(p, 8, 2), sampled(q, 8, 3), (1,))
    (design,) = designs(expected, Ask(effect, (1,), seeds=3), (8,))
    p, q = world(np.random.default_rng(4), 1500, design.problems)
    assert found_share(p, q, 8, 1, 3, 0.0) == pytest.approx(0.8, abs=0.06)


# costs --------------------------------------------------------------------------------------------

PILOT = Usage(calls=10, prompt_tokens=1000, cached_tokens=200, completion_tokens=8000, seconds=40)


def test_a_bill_by_hand() -> None:
    """10 problems x 8 samples in one call each, to 100 x 16: prompts x 10, replies x 20."""
    rate = Rate(PILOT, 10, 80, wall=20.0, price=Price(1.0, 0.5, 2.0))
    bill = rate.bill(100, 16)
    assert bill.usage == Usage(100, 10_000, 2_000, 160_000, 0, 800.0)
    assert bill.wall == 400.0
    assert bill.usd == pytest.approx((8_000 * 1.0 + 2_000 * 0.5 + 160_000 * 2.0) / 1e6)
    assert rate.bill(100, 16, times=3).usage.completion_tokens == 480_000


def test_where_every_sample_is_a_call_prompts_grow_with_samples() -> None:
    bill = Rate(replace(PILOT, calls=80), 10, 80).bill(100, 16)
    assert (bill.usage.calls, bill.usage.prompt_tokens) == (1600, 20_000)
    assert (bill.wall, bill.usd) == (None, None)


def test_arms_are_billed_at_their_own_rate() -> None:
    base = Rate(PILOT, 10, 80, 20.0, Price(1.0, 1.0, 1.0))
    arm = replace(base, usage=replace(PILOT, completion_tokens=16_000), wall=None)
    ask = Ask(0.1, (1,), arms=3, seeds=2)
    (design,) = designs(uniform(), ask, (4,), limit=50, rates=(base, arm))
    assert design.bill is not None
    assert design.bill.usage.completion_tokens == 50 * 4 * (100 + 4 * 200)
    assert design.bill.wall is None
    assert design.bill.usd == pytest.approx(
        (design.bill.usage.prompt_tokens + design.bill.usage.completion_tokens) / 1e6
    )
    (alone,) = designs(uniform(), ask, (4,), limit=50)
    assert alone.bill is None


# cautions and refusals ----------------------------------------------------------------------------


def test_every_caution_is_told_where_it_applies_and_nowhere_else() -> None:
    expected = replace(uniform((1, 8)), passes={1: 0.5, 8: 0.98}, seen=4, measured=False)
    ask = Ask(0.03, (1, 8), seeds=2)
    small = designs(expected, ask, (8,), limit=40)[0]
    told = " | ".join(cautions(expected, ask, small))
    for words in (
        "40 problems find no less than", "k = 8 is more than half of 8 samples", "draw 16 samples",
        "Intervals over 40 problems", "At k = 8 the base leaves less room than 3.0 points",
        "fewer than 3 training seeds (2)", "The pilot has 4 samples a problem",
        "correlation 0.5 is assumed",
    ):  # fmt: skip
        assert words in told
    sound = replace(expected, passes={1: 0.5, 8: 0.8}, seen=16, measured=True)
    ask = Ask(0.03, (1, 8), seeds=3)
    (large,) = designs(sound, ask, (16,))
    assert cautions(sound, ask, large) == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"effect": 0.0}, "give 0.03 for 3 points"),
        ({"effect": 3.0}, "give 0.03 for 3 points"),
        ({"effect": 0.1, "ks": ()}, "needs k >= 1"),
        ({"effect": 0.1, "arms": 1}, "two arms"),
        ({"effect": 0.1, "seeds": 0}, "one seed"),
    ],
)
def test_questions_that_cannot_be_asked(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Ask(**settings)  # type: ignore[arg-type]


def test_expectations_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="No skill has mean"):
        assumed(0.5, 0.6, 0.8, (1,))
    with pytest.raises(ConfigError, match=r"lies in \[-1, 1\]"):
        assumed(0.5, 0.2, 1.5, (1,))
    with pytest.raises(ConfigError, match="fits no Beta skill"):
        of_pilot(sampled(np.array([1.0, 1.0]), 4, 0), 0.8, (1,))
    with pytest.raises(ConfigError, match="pass@8 needs as many samples"):
        designs(uniform((8,)), Ask(0.1, (8,)), (4,))
    with pytest.raises(ConfigError, match="2 problems"):
        grid(uniform(), Ask(0.1), (1,), (4,))
