"""Claims on pass@1 and pass@k, on evaluations whose curves are known."""

from __future__ import annotations

import pytest

from baselines.claims.coverage import (
    crossover,
    high_entropy_tokens,
    memorisation,
    on_policy,
    pass_at_k_tradeoff,
)
from tests.baselines.claims.arms import evaluation, outcome

BASE = evaluation(*[2] * 60, n=10)
NARROW = evaluation(*[9, 0] * 30, n=10)
"""pass@1 .45, pass@k .5 from 2 on; the base has .2, .378, .533, so it overtakes at 3."""


def test_the_base_overtakes_a_policy_that_solves_fewer_problems() -> None:
    found = crossover([BASE], [NARROW])
    assert found.value == 3
    assert found.verdict == "supported"
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 3 <= found.high < 10
    assert "100.0% of the draws" in found.detail


def test_a_policy_that_solves_more_everywhere_is_not_overtaken() -> None:
    found = crossover([evaluation(*[1, 0] * 20, n=8)], [evaluation(*[4, 1] * 20, n=8)])
    assert (found.value, found.verdict) == (None, "not supported")
    assert found.detail.startswith("k* is >8 up to k = 8")


def test_meeting_at_the_ceiling_is_not_overtaking_and_proves_nothing() -> None:
    found = crossover([evaluation(*[1] * 40)], [evaluation(*[3] * 40)])
    assert (found.value, found.verdict) == (None, "inconclusive")


def test_without_a_lead_there_is_nothing_to_overtake() -> None:
    found = crossover([NARROW], [BASE])
    assert (found.value, found.low, found.verdict) == (None, None, "inconclusive")


def test_of_three_seeds_each_must_be_overtaken() -> None:
    better = evaluation(*[9] * 60, n=10)
    assert crossover([BASE], [NARROW] * 3).verdict == "supported"
    assert crossover([BASE], [NARROW, NARROW, better]).verdict != "supported"
    assert "by seed: 3, 3, >10" in crossover([BASE], [NARROW, NARROW, better]).detail


def test_the_tradeoff_needs_a_rise_and_a_fall() -> None:
    base = evaluation(*[1] * 40)
    narrow = evaluation(*[4, 0] * 20)
    found = pass_at_k_tradeoff([base], [narrow])
    assert found.value == pytest.approx(-0.5)
    assert found.verdict == "supported"
    assert "pass@1 25.0 to 50.0" in found.detail
    worse = evaluation(*[0] * 40)
    assert pass_at_k_tradeoff([base], [worse]).verdict == "not supported"  # it only falls
    wide = evaluation(*[3, 2] * 20)
    assert pass_at_k_tradeoff([evaluation(*[1, 0] * 20)], [wide]).verdict == "not supported"


def test_methods_are_paired_by_problem_and_seed() -> None:
    grpo = [evaluation(1, 2, 3, 0, *[2] * 30), evaluation(2, 2, 2, 2, *[2] * 30)]
    rloo = [evaluation(2, 3, 4, 1, *[3] * 30), evaluation(3, 3, 3, 3, *[3] * 30)]
    assert on_policy(rloo, grpo).value == pytest.approx(0.25)
    assert on_policy(grpo, rloo).value == pytest.approx(-0.25)
    assert on_policy(grpo, rloo).verdict == "not supported"
    with pytest.raises(ValueError, match="cannot be paired"):
        on_policy(rloo, [*grpo, grpo[0]])


def test_a_fifth_of_the_tokens_against_the_others() -> None:
    base, learned = evaluation(*[1, 2] * 20), evaluation(*[3, 3] * 20)
    found = high_entropy_tokens([base], [learned], [base])
    assert found.value == pytest.approx(0.375)
    assert found.verdict == "supported"
    assert "that fifth 37.5" in found.detail
    assert high_entropy_tokens([base], [base], [learned]).verdict == "not supported"


def test_memory_is_the_gain_on_trained_beyond_that_on_unseen_problems() -> None:
    trained, after = evaluation(*[1, 0] * 8), evaluation(*[4, 3] * 8)
    unseen = [outcome(f"u{i}", 1) for i in range(30)]
    unseen_after = [outcome(f"u{i}", 2) for i in range(30)]
    found = memorisation([trained] * 2, [after] * 2, [unseen], [unseen_after] * 2)
    assert found.value == pytest.approx(0.75 - 0.25)
    assert found.verdict == "supported"
    assert "trained problems 75.0 points, on 30 held-out ones 25.0" in found.detail
    same = memorisation([trained], [after], [trained], [after])
    assert same.value == 0
    assert same.verdict != "supported"
    with pytest.raises(ValueError, match="evaluate both on one set"):
        memorisation([trained], [unseen], [unseen], [unseen_after])
