from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.metrics.bootstrap import bootstrap_means
from tfgrpo.metrics.estimate import (
    bootstrap_mean,
    holm,
    minimum_detectable,
    paired_difference,
    seed_summary,
    sign_flip_p,
    t_interval,
)

grid_values = st.integers(-20, 20).map(lambda i: i / 10)
arm = st.dictionaries(st.sampled_from("abcdefghijklm"), grid_values, min_size=2)


def skewed(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(0.3, 1, size)


@pytest.mark.parametrize("values", [[0, 1], [0, 1, 3], [0.1, 0.2, 0.4, 0.4], [0, 0, 1, 1, 5]])
def test_bootstrap_law_equals_its_enumeration(values: list[float]) -> None:
    size = len(values)
    law = Counter(round(sum(draw) / size, 9) for draw in product(values, repeat=size))
    drawn = Counter(np.round(bootstrap_means(values, seed=3, resamples=40_000), 9).tolist())
    assert drawn.keys() == law.keys()
    for mean, ways in law.items():
        assert drawn[mean] / 40_000 == pytest.approx(ways / size**size, abs=0.012)


def test_bootstrap_is_reproducible_and_nearly_the_same_for_another_seed() -> None:
    x = skewed(60)
    first, again, other = (bootstrap_mean(x, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    width = first.high - first.low
    assert abs(first.low - other.low) < 0.03 * width
    assert abs(first.high - other.high) < 0.03 * width


@pytest.mark.parametrize("size", [8, 30, 200])
def test_bca_agrees_with_scipy(size: int) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    x = skewed(size)
    theirs = scipy_stats.bootstrap(
        (x,), np.mean, n_resamples=10_000, rng=np.random.default_rng(9)
    ).confidence_interval
    ours = bootstrap_mean(x, seed=4)
    width = ours.high - ours.low
    assert ours.method == "bca"
    assert ours.low == pytest.approx(theirs.low, abs=0.04 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.04 * width)


def test_coverage_of_the_nominal_95_percent() -> None:
    rng = np.random.default_rng(0)
    truth = 0.3 / 1.3
    covered = 0
    for i in range(300):
        interval = bootstrap_mean(rng.beta(0.3, 1, 30), seed=i, resamples=1000)
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / 300 <= 0.98


def test_skewed_data_get_a_skewed_interval_inside_the_data() -> None:
    x = [0.0] * 28 + [1.0] * 2
    interval = bootstrap_mean(x, seed=0)
    assert interval.high - interval.value > interval.value - interval.low > 0
    assert interval.low >= 0
    assert t_interval(x).low < 0


def test_wider_level_gives_a_wider_interval() -> None:
    x = skewed(40)
    narrow, wide = (bootstrap_mean(x, seed=0, level=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_constant_data_at_a_bound_get_clopper_pearson() -> None:
    none, every = bootstrap_mean([0.0] * 30, seed=0), bootstrap_mean([1.0] * 30, seed=0)
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(0.1157, abs=5e-5)
    assert (every.value, every.high) == (1.0, 1.0)
    assert every.low == pytest.approx(1 - none.high)
    assert none.method == every.method == "clopper-pearson"
    assert bootstrap_mean([0.0] * 30, seed=0, ceiling=8.0).high == pytest.approx(8 * none.high)
    assert bootstrap_mean([8.0] * 30, seed=0, ceiling=8.0).low == pytest.approx(8 * every.low)


def test_other_constant_data_have_no_width_and_one_problem_no_interval() -> None:
    inner = bootstrap_mean([0.3] * 10, seed=0)
    assert (inner.low, inner.high, inner.method) == (0.3, 0.3, "constant")
    amount = bootstrap_mean([0.0] * 10, seed=0, ceiling=None)
    assert (amount.low, amount.high, amount.method) == (0.0, 0.0, "constant")
    single = bootstrap_mean([0.3], seed=0)
    assert single.value == 0.3
    assert math.isnan(single.low)
    assert math.isnan(single.high)


@pytest.mark.parametrize(("size", "quantile"), [(3, 4.303), (5, 2.776), (10, 2.262)])
def test_t_interval_over_seeds(size: int, quantile: float) -> None:
    values = [float(i) for i in range(size)]
    summary = seed_summary(values)
    standard_error = np.std(values, ddof=1) / math.sqrt(size)
    assert (summary.high - summary.value) / standard_error == pytest.approx(quantile, abs=5e-4)
    assert summary.value - summary.low == pytest.approx(summary.high - summary.value)
    assert summary.n == size


def test_one_seed_has_no_interval() -> None:
    single = seed_summary([0.5])
    assert single.value == 0.5
    assert math.isnan(single.low)
    assert math.isnan(single.high)


def test_sign_flip_known_value() -> None:
    assert sign_flip_p([0.1, 0.2, 0.3], seed=0) == 2 / 8
    assert sign_flip_p([1.0] * 20, seed=0) == 2 / 2**20
    assert sign_flip_p([0.0] * 50, seed=0) == 1.0


@given(st.lists(grid_values, min_size=1, max_size=7))
def test_sign_flip_equals_enumeration(differences: list[float]) -> None:
    tenths = [round(10 * d) for d in differences]
    flips = list(product((-1, 1), repeat=len(tenths)))
    observed = abs(sum(tenths))
    beyond = sum(abs(sum(map(int.__mul__, s, tenths))) >= observed for s in flips)
    assert sign_flip_p(differences, seed=0) == pytest.approx(beyond / len(flips))


def test_sign_flip_by_drawing_is_near_the_exact_law_and_never_zero() -> None:
    differences = [1.0] * 17 + [-1.0] * 8
    exact = 2 * sum(math.comb(25, i) for i in range(9)) / 2**25
    assert sign_flip_p(differences, seed=0) == pytest.approx(exact, abs=0.01)
    assert sign_flip_p(differences, seed=0) != sign_flip_p(differences, seed=1)
    assert sign_flip_p([1.0] * 40, seed=0) == 1 / 10_001


def test_zero_differences_change_no_sign_flip_p() -> None:
    assert sign_flip_p([0.1, 0.2, 0.3] + [0.0] * 100, seed=0) == 2 / 8


@settings(max_examples=25)
@given(arm, st.integers(0, 2**32))
def test_an_arm_against_itself(a: dict[str, float], seed: int) -> None:
    same = paired_difference("pass@1", a, a, seed)
    assert (same.difference.value, same.difference.low, same.difference.high) == (0.0, 0.0, 0.0)
    assert same.p_value == 1.0


@settings(max_examples=25, deadline=None)
@given(arm, arm, st.integers(0, 2**32))
def test_swapping_the_arms_negates(a: dict[str, float], b: dict[str, float], seed: int) -> None:
    if len(a.keys() & b.keys()) < 2:
        return
    forth, back = paired_difference("m", a, b, seed), paired_difference("m", b, a, seed)
    assert (forth.a, forth.b) == (back.b, back.a)
    assert forth.p_value == back.p_value
    assert forth.difference.value == -back.difference.value
    assert forth.difference.low == pytest.approx(-back.difference.high, abs=1e-9)
    assert forth.difference.high == pytest.approx(-back.difference.low, abs=1e-9)


def test_pairs_are_matched_by_id_on_the_intersection() -> None:
    a = {"x": 0.1, "y": 0.2, "z": 0.3, "only a": 9.0}
    b = {"z": 0.6, "only b": -9.0, "y": 0.4, "x": 0.2}
    found = paired_difference("pass@8", a, b, seed=0)
    assert found.name == "pass@8"
    assert (found.a, found.b) == (pytest.approx(0.2), pytest.approx(0.4))
    assert found.difference.value == pytest.approx(0.2)
    assert found.difference.n == 3
    assert found.p_value == 2 / 8
    shuffled = dict(reversed(a.items()))
    assert paired_difference("pass@8", shuffled, b, seed=0) == found


def test_pairing_removes_the_variance_between_problems() -> None:
    x = skewed(50)
    a = {str(i): v for i, v in enumerate(x)}
    b = {str(i): v + 0.02 + 0.01 * (i % 2) for i, v in enumerate(x)}
    paired = paired_difference("m", a, b, seed=0).difference
    alone = bootstrap_mean(x, seed=0)
    assert paired.low > 0
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)


def test_holm_known_value() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_holm_properties(p_values: list[float], random: object) -> None:
    adjusted = holm(p_values)
    assert all(
        p <= q <= min(1.0, len(p_values) * p) for p, q in zip(p_values, adjusted, strict=True)
    )
    assert min(adjusted) == min(1.0, len(p_values) * min(p_values))
    order = sorted(range(len(p_values)), key=lambda _: random.random())  # type: ignore[attr-defined]
    assert holm([p_values[i] for i in order]) == tuple(adjusted[i] for i in order)


@pytest.mark.parametrize(("size", "points"), [(100, 7.0), (300, 4.0), (500, 3.1), (1000, 2.2)])
def test_minimum_detectable_known_values(size: int, points: float) -> None:
    d = np.tile([-1.0, 1.0], size // 2)
    d *= 0.25 / d.std(ddof=1)
    assert 100 * minimum_detectable(d) == pytest.approx(points, abs=0.051)
    assert minimum_detectable(d, power=0.9) > minimum_detectable(d)


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [math.inf], [[0.1, 0.2]]])
def test_unusable_values_raise(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite value per problem"):
        bootstrap_mean(values, seed=0)
    with pytest.raises(ValueError, match="finite value per problem"):
        sign_flip_p(values, seed=0)
    with pytest.raises(ValueError, match="finite value per problem"):
        t_interval(values)


def test_unusable_settings_raise() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap_mean([0.1, 0.2], seed=0, level=95)
    with pytest.raises(ValueError, match="at least 1 resample"):
        bootstrap_mean([0.1, 0.2], seed=0, resamples=0)
    with pytest.raises(ValueError, match="at least 1 draw"):
        sign_flip_p([0.1, 0.2], seed=0, draws=0)
    with pytest.raises(ValueError, match="share no problem for pass@1"):
        paired_difference("pass@1", {"a": 1.0}, {"b": 1.0}, seed=0)
    with pytest.raises(ValueError, match="finite"):
        paired_difference("pass@1", {"a": math.nan}, {"a": 1.0}, seed=0)
    with pytest.raises(ValueError, match=r"p-values in \[0, 1\]"):
        holm([0.5, math.nan])
    with pytest.raises(ValueError, match="at least 2 problems"):
        minimum_detectable([0.1])


def test_large_inputs_stay_small_in_memory() -> None:
    x = skewed(2000)
    tracemalloc.start()
    bootstrap_mean(x, seed=0)
    sign_flip_p(x - 0.2, seed=0)
    sign_flip_p(x[:20], seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
