from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.metrics.estimate import minimum_detectable
from tfgrpo.metrics.pass_at_k import pass_at_k
from tfgrpo.metrics.power import plans, problems_needed
from tfgrpo.metrics.spread import (
    Skill,
    Spread,
    fit_skill,
    paired_spread,
    pass_spread,
    pilot_spread,
    sampling_sd,
)
from tfgrpo.types import TaskOutcome

AIME = Skill(0.6, 0.35)


def arm(skills: np.ndarray, n: int, seed: int) -> list[TaskOutcome]:
    rng, none = np.random.default_rng(seed), (None,) * n
    return [
        TaskOutcome(str(i), "sum", tuple((rng.random(n) < p).tolist()), none, none, none, (1,) * n)
        for i, p in enumerate(skills)
    ]


@pytest.mark.parametrize(
    ("n", "sd"), [(16, 0.496), (32, 0.315), (64, 0.212), (128, 0.146), (256, 0.102)]
)
def test_sampling_noise_of_one_problem(n: int, sd: float) -> None:
    assert sampling_sd(0.05, n, 16) == pytest.approx(sd, abs=5e-4)
    assert sampling_sd(1.0, n, 16) == 0.0


def test_thirty_problems_are_few() -> None:
    """30 problems x 32 samples: +-12.5 points for one arm, +-3.0 for one policy run twice."""
    spread = pass_spread(AIME, 32, 1)
    alone = 1.96 * math.sqrt(spread.total / 30)
    twice = 1.96 * math.sqrt(paired_spread(spread, 1.0).total / 30)
    assert (round(100 * alone, 1), round(100 * twice, 1)) == (12.5, 3.0)


def test_spread_at_one_sample_is_bernoulli() -> None:
    spread = pass_spread(AIME, 1, 1)
    m = AIME.mean
    assert spread.total == pytest.approx(m * (1 - m))
    assert spread.between == pytest.approx(m * (1 - m) / (AIME.a + AIME.b + 1))


@pytest.mark.parametrize(("n", "k"), [(8, 1), (8, 4), (16, 16), (64, 16)])
def test_spread_equals_integration_over_skills(n: int, k: int) -> None:
    quad = pytest.importorskip("scipy.integrate").quad
    pdf = pytest.importorskip("scipy.stats").beta(0.8, 1.7).pdf
    first, second, within = (
        quad(lambda p, g=g: g(p) * pdf(p), 0, 1, limit=200)[0]
        for g in (
            lambda p: 1 - (1 - p) ** k,
            lambda p: (1 - (1 - p) ** k) ** 2,
            lambda p: sampling_sd(p, n, k) ** 2,
        )
    )
    found = pass_spread(Skill(0.8, 1.7), n, k)
    assert found.between == pytest.approx(second - first**2, rel=1e-6)
    assert found.within == pytest.approx(within, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 5), st.floats(0.1, 5), st.integers(1, 40), st.data())
def test_more_samples_never_add_noise(a: float, b: float, n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    skill = Skill(a, b)
    few, many = pass_spread(skill, n, k), pass_spread(skill, n + 5, k)
    assert few.between == pytest.approx(many.between, abs=1e-12)
    assert -1e-12 <= many.within <= few.within + 1e-12
    assert few.total <= 0.25 + 1e-12


def test_a_pilot_recovers_its_skill() -> None:
    rng = np.random.default_rng(0)
    skill = fit_skill(arm(rng.beta(0.6, 1.4, 4000), 8, seed=1))
    assert (skill.a, skill.b) == (pytest.approx(0.6, rel=0.1), pytest.approx(1.4, rel=0.1))


def test_moments_of_skill_are_unbiased_by_enumeration() -> None:
    """All results of 2 tasks x 2 samples at known chances: E[square] and E[product] are exact."""
    p, squares, products = (0.3, 0.8), 0.0, 0.0
    for c in np.ndindex(3, 3):
        weight = math.prod(
            math.comb(2, x) * q**x * (1 - q) ** (2 - x) for x, q in zip(c, p, strict=True)
        )
        squares += weight * sum(x * (x - 1) / 2 for x in c) / 2
        products += weight * ((sum(c) / 2) ** 2 - sum((x / 2) ** 2 for x in c)) / 2
    assert squares == pytest.approx((0.09 + 0.64) / 2)
    assert products == pytest.approx(0.3 * 0.8)


def test_a_fitted_skill_has_the_moments_of_its_pilot() -> None:
    counts, none = [0, 1, 3, 4], (None,) * 4
    pilot = [
        TaskOutcome(str(c), "sum", tuple(i < c for i in range(4)), none, none, none, (1,) * 4)
        for c in counts
    ]
    skill = fit_skill(pilot)
    square = sum(c * (c - 1) / 12 for c in counts) / 4  # 3/8
    product = (2**2 - sum((c / 4) ** 2 for c in counts)) / 12  # 19/96
    assert skill.mean == pytest.approx(0.5)
    # Var p = mean (1 - mean) / (a + b + 1), with mean - product standing for mean (1 - mean)
    assert skill.a + skill.b + 1 == pytest.approx((0.5 - product) / (square - product))


def test_a_paired_pilot_predicts_the_spread_at_other_sample_sizes() -> None:
    rng = np.random.default_rng(3)
    p = rng.beta(1.0, 1.5, 3000)
    q = np.clip(p + rng.normal(0.05, 0.08, p.size), 0, 1)
    pilot = pilot_spread(arm(p, 8, 1), arm(q, 8, 2), n=32, k=4)
    a, b = arm(p, 32, 3), arm(q, 32, 4)
    d = [pass_at_k(32, y.c, 4) - pass_at_k(32, x.c, 4) for x, y in zip(a, b, strict=True)]
    assert pilot.total == pytest.approx(np.var(d, ddof=1), rel=0.12)
    assert pilot.between == pytest.approx(np.var((1 - p) ** 4 - (1 - q) ** 4), rel=0.25)


def test_the_same_policy_twice_shows_no_difference_between_problems() -> None:
    p = np.random.default_rng(0).beta(0.8, 0.8, 2000)
    twice = pilot_spread(arm(p, 16, 1), arm(p, 16, 2), n=16, k=1)
    assert twice.between < 0.1 * twice.within
    known = paired_spread(pass_spread(Skill(0.8, 0.8), 16, 1), 1.0)
    assert twice.within == pytest.approx(known.within, rel=0.1)


@pytest.mark.parametrize(("size", "points"), [(100, 7.0), (300, 4.0), (500, 3.1), (1000, 2.2)])
def test_problems_needed_known_values(size: int, points: float) -> None:
    assert problems_needed(0.25**2, points / 100) == pytest.approx(size, rel=0.04)


@given(st.floats(0.001, 0.5), st.floats(0.02, 0.3), st.floats(0.6, 0.95))
def test_problems_needed_inverts_the_detectable_difference(
    variance: float, effect: float, power: float
) -> None:
    size = problems_needed(variance, effect, power)
    if size == 2:
        return

    def reach(problems: int) -> float:
        d = np.resize([-1.0, 1.0], problems)
        d *= math.sqrt(variance) / d.std(ddof=1)
        return minimum_detectable(d, power)

    assert reach(size) <= effect * (1 + 1e-9)
    assert reach(size - 1) >= effect * (1 - 1e-9)


def test_plans_trade_problems_for_samples() -> None:
    spreads = {n: paired_spread(pass_spread(AIME, n, 4), 0.9) for n in (4, 8, 16, 64)}
    made = plans(spreads, effect=0.03)
    assert [p.cost for p in made] == sorted(p.cost for p in made)
    by_samples = sorted(made, key=lambda p: p.samples)
    problems = [p.problems for p in by_samples]
    assert problems == sorted(problems, reverse=True)
    for p in made:
        assert p.problems == problems_needed(spreads[p.samples].total, 0.03)
        assert p.cost == p.problems * p.samples
        assert p.detectable <= 0.03


def test_plans_that_cannot_find_the_effect_say_what_they_can() -> None:
    spreads = {1: Spread(0.02, 0.3), 64: Spread(0.02, 0.005)}
    made = plans(spreads, effect=0.05, problems=100)
    assert [(p.samples, p.problems) for p in made] == [(64, 79), (1, 100)]
    assert made[0].detectable <= 0.05 < made[1].detectable
    assert made[1].detectable == pytest.approx(2.8016 * math.sqrt(0.32 / 100), rel=1e-4)


def test_unusable_input_raises() -> None:
    with pytest.raises(ValueError, match="is no skill"):
        Skill(0.0, 1.0)
    with pytest.raises(ValueError, match="undefined for 4 samples"):
        pass_spread(AIME, 4, 5)
    with pytest.raises(ValueError, match=r"lies in \[-1, 1\]"):
        paired_spread(Spread(0.1, 0.1), 1.5)
    with pytest.raises(ValueError, match="fits no Beta skill"):
        fit_skill(arm(np.array([1.0, 1.0]), 4, 0))
    with pytest.raises(ValueError, match="pilot of 1 task"):
        fit_skill(arm(np.array([0.5]), 4, 0))
    with pytest.raises(ValueError, match="fewer than 2"):
        fit_skill([*arm(np.array([0.5, 0.5]), 4, 0), *arm(np.array([0.5]), 1, 0)])
    with pytest.raises(ValueError, match="at least 2 shared tasks"):
        pilot_spread(arm(np.array([0.5]), 4, 0), arm(np.array([0.5]), 4, 0), 8, 1)
    for variance, effect in ((-1.0, 0.1), (0.1, 0.0), (math.nan, 0.1)):
        with pytest.raises(ValueError, match="variance >= 0"):
            problems_needed(variance, effect)
    with pytest.raises(ValueError, match="spread at some n"):
        plans({}, 0.1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        problems_needed(0.1, 0.1, power=80)
    with pytest.raises(ValueError, match="chance must lie"):
        sampling_sd(1.5, 4, 2)
