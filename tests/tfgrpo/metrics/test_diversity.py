from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.metrics.diversity import (
    UNREAD,
    ModeAccuracy,
    answer_entropy,
    chao1,
    distinct_answers,
    distinct_at_k,
    distinct_correct_at_k,
    effective_modes,
    entropy,
    expected_classes,
    miller_madow,
    mode_accuracy,
    mode_histogram,
    rarefied_entropy,
    token_entropy,
    token_entropy_bounds,
)
from tfgrpo.metrics.pass_at_k import pass_at_k
from tfgrpo.types import TaskOutcome

Sample = tuple[str | None, bool, str | None]
small_counts = st.lists(st.integers(1, 4), min_size=1, max_size=4).filter(lambda c: sum(c) <= 9)
labels = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=12)
samples = st.lists(
    st.tuples(st.sampled_from(["1", "2", "3"]), st.booleans(), st.sampled_from(["x", "y", None])),
    min_size=1,
    max_size=8,
)


def outcome(
    rows: list[Sample],
    dataset: str = "sum",
    entropies: tuple[float | None, ...] | None = None,
    lengths: tuple[int, ...] | None = None,
) -> TaskOutcome:
    answers, correct, modes = zip(*rows, strict=True) if rows else ((), (), ())
    n = len(rows)
    return TaskOutcome(
        "t", dataset, correct, answers, modes, entropies or (None,) * n, lengths or (1,) * n
    )


def multinomial(n: int, p: tuple[float, ...]) -> list[tuple[tuple[int, ...], float]]:
    found = []
    for counts in product(range(n + 1), repeat=len(p)):
        if sum(counts) == n:
            ways = math.factorial(n) // math.prod(map(math.factorial, counts))
            weight = math.prod(x**c for x, c in zip(p, counts, strict=True))
            found.append((counts, ways * weight))
    return found


def test_entropy_known_values() -> None:
    assert answer_entropy(["a", "a", "b", "a"]) == pytest.approx(0.562335, abs=5e-7)
    assert answer_entropy(["a", "b", "b", "a"]) == pytest.approx(0.693147, abs=5e-7)
    assert entropy([2, 1, 1]) == pytest.approx(1.039721, abs=5e-7)
    assert effective_modes([2, 1, 1]) == pytest.approx(2.828427, abs=5e-7)
    assert math.copysign(1.0, answer_entropy(["a", "a"])) == 1.0


def test_entropy_is_over_samples_not_the_mean_of_class_log_shares() -> None:
    mean_of_class_logs = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    assert mean_of_class_logs == pytest.approx(0.836988, abs=5e-7)
    assert entropy([3, 1]) < mean_of_class_logs - 0.2


def test_no_answer_is_a_class_of_its_own() -> None:
    assert answer_entropy([None, None, None, "a"]) == pytest.approx(entropy([3, 1]))
    assert answer_entropy([None, None]) == 0.0


def test_miller_madow_repairs_large_n_but_not_small_n() -> None:
    """Means over draws from 8 equally frequent classes, whose entropy is ln 8."""
    rng = np.random.default_rng(0)
    for n, plain, corrected in ((8, 1.5567, 1.8225), (64, 2.0233, 2.0779)):
        draws = rng.multinomial(n, [1 / 8] * 8, size=4000).tolist()
        assert np.mean([entropy(d) for d in draws]) == pytest.approx(plain, abs=0.01)
        assert np.mean([miller_madow(d) for d in draws]) == pytest.approx(corrected, abs=0.01)
    assert miller_madow([3, 1, 0]) == pytest.approx(0.562335 + 1 / 8, abs=5e-7)


def test_mean_plug_in_entropy_equals_the_multinomial_law() -> None:
    p, n = 1 / 8, 8
    shares = [(c, math.comb(n, c) * p**c * (1 - p) ** (n - c)) for c in range(1, n + 1)]
    expected = -8 * sum(w * c / n * math.log(c / n) for c, w in shares)
    assert rarefied_entropy([100_000] * 8, n) == pytest.approx(expected, abs=1e-4)


@given(labels)
def test_entropy_properties(answers: list[str | None]) -> None:
    renamed = {"a": "q", "b": None, "c": "a", None: "b"}
    value = answer_entropy(answers)
    assert 0.0 <= value <= math.log(len(answers)) + 1e-12
    assert answer_entropy([renamed[a] for a in reversed(answers)]) == pytest.approx(value)
    assert answer_entropy(answers * 3) == pytest.approx(value)
    counts = Counter(answers).values()
    assert miller_madow(counts) >= value
    assert 1.0 - 1e-12 <= effective_modes(counts) <= len(counts) + 1e-9


@given(small_counts)
def test_rarefied_entropy_equals_enumeration(counts: list[int]) -> None:
    population = [j for j, c in enumerate(counts) for _ in range(c)]
    for k in range(1, len(population) + 1):
        subsets = [entropy(Counter(s).values()) for s in combinations(population, k)]
        assert rarefied_entropy(counts, k) == pytest.approx(
            math.fsum(subsets) / len(subsets), abs=1e-12
        )


@pytest.mark.parametrize(
    ("counts", "values"), [([3, 1], [1, 3 / 2, 7 / 4, 2]), ([2, 1, 1], [1, 11 / 6, 5 / 2, 3])]
)
def test_distinct_at_k_known_values(counts: list[int], values: list[float]) -> None:
    assert [distinct_at_k(counts, k) for k in range(1, 5)] == pytest.approx(values)


@given(small_counts)
def test_distinct_at_k_equals_enumeration(counts: list[int]) -> None:
    population = [j for j, c in enumerate(counts) for _ in range(c)]
    curve = []
    for k in range(1, len(population) + 1):
        subsets = [len(set(s)) for s in combinations(population, k)]
        curve.append(distinct_at_k(counts, k))
        assert curve[-1] == pytest.approx(sum(subsets) / len(subsets))
        assert curve[-1] <= k + 1e-12
    gains = [b - a for a, b in pairwise(curve)]
    assert curve[0] == pytest.approx(1.0)
    assert curve[-1] == pytest.approx(len(counts))
    assert all(g >= -1e-12 for g in gains)
    assert all(later <= g + 1e-12 for g, later in pairwise(gains))


def test_distinct_at_k_is_unbiased() -> None:
    p = (0.5, 0.3, 0.2)
    for k in range(1, 7):
        mean = sum(w * distinct_at_k(counts, k) for counts, w in multinomial(6, p))
        assert mean == pytest.approx(sum(1 - (1 - x) ** k for x in p), abs=1e-12)


def test_collision_estimate_follows_from_distinct_at_2() -> None:
    assert distinct_at_k([2, 1, 1], 2) - 1 == pytest.approx(5 / 6)


def test_classes_of_interest_may_be_few_among_all_samples() -> None:
    assert expected_classes(4, [2, 1], 2) == pytest.approx(pass_at_k(4, 2, 2) + pass_at_k(4, 1, 2))
    assert expected_classes(4, [], 2) == 0.0
    with pytest.raises(ValueError, match="5 of 4 samples"):
        expected_classes(4, [5], 2)


def test_unseen_classes_are_bounded_from_those_seen_once_or_twice() -> None:
    assert chao1([3, 2, 1, 1]) == pytest.approx(6.0)
    assert chao1([5, 1, 1, 1]) == pytest.approx(4 + 3)
    assert chao1([4, 3]) == 2.0


@given(small_counts)
def test_unseen_classes_are_never_fewer_than_none(counts: list[int]) -> None:
    assert chao1(counts) >= len(counts)


def test_distinct_answers_does_not_count_missing_answers() -> None:
    o = outcome([("1", True, None), (None, False, None), ("2", False, None), (None, False, None)])
    assert distinct_answers(o, 1) == pytest.approx(0.5)
    assert distinct_answers(o, 4) == pytest.approx(2.0)


def test_distinct_correct_counts_only_what_is_correct() -> None:
    o = outcome([("1+2", True, "x"), ("2+1", True, "x"), ("9", False, "y"), ("1+2", True, None)])
    assert distinct_correct_at_k(o, 4) == pytest.approx(2.0)
    assert distinct_correct_at_k(o, 1) == pytest.approx(3 / 4)
    assert distinct_correct_at_k(o, 2) == pytest.approx(pass_at_k(4, 2, 2) + pass_at_k(4, 1, 2))
    assert distinct_correct_at_k(o, 4, "modes") == pytest.approx(2.0)
    assert distinct_correct_at_k(outcome([("1", False, "x")]), 1) == 0.0


@given(samples)
def test_distinct_correct_equals_enumeration(rows: list[Sample]) -> None:
    o = outcome(rows)
    for k in range(1, len(rows) + 1):
        subsets = list(combinations(rows, k))
        answers = sum(len({a for a, ok, _ in s if ok}) for s in subsets) / len(subsets)
        modes = sum(len({m for _, ok, m in s if ok}) for s in subsets) / len(subsets)
        assert distinct_correct_at_k(o, k) == pytest.approx(answers)
        assert distinct_correct_at_k(o, k, "modes") == pytest.approx(modes)
        solved = pass_at_k(o.n, o.c, k) - 1e-12
        assert solved <= distinct_correct_at_k(o, k) <= k + 1e-12
        assert solved <= distinct_correct_at_k(o, k, "modes") <= k + 1e-12


@given(samples, st.randoms(use_true_random=False))
def test_sample_order_does_not_matter(rows: list[Sample], random: object) -> None:
    shuffled = sorted(rows, key=lambda _: random.random())  # type: ignore[attr-defined]
    a, b = outcome(rows), outcome(shuffled)
    for k in range(1, len(rows) + 1):
        assert distinct_correct_at_k(a, k) == pytest.approx(distinct_correct_at_k(b, k))
        assert distinct_answers(a, k) == pytest.approx(distinct_answers(b, k))
    assert mode_accuracy([a]) == mode_accuracy([b])


def test_modes_per_dataset() -> None:
    outcomes = [
        outcome([("1", True, "once"), ("1", True, "columns")], "sum"),
        outcome([("2", False, "once"), (None, False, None)], "sum"),
        outcome([("3", True, "trial")], "countdown"),
        outcome([], "empty"),
    ]
    assert mode_accuracy(outcomes) == {
        "countdown": {"trial": ModeAccuracy(1.0, 1.0, 1)},
        "sum": {
            "columns": ModeAccuracy(0.25, 1.0, 1),
            "once": ModeAccuracy(0.5, 0.5, 2),
            UNREAD: ModeAccuracy(0.25, 0.0, 1),
        },
    }
    histogram = mode_histogram(outcomes)
    assert histogram["sum"] == {"columns": 0.25, "once": 0.5, UNREAD: 0.25}
    assert list(histogram) == ["countdown", "sum"]


def test_token_entropy_weighs_tokens_and_skips_the_unknown() -> None:
    rows: list[Sample] = [("1", True, None)] * 3
    o = outcome(rows, entropies=(1.0, 0.2, None), lengths=(1, 3, 100))
    assert token_entropy([o]) == pytest.approx((1.0 + 0.6) / 4)
    assert token_entropy([o, outcome(rows)]) == token_entropy([o])
    assert token_entropy([outcome(rows)]) is None
    assert token_entropy([]) is None


def test_bounds_of_token_entropy_weigh_tokens_as_it_does() -> None:
    rows: list[Sample] = [("1", True, None)] * 3
    bounds = ((1.0, 2.0), (0.2, 0.4), None)
    o = replace(outcome(rows, lengths=(1, 3, 100)), entropy_bounds=bounds)
    assert token_entropy_bounds([o, outcome(rows)]) == pytest.approx((0.4, 0.8))
    assert token_entropy_bounds([outcome(rows)]) is None


@pytest.mark.parametrize("k", [0, 5, True])
def test_k_outside_the_samples_raises(k: int) -> None:
    o = outcome([("1", False, None)] * 4)
    with pytest.raises(ValueError, match=r"k must be|undefined for 4 samples"):
        distinct_at_k([3, 1], k)
    with pytest.raises(ValueError, match=r"k must be|undefined for 4 samples"):
        distinct_correct_at_k(o, k)
    with pytest.raises(ValueError, match=r"k must be|undefined for 4 samples"):
        rarefied_entropy([3, 1], k)


def test_no_samples_is_undefined_not_zero() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        answer_entropy([])
    with pytest.raises(ValueError, match="at least one sample"):
        effective_modes([0, 0])
    with pytest.raises(ValueError, match="no negative count"):
        distinct_at_k([3, -1], 1)
