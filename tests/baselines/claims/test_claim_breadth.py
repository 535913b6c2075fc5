"""Claims on strategies, with entropies that can be counted by hand."""

from __future__ import annotations

import math
from itertools import combinations

import pytest

from baselines.claims.breadth import diverse_sft, format_collapse
from tests.baselines.claims.arms import outcome
from tfgrpo.metrics.diversity import entropy
from tfgrpo.types import TaskOutcome


def arm(modes: str, problems: int = 12, right: int | None = None) -> list[TaskOutcome]:
    """Problems whose replies use these strategies, one letter each; the first `right` are right."""
    n = len(modes)
    return [
        outcome(f"p{i}", n if right is None else right, n, modes=list(modes))
        for i in range(problems)
    ]


def test_one_strategy_left_of_two_is_a_loss_of_ln_2() -> None:
    found = format_collapse([arm("aabb")], [arm("aaaa")])
    assert found.value == pytest.approx(-math.log(2))
    assert "50.0% of the base's replies and 100.0% of GRPO's" in found.detail
    assert format_collapse([arm("aaaa")], [arm("aabb")]).value == pytest.approx(math.log(2))


def test_certainty_grows_with_the_number_of_problems() -> None:
    few, many = (
        format_collapse([arm("aabb", size)], [arm("aaab", size)]).verdict for size in (3, 60)
    )
    assert (few, many) == ("inconclusive", "supported")


def test_a_policy_with_more_replies_does_not_look_broader() -> None:
    """All subsets of eight replies that are as many as the other policy gave."""
    found = format_collapse([arm("aabbccdd")], [arm("abcd")])
    subsets = [
        entropy([drawn.count(m) for m in "abcd" if m in drawn])
        for drawn in combinations("aabbccdd", 4)
    ]
    assert found.value == pytest.approx(math.log(4) - sum(subsets) / len(subsets))


def test_only_right_replies_count_for_breadth_that_is_kept() -> None:
    base, kept = arm("abcdab", 60, right=2), arm("abaaaa", 60, right=2)
    found = diverse_sft([base], [kept])
    assert found.value == pytest.approx(0)
    assert found.verdict == "supported"
    lost = diverse_sft([arm("abab", 60)], [arm("aaaa", 60)])
    assert lost.value == pytest.approx(-math.log(2))
    assert lost.verdict == "not supported"


def test_problems_with_less_than_two_right_replies_say_nothing() -> None:
    base = [*arm("abab", 60), outcome("hard", 1, 4, modes=list("abab"))]
    tuned = [*arm("abab", 60), outcome("hard", 4, 4, modes=list("aaaa"))]
    found = diverse_sft([base], [tuned])
    assert found.value == 0
    assert "on 60 problems" in found.detail
    with pytest.raises(ValueError, match="draw more samples"):
        diverse_sft([base[60:]], [tuned[60:]])


def test_tasks_without_strategies_are_refused() -> None:
    silent = [outcome(f"p{i}", 2, modes=[None] * 4) for i in range(4)]
    with pytest.raises(ValueError, match="use generated task families"):
        format_collapse([silent], [silent])
