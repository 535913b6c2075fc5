"""The declared rule: what a value, its interval and its seeds may be said to show."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.claims.finding import (
    both,
    cluster_sums,
    difference,
    judged,
    of_difference,
    of_sums,
    spread,
    unseen_share,
    verdict,
)
from baselines.claims.registry import CLAIMS, RUNS, Rule, claim, needed
from tests.baselines.claims.arms import evaluation
from tfgrpo.errors import ConfigError

RISES = Rule("x", "points", low=0.0, smallest=2.0)
FALLS = Rule("x", "points", high=0.0, smallest=2.0)
KEEPS = Rule("x", "points", low=-1.0)
EQUALS = Rule("x", "ratio", 0.9, 1.1)


@pytest.mark.parametrize(
    ("rule", "value", "low", "high", "said"),
    [
        (RISES, 3, 1, 5, "supported"),
        (RISES, 3, -1, 5, "inconclusive"),
        (RISES, 1.5, 1, 2.5, "inconclusive"),  # above 0, but less than what matters
        (RISES, 1, 0.5, 1.5, "not supported"),  # surely too small
        (RISES, -3, -4, -2, "not supported"),
        (RISES, 3, math.nan, math.nan, "inconclusive"),
        (FALLS, -3, -5, -1, "supported"),
        (FALLS, -1, -1.5, -0.5, "not supported"),
        (FALLS, 3, 1, 5, "not supported"),
        (KEEPS, 0, -0.9, 1, "supported"),
        (KEEPS, 0, -1.1, 1, "inconclusive"),
        (KEEPS, -3, -4, -2, "not supported"),
        (EQUALS, 1, 0.95, 1.05, "supported"),
        (EQUALS, 1, 0.85, 1.05, "inconclusive"),
        (EQUALS, 1.3, 1.2, 1.4, "not supported"),
    ],
)
def test_verdicts(rule: Rule, value: float, low: float, high: float, said: str) -> None:
    assert verdict(rule, value, low, high, [value]) == said


def test_three_seeds_must_agree_and_two_need_not() -> None:
    assert verdict(RISES, 3, 1, 5, [7, -1]) == "supported"
    assert verdict(RISES, 3, 1, 5, [5, 4, -1]) == "inconclusive"
    assert verdict(RISES, 3, 1, 5, [5, 3, 1]) == "supported"


numbers = st.floats(-10, 10)


@given(st.sampled_from([RISES, FALLS, KEEPS, EQUALS]), numbers, *[st.floats(0, 5)] * 4)
def test_more_data_never_turns_a_verdict_round(
    rule: Rule, value: float, left: float, right: float, more: float, extra: float
) -> None:
    wide = verdict(rule, value, value - left - more, value + right + extra, [value])
    narrow = verdict(rule, value, value - left, value + right, [value])
    assert wide in ("inconclusive", narrow)


def test_of_two_conditions_each_must_hold() -> None:
    words = ("supported", "inconclusive", "not supported")
    for one, two in product(words, words):
        expected = max((one, two), key=words.index)
        assert both(one, two) == expected


def test_a_finding_has_no_number_that_is_none() -> None:
    found = judged(RISES, 1.0, math.nan, math.inf, [1.0, 2.0], "Said.")
    assert (found.value, found.low, found.high) == (1.0, None, None)
    assert found.detail == "Said. By seed: 1, 2."


def test_problems_that_all_agree_do_not_make_certain() -> None:
    """0 of 72 problems fell, and still one in twenty of all problems may."""
    arm = evaluation(*[4] * 72)
    found = of_difference(FALLS, difference("x", [arm], [arm], lambda o: o.c / o.n), "")
    assert found.value == 0
    assert found.high == -found.low == pytest.approx(1 - 0.025 ** (1 / 72))
    assert (1 - unseen_share(72)) ** 72 == pytest.approx(0.025)


def test_a_statistic_of_sums_is_drawn_by_whole_clusters() -> None:
    values, clusters = np.array([1.0, 5.0, 2.0, 9.0]), np.array([7, 7, 3, 9])
    sums = cluster_sums([np.ones(4), values], clusters)
    assert sums.tolist() == [[1, 2], [2, 6], [1, 9]]
    found = of_sums([sums], lambda t: t[..., 1] / t[..., 0], "test")
    drawn = [sums[list(i)].sum(axis=0) for i in product(range(3), repeat=3)]
    means = sorted(float(y / n) for n, y in drawn)
    assert found.value == pytest.approx(17 / 4)
    # Each of the 27 draws has 3.7% of the mass, so the 2.5% tails are the extreme ones.
    assert (found.low, found.high) == pytest.approx((means[0], means[-1]))


def test_seeds_are_averaged_and_an_undefined_statistic_has_no_interval() -> None:
    draws = np.linspace(0, 1, 1001)
    found = spread([1.0, 3.0], draws)
    assert (found.value, found.by_seed) == (2.0, (1.0, 3.0))
    assert (found.low, found.high) == pytest.approx((0.025, 0.975))
    draws[:100] = math.nan
    assert math.isnan(spread([1.0], draws).low)


def test_the_registry_is_whole() -> None:
    for name, entry in CLAIMS.items():
        assert name == entry.id == entry.id.lower()
        assert set(entry.needs) <= set(RUNS)
        assert entry.source.startswith("arXiv")
        assert entry.statement.endswith(".")
        assert math.isfinite(entry.rule.low) or math.isfinite(entry.rule.high)
    assert {name for entry in CLAIMS.values() for name in needed([entry])} == set(RUNS)


def test_no_run_is_made_before_those_that_it_comes_after() -> None:
    order = needed([claim("brier-reward"), claim("within-base"), claim("crossover")])
    assert order == ("taught", "binary", "brier", "base", "grpo", "likelihood")


def test_a_rule_is_told_in_words() -> None:
    assert RISES.text == "x, points: above 0, by at least 2"
    assert FALLS.text == "x, points: below 0, by at least 2"
    assert EQUALS.text == "x, ratio: between 0.9 and 1.1"
    with pytest.raises(ConfigError, match="did you mean entropy-law"):
        claim("entropy-laws")
