from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.metrics.guessing import chance_at_k, guess_floor
from tfgrpo.metrics.pass_at_k import pass_at_k

answers = st.lists(st.sampled_from("abcd"), min_size=1, max_size=6)


def test_blind_guessing_of_known_chance() -> None:
    assert chance_at_k([0.25], 1) == pytest.approx(0.25)
    assert chance_at_k([0.25], 4) == pytest.approx(1 - 0.75**4)
    assert chance_at_k([0.0, 1.0], 3) == pytest.approx(0.5)
    assert chance_at_k([1e-12], 2) == pytest.approx(2e-12, rel=1e-9)


def test_a_guesser_that_never_repeats_itself_does_better() -> None:
    for k in range(1, 5):
        subsets = [0 in s for s in combinations(range(4), k)]
        assert pass_at_k(4, 1, k) == pytest.approx(sum(subsets) / len(subsets))
        assert chance_at_k([1 / 4], k) <= pass_at_k(4, 1, k) + 1e-12


def test_chance_equals_simulation() -> None:
    rng = np.random.default_rng(0)
    guesses = rng.integers(5, size=(20_000, 3))
    assert chance_at_k([0.2], 3) == pytest.approx((guesses == 0).any(axis=1).mean(), abs=0.01)


def test_floor_known_values() -> None:
    train = ["1"] * 5 + ["2"] * 3 + ["3"] * 3 + ["4"]
    test = ["1", "2", "2", "9"]
    assert guess_floor(train, test, 1) == pytest.approx(1 / 4)
    assert guess_floor(train, test, 2) == pytest.approx((1 + 0.5 + 0.5) / 4)
    assert guess_floor(train, test, 3) == pytest.approx(3 / 4)
    assert guess_floor(train, test, 1000) == pytest.approx(3 / 4)


@given(answers, answers, st.integers(1, 5))
def test_floor_is_the_mean_over_all_orders_of_ties(
    train: list[str], test: list[str], k: int
) -> None:
    orders = list(permutations(sorted(set(train))))
    caught = 0.0
    for order in orders:
        top = sorted(order, key=lambda a: -train.count(a))[:k]
        caught += sum(a in top for a in test) / len(test)
    assert guess_floor(train, test, k) == pytest.approx(caught / len(orders))


@given(answers, answers)
def test_floor_rises_with_k_and_ends_at_what_training_has_seen(
    train: list[str], test: list[str]
) -> None:
    curve = [guess_floor(train, test, k) for k in range(1, 6)]
    assert curve == sorted(curve)
    assert curve[-1] == pytest.approx(sum(a in train for a in test) / len(test))


def test_the_undefined_raises() -> None:
    for chances in ([], [0.5, 1.5], [float("nan")]):
        with pytest.raises(ValueError, match="for each problem"):
            chance_at_k(chances, 2)
    with pytest.raises(ValueError, match="k must be"):
        chance_at_k([0.5], 0)
    with pytest.raises(ValueError, match="training and test answers"):
        guess_floor([], ["1"], 1)
