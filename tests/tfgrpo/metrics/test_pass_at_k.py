from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.metrics.pass_at_k import (
    mean_pass_at_k,
    pass_at_k,
    pass_at_k_curve,
    per_task,
    powers_of_two,
)
from tfgrpo.types import TaskOutcome


def outcome(task_id: str, n: int, c: int) -> TaskOutcome:
    correct = tuple(i < c for i in range(n))
    none = (None,) * n
    return TaskOutcome(task_id, "sum", correct, none, none, none, (1,) * n)


def exact(n: int, c: int, k: int) -> Fraction:
    return 1 - Fraction(math.comb(n - c, k), math.comb(n, k))


def binomial(n: int, p: float) -> list[float]:
    return [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]


def sd_at(p: float, n: int, k: int) -> float:
    values = [pass_at_k(n, c, k) for c in range(n + 1)]
    mean = sum(w * v for w, v in zip(binomial(n, p), values, strict=True))
    return math.sqrt(sum(w * (v - mean) ** 2 for w, v in zip(binomial(n, p), values, strict=True)))


@pytest.mark.parametrize(
    ("n", "c", "k", "value"),
    [
        (10, 3, 1, Fraction(3, 10)),
        (10, 3, 5, Fraction(11, 12)),
        (5, 2, 3, Fraction(9, 10)),
        (4, 1, 2, Fraction(1, 2)),
        (100, 5, 10, Fraction(79137, 190120)),
        (200, 1, 100, Fraction(1, 2)),
        (16, 1, 16, Fraction(1)),
        (16, 0, 8, Fraction(0)),
    ],
)
def test_known_values(n: int, c: int, k: int, value: Fraction) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(float(value), rel=1e-15)


def test_equals_the_enumeration_of_all_subsets() -> None:
    for n in range(1, 10):
        for c in range(n + 1):
            samples = [i < c for i in range(n)]
            for k in range(1, n + 1):
                subsets = list(combinations(samples, k))
                hits = sum(any(s) for s in subsets)
                assert pass_at_k(n, c, k) == pytest.approx(hits / len(subsets), rel=1e-14, abs=0)


def test_full_precision_against_exact_rationals_for_large_n() -> None:
    rng = Random(0)
    for _ in range(300):
        n = rng.choice([50, 1000, 8000])
        c, k = rng.randint(1, n), rng.randint(1, n)
        if rng.random() < 0.7:
            c, k = rng.randint(1, min(n, 40)), rng.randint(1, min(n, 200))
        assert pass_at_k(n, c, k) == pytest.approx(float(exact(n, c, k)), rel=2e-15, abs=0)


def test_keeps_the_digits_that_log_gamma_loses() -> None:
    n, c, k = 100_000, 1, 1
    lost = 1 - math.exp(
        math.lgamma(n - c + 1) - math.lgamma(n - c - k + 1) - math.lgamma(n + 1)
        + math.lgamma(n - k + 1)
    )  # fmt: skip
    assert abs(lost / 1e-5 - 1) > 1e-8
    assert pass_at_k(n, c, k) == pytest.approx(1e-5, rel=1e-15)


@pytest.mark.parametrize("n", [1, 2, 7, 16, 64])
@pytest.mark.parametrize("p", [0.0, 0.02, 0.1, 0.5, 0.9, 1.0])
def test_unbiased(n: int, p: float) -> None:
    for k in {1, (n + 1) // 2, n}:
        mean = sum(w * pass_at_k(n, c, k) for c, w in enumerate(binomial(n, p)))
        assert mean == pytest.approx(1 - (1 - p) ** k, abs=1e-12)


counts = st.integers(1, 400).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)


@given(counts)
def test_shape(nck: tuple[int, int, int]) -> None:
    n, c, k = nck
    value = pass_at_k(n, c, k)
    assert 0.0 <= value <= 1.0
    assert math.copysign(1.0, value) == 1.0
    assert (value == 1.0) == (n - c < k) or value == pytest.approx(1.0, abs=1e-15)
    assert pass_at_k(n, c, 1) == pytest.approx(c / n, rel=1e-15)
    if c:
        assert value == pass_at_k(n, k, c)
    if k < n:
        assert pass_at_k(n, c, k + 1) >= value - 1e-15
    if c < n:
        assert pass_at_k(n, c + 1, k) >= value - 1e-15


@pytest.mark.parametrize(
    ("n", "c", "k", "sentence"),
    [
        (5, 0, 10, "undefined for 5 samples"),
        (0, 0, 1, "undefined for 0 samples"),
        (5, 6, 1, "6 of 5 samples cannot be correct"),
        (5, 2, 0, "k must be an integer"),
        (5, 2, -1, "k must be an integer"),
        (5, -1, 2, "integers >= 0"),
        (-5, -6, 2, "integers >= 0"),
        (5, True, 2, "integers >= 0"),
        (5, 2, True, "k must be an integer"),
        (5.0, 2, 2, "integers >= 0"),
        (5, 2, 2.0, "k must be an integer"),
        (5, math.nan, 2, "integers >= 0"),
    ],
)
def test_the_undefined_raises(n: int, c: int, k: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        pass_at_k(n, c, k)


def test_numpy_integers_are_integers() -> None:
    assert pass_at_k(np.int64(10), np.int64(3), np.int64(5)) == pytest.approx(11 / 12)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("p", "n", "biased", "true"), [(0.1, 16, 0.65930, 0.81470), (0.02, 64, 0.55947, 0.72555)]
)
def test_differs_from_the_plug_in_which_is_biased_low(
    p: float, n: int, biased: float, true: float
) -> None:
    plug_in = sum(w * (1 - (1 - c / n) ** n) for c, w in enumerate(binomial(n, p)))
    ours = sum(w * pass_at_k(n, c, n) for c, w in enumerate(binomial(n, p)))
    assert plug_in == pytest.approx(biased, abs=5e-6)
    assert ours == pytest.approx(true, abs=5e-6)


def test_differs_from_resampling_samples_with_replacement() -> None:
    rng = np.random.default_rng(0)
    samples = np.arange(8) < 1
    resampled = samples[rng.integers(8, size=(20_000, 8))].any(axis=1).mean()
    assert resampled == pytest.approx(0.656, abs=0.01)
    assert pass_at_k(8, 1, 8) == 1.0


def test_less_noisy_than_any_of_the_first_k() -> None:
    share = 1 - 0.9**8
    assert math.sqrt(share * (1 - share)) == pytest.approx(0.495, abs=5e-4)
    assert sd_at(0.1, 16, 8) == pytest.approx(0.314, abs=5e-4)


@pytest.mark.parametrize(
    ("n", "sd"), [(16, 0.496), (32, 0.315), (64, 0.212), (128, 0.146), (256, 0.102)]
)
def test_noise_of_one_problem_falls_with_n(n: int, sd: float) -> None:
    assert sd_at(0.05, n, 16) == pytest.approx(sd, abs=5e-4)


def test_mean_weighs_tasks_equally_and_ignores_order() -> None:
    outcomes = [outcome("a", 10, 3), outcome("b", 5, 2), outcome("c", 4, 0)]
    assert mean_pass_at_k(outcomes, 3) == pytest.approx((17 / 24 + 9 / 10 + 0) / 3)
    assert mean_pass_at_k(outcomes[::-1], 3) == pytest.approx(mean_pass_at_k(outcomes, 3))
    assert per_task(outcomes, 3).tolist() == pytest.approx([17 / 24, 0.9, 0.0])


def test_curve_of_the_crossover_example() -> None:
    base = [outcome("a", 10, 2), outcome("b", 10, 2)]
    tuned = [outcome("a", 10, 9), outcome("b", 10, 0)]
    assert list(pass_at_k_curve(base, (1, 2, 3)).values()) == pytest.approx(
        [0.2, 0.3778, 0.5333], abs=1e-4
    )
    assert pass_at_k_curve(tuned, (1, 2, 3)) == pytest.approx({1: 0.45, 2: 0.5, 3: 0.5})


def test_short_tasks_raise_or_are_dropped_but_never_padded() -> None:
    outcomes = [outcome("a", 8, 4), outcome("b", 3, 1)]
    assert np.isnan(per_task(outcomes, 4)).tolist() == [False, True]
    with pytest.raises(ValueError, match="1 of 2 tasks have fewer than 4"):
        mean_pass_at_k(outcomes, 4)
    kept = mean_pass_at_k(outcomes, 4, allow_missing=True)
    assert kept == pytest.approx(pass_at_k(8, 4, 4))
    padded = (pass_at_k(8, 4, 4) + pass_at_k(8, 1, 4)) / 2
    assert abs(kept - padded) > 0.1
    with pytest.raises(ValueError, match="No task has 9"):
        mean_pass_at_k(outcomes, 9, allow_missing=True)
    with pytest.raises(ValueError, match="No task"):
        mean_pass_at_k([], 1)


def test_agrees_with_scorio() -> None:
    scorio = pytest.importorskip("scorio.eval")
    rng = np.random.default_rng(1)
    grid = (rng.random((12, 20)) < rng.random((12, 1))).astype(int)
    outcomes = [outcome(str(i), 20, int(row.sum())) for i, row in enumerate(grid)]
    for k in range(1, 21):
        assert mean_pass_at_k(outcomes, k) == pytest.approx(scorio.pass_at_k(grid, k), rel=1e-12)


def test_powers_of_two() -> None:
    assert powers_of_two(1) == (1,)
    assert powers_of_two(64) == (1, 2, 4, 8, 16, 32, 64)
    assert powers_of_two(63) == (1, 2, 4, 8, 16, 32)
    with pytest.raises(ValueError, match="at least 1"):
        powers_of_two(0)
