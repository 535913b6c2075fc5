"""Group-relative advantages and what a group can teach."""

from __future__ import annotations

import math
from random import Random
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.advantage import GroupKind, centred, group_kind, is_informative, standardised

Rewards = st.lists(st.floats(-10, 10), min_size=1, max_size=12)


def test_golden_values() -> None:
    assert centred((1.0, 0.0, 0.0, 1.0)) == (0.5, -0.5, -0.5, 0.5)
    assert centred((1.0, 0.0, 0.0, 0.0)) == (0.75, -0.25, -0.25, -0.25)
    std = math.sqrt(3) / 4
    assert standardised((1.0, 0.0, 0.0, 0.0), epsilon=0.0) == pytest.approx(
        (0.75 / std, *[-0.25 / std] * 3)
    )
    assert standardised((1.0, 0.0)) == pytest.approx((0.5 / 0.5001, -0.5 / 0.5001))


def test_no_rewards_have_no_advantages() -> None:
    assert centred(()) == standardised(()) == ()


@given(st.floats(-10, 10))
def test_a_group_of_one_compares_with_nothing(reward: float) -> None:
    """Its advantage is 0, not its raw reward."""
    assert centred((reward,)) == standardised((reward,)) == (0.0,)
    assert group_kind((reward,)) == "insufficient"


@given(Rewards, st.floats(-5, 5))
def test_advantages_are_centred_and_ignore_a_shift(rewards: list[float], shift: float) -> None:
    advantages = centred(rewards)
    assert len(advantages) == len(rewards)
    assert math.fsum(advantages) == pytest.approx(0, abs=1e-9)
    assert centred([r + shift for r in rewards]) == pytest.approx(advantages, abs=1e-9)
    assert advantages == pytest.approx([r - fmean(rewards) for r in rewards], abs=1e-9)


@given(Rewards)
def test_standardised_is_centred_over_the_population_deviation(rewards: list[float]) -> None:
    expected = [a / (pstdev(rewards) + 1e-4) for a in centred(rewards)]
    assert standardised(rewards) == pytest.approx(expected, abs=1e-6)
    assert all(abs(a) <= math.sqrt(len(rewards)) for a in standardised(rewards))


@pytest.mark.parametrize(
    ("rewards", "kind"),
    [
        ((), "insufficient"),
        ((1.0,), "insufficient"),
        ((0.0, 1.0), "mixed"),
        ((-1.0, -0.5), "mixed"),
        ((3.0, 5.0, 3.0), "mixed"),
        ((0.2, 0.8), "mixed"),
        ((1.0, 1.0), "all_pass"),
        ((2.0, 2.0), "all_pass"),
        ((0.0, 0.0, 0.0), "all_fail"),
        ((-1.0, -1.0), "all_fail"),
        ((0.5, 0.5), "constant"),
        ((1.0, 1.0 - 1e-9), "all_pass"),
    ],
)
def test_kinds_of_groups(rewards: tuple[float, ...], kind: GroupKind) -> None:
    assert group_kind(rewards) == kind
    assert is_informative(rewards) == (kind == "mixed")


@given(Rewards, st.randoms(use_true_random=False))
def test_what_a_group_teaches_does_not_depend_on_its_order(
    rewards: list[float], random: Random
) -> None:
    shuffled = random.sample(rewards, len(rewards))
    assert is_informative(rewards) == is_informative(shuffled)
    assert not is_informative(rewards) or any(centred(shuffled))
