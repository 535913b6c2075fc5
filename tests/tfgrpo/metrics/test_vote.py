from __future__ import annotations

import math
from collections import Counter
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.metrics.pass_at_k import pass_at_k
from tfgrpo.metrics.vote import agreement, best_of_k, maj_at_k

votes = st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=9)


def winners_share(answers: list[str | None], gold: str) -> float:
    tally = Counter(a for a in answers if a is not None)
    if not tally:
        return 0.0
    top = [a for a, n in tally.items() if n == max(tally.values())]
    return (gold in top) / len(top)


def is_gold(answers: list[str | None], gold: str) -> list[bool]:
    return [a == gold for a in answers]


@pytest.mark.parametrize(
    ("answers", "values"),
    [("AAB", [2 / 3, 2 / 3, 1]), ("AABBC", [2 / 5, 2 / 5, 13 / 30, 1 / 2, 1 / 2])],
)
def test_majority_known_values(answers: str, values: list[float]) -> None:
    correct = is_gold(list(answers), "A")
    found = [maj_at_k(list(answers), correct, k) for k in range(1, len(answers) + 1)]
    assert found == pytest.approx(values)


@settings(max_examples=30)
@given(votes)
def test_majority_equals_the_enumeration_of_all_subsets(answers: list[str | None]) -> None:
    for k in range(1, len(answers) + 1):
        subsets = [winners_share(list(s), "a") for s in combinations(answers, k)]
        expected = math.fsum(subsets) / len(subsets)
        assert maj_at_k(answers, is_gold(answers, "a"), k) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30)
@given(votes, st.randoms(use_true_random=False))
def test_majority_ignores_order_and_names(answers: list[str | None], random: Random) -> None:
    shuffled = sorted(answers, key=lambda _: random.random())
    renamed = [None if a is None else "dcba"["abcd".index(a)] for a in answers]
    for k in range(1, len(answers) + 1):
        value = maj_at_k(answers, is_gold(answers, "a"), k)
        assert maj_at_k(shuffled, is_gold(shuffled, "a"), k) == value
        assert maj_at_k(renamed, is_gold(renamed, "d"), k) == pytest.approx(value)
    assert maj_at_k(answers, is_gold(answers, "a"), 1) == pytest.approx(
        answers.count("a") / len(answers)
    )


def test_shares_of_all_answers_sum_to_the_chance_that_anyone_votes() -> None:
    answers = ["a"] * 5 + ["b"] * 4 + ["c"] * 4 + [None] * 6
    for k in (1, 3, 6, 7):
        total = math.fsum(maj_at_k(answers, is_gold(answers, x), k) for x in "abc")
        assert total == pytest.approx(pass_at_k(19, 13, k))


def test_two_answers_among_many_samples_follow_the_hypergeometric_law() -> None:
    n, c, k = 300, 160, 101
    ways = sum(math.comb(c, j) * math.comb(n - c, k - j) for j in range(51, k + 1))
    answers: list[str | None] = ["a"] * c + ["b"] * (n - c)
    expected = ways / math.comb(n, k)
    assert maj_at_k(answers, is_gold(answers, "a"), k) == pytest.approx(expected, rel=1e-10)


def test_voting_sharpens_what_is_likely_and_buries_what_is_not() -> None:
    answers: list[str | None] = ["a"] * 40 + ["b"] * 24
    good = [maj_at_k(answers, is_gold(answers, "a"), k) for k in (1, 9, 33)]
    poor = [maj_at_k(answers, is_gold(answers, "b"), k) for k in (1, 9, 33)]
    assert good == sorted(good)
    assert poor == sorted(poor, reverse=True)


def test_an_answer_graded_both_ways_counts_by_its_share_right() -> None:
    assert maj_at_k(["a", "a", "b"], [True, False, False], 3) == pytest.approx(0.5)
    assert maj_at_k(["a", "a", "b"], [True, False, False], 1) == pytest.approx(1 / 3)


def test_nobody_wins_without_answers() -> None:
    assert maj_at_k([None, None], [False, False], 2) == 0.0


def test_best_of_k_known_values() -> None:
    correct = [False, True, True, False, True]
    assert best_of_k([5, 4, 3, 2, 1], correct, 2) == pytest.approx(0.5)
    for rank, weight in enumerate((0.4, 0.3, 0.2, 0.1, 0.0)):
        only = [i == rank for i in range(5)]
        assert best_of_k([5, 4, 3, 2, 1], only, 2) == pytest.approx(weight)


scored = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=30)
@given(scored)
def test_best_of_k_equals_the_enumeration_of_all_subsets(rows: list[tuple[int, bool]]) -> None:
    scores, correct = [float(s) for s, _ in rows], [ok for _, ok in rows]
    for k in range(1, len(rows) + 1):
        picks = []
        for subset in combinations(rows, k):
            best = [ok for s, ok in subset if s == max(s for s, _ in subset)]
            picks.append(sum(best) / len(best))
        expected = sum(picks) / len(picks)
        assert best_of_k(scores, correct, k) == pytest.approx(expected)
        assert best_of_k(scores, correct, k) <= pass_at_k(len(rows), sum(correct), k) + 1e-12


@given(scored)
def test_a_perfect_score_reaches_pass_at_k_and_a_constant_one_pass_at_1(
    rows: list[tuple[int, bool]],
) -> None:
    correct = [ok for _, ok in rows]
    n, c = len(correct), sum(correct)
    for k in range(1, n + 1):
        assert best_of_k([float(ok) for ok in correct], correct, k) == pytest.approx(
            pass_at_k(n, c, k)
        )
        assert best_of_k([0.5] * n, correct, k) == pytest.approx(c / n)


def test_agreement_leaves_the_sample_itself_out() -> None:
    assert agreement(["a", "a", "b", None, "a"]) == (0.5, 0.5, 0.0, None, 0.5)
    assert agreement(["a"]) == (None,)
    assert agreement([]) == ()


def test_the_undefined_raises() -> None:
    for k in (0, 3):
        with pytest.raises(ValueError, match=r"k must be|undefined for 2 samples"):
            maj_at_k(["a", "b"], [True, False], k)
        with pytest.raises(ValueError, match=r"k must be|undefined for 2 samples"):
            best_of_k([1.0, 2.0], [True, False], k)
    with pytest.raises(ValueError, match="cannot be ranked"):
        best_of_k([1.0, math.nan], [True, False], 1)
    with pytest.raises(ValueError, match="shorter"):
        maj_at_k(["a", "b"], [True], 1)
