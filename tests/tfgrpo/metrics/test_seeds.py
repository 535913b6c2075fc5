from __future__ import annotations

import math

import numpy as np
import pytest

from tfgrpo.metrics.estimate import paired_difference, seed_summary
from tfgrpo.metrics.seeds import crossed_mean, seeded_difference


def arm(values: np.ndarray) -> list[dict[str, float]]:
    return [{f"t{i}": float(v) for i, v in enumerate(row)} for row in values]


def table(seed_effects: list[float], problems: int = 40, noise: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array(seed_effects)[:, None] + rng.normal(0, noise, (len(seed_effects), problems))


def test_the_levels_agree_with_their_own_formulas() -> None:
    x, y = table([0.0, 0.1, 0.05]), table([0.3, 0.2, 0.4])
    found = seeded_difference("pass@1", arm(x), arm(y), seed=7)
    assert found.by_seed == pytest.approx(tuple((y - x).mean(axis=1)))
    assert found.seeds == seed_summary(found.by_seed)
    averaged = paired_difference(
        "pass@1", arm(x.mean(axis=0)[None])[0], arm(y.mean(axis=0)[None])[0], 7
    )
    assert found.problems == averaged
    assert found.crossed == crossed_mean(y - x)
    assert found.seeds.n == 3
    assert found.problems.difference.n == 40


def test_a_gain_in_every_seed_holds_but_is_not_called_significant() -> None:
    steady = seeded_difference("m", arm(table([0.0])), arm(table([0.3, 0.3, 0.31])), 0)
    assert (steady.holds, steady.support) == (True, "seed interval")
    uneven = seeded_difference("m", arm(table([0.0])), arm(table([0.05, 0.9, 0.1])), 0)
    assert uneven.seeds.low < 0
    assert (uneven.holds, uneven.support, uneven.agreeing) == (True, "3/3 seeds", 3)


def test_a_lucky_seed_or_too_few_seeds_hold_nothing() -> None:
    lucky = seeded_difference("m", arm(table([0.0])), arm(table([0.9, -0.05, -0.05])), 0)
    assert lucky.problems.difference.low > 0
    assert (lucky.holds, lucky.support) == (False, "1/3 seeds")
    few = seeded_difference("m", arm(table([0.0])), arm(table([0.3, 0.3])), 0)
    assert (few.holds, few.support) == (False, "2/2 seeds")


def test_an_arm_against_itself_and_against_its_mirror() -> None:
    x = table([0.1, 0.2, 0.3])
    same = seeded_difference("m", arm(x), arm(x), 0)
    assert same.by_seed == (0.0, 0.0, 0.0)
    assert (same.problems.p_value, same.holds, same.agreeing) == (1.0, False, 0)
    assert (same.crossed.low, same.crossed.high) == (0.0, 0.0)
    y = table([0.5, 0.1, 0.6])
    forth, back = (seeded_difference("m", arm(a), arm(b), 0) for a, b in ((x, y), (y, x)))
    assert forth.by_seed == pytest.approx(tuple(-d for d in back.by_seed))
    assert forth.crossed.low == pytest.approx(-back.crossed.high)
    assert forth.holds == back.holds


def test_only_problems_that_all_seeds_have_count() -> None:
    a = [{"x": 0.1, "y": 0.2, "z": 0.3}]
    b = [{"x": 0.3, "y": 0.2}, {"y": 0.4, "x": 0.5, "w": 9.0}, {"x": 0.1, "y": 0.4}]
    found = seeded_difference("m", a, b, 0)
    assert found.problems.difference.n == 2
    assert found.by_seed == pytest.approx((0.1, 0.3, 0.1))


def test_crossed_variance_equals_the_textbook_mean_squares() -> None:
    x = table([0.0, 0.4, 0.2], problems=5) + np.linspace(0, 2, 5)
    s, p = x.shape
    m_s = p * x.mean(axis=1).var(ddof=1)
    m_p = s * x.mean(axis=0).var(ddof=1)
    rest = x - x.mean(axis=1, keepdims=True) - x.mean(axis=0) + x.mean()
    m_sp = (rest**2).sum() / ((s - 1) * (p - 1))
    variance = (m_s + m_p - m_sp) / (s * p)
    df = (m_s + m_p - m_sp) ** 2 / (m_s**2 / 2 + m_p**2 / 4 + m_sp**2 / 8)
    stats = pytest.importorskip("scipy.stats")
    found = crossed_mean(x)
    assert found.value == pytest.approx(x.mean())
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, df) * math.sqrt(variance))


def test_crossed_interval_is_at_least_as_wide_as_what_one_level_alone_shows() -> None:
    seeds_only = np.repeat([[0.0], [0.3], [0.6]], 50, axis=1)
    by_seed = seed_summary([0.0, 0.3, 0.6])
    found = crossed_mean(seeds_only)
    assert found.low == pytest.approx(by_seed.low)
    assert found.high == pytest.approx(by_seed.high)
    problems_only = np.repeat(np.random.default_rng(0).normal(size=(1, 50)), 3, axis=0)
    wide = crossed_mean(problems_only)
    error = problems_only[0].std(ddof=1) / math.sqrt(50)
    assert (wide.high - wide.value) / error == pytest.approx(2.0096, abs=5e-4)  # t with df 49


def test_one_seed_or_problem_has_no_crossed_interval() -> None:
    assert math.isnan(crossed_mean([[0.1, 0.2]]).low)
    assert math.isnan(crossed_mean([[0.1], [0.2]]).high)


def test_unusable_input_raises() -> None:
    with pytest.raises(ValueError, match="2 and 3 seeds cannot be paired"):
        seeded_difference("m", arm(table([0, 0])), arm(table([0, 0, 0])), 0)
    with pytest.raises(ValueError, match="0 and 1 seeds"):
        seeded_difference("m", [], arm(table([0])), 0)
    with pytest.raises(ValueError, match="share no problem"):
        seeded_difference("m", [{"x": 1.0}], [{"y": 1.0}], 0)
    with pytest.raises(ValueError, match="drop incomplete problems"):
        crossed_mean([[0.1, math.nan], [0.1, 0.2]])
