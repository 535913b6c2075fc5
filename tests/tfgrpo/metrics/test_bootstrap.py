from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.metrics.bootstrap import bootstrap_means, resampled_sums
from tfgrpo.metrics.clusters import cluster_bootstrap, clustered_t, macro_mean
from tfgrpo.metrics.columns import bootstrap_columns, simultaneous_band
from tfgrpo.metrics.estimate import bootstrap_mean, t_interval
from tfgrpo.metrics.proportion import clopper_pearson


def skewed(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(0.3, 1, size)


@pytest.mark.parametrize("size", [1, 7, 300, 3000])
def test_a_column_sees_the_draws_of_the_single_bootstrap(size: int) -> None:
    x = skewed(size)
    sums = resampled_sums(np.column_stack([x, np.ones(size)]), seed=5, resamples=700)
    assert sums.shape == (700, 2)
    assert sums[:, 0] / size == pytest.approx(bootstrap_means(x, seed=5, resamples=700))
    assert (sums[:, 1] == size).all()


def test_columns_share_their_draws() -> None:
    x = skewed(40)
    sums = resampled_sums(np.column_stack([x, 2 * x + 1]), seed=0, resamples=200)
    assert sums[:, 1] == pytest.approx(2 * sums[:, 0] + 40)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=30), st.integers(0, 2**32))
def test_columns_agree_with_the_single_bootstrap(values: list[int], seed: int) -> None:
    x = np.array(values) / 10
    table = np.column_stack([x, np.zeros(x.size), np.ones(x.size)])
    found = bootstrap_columns(table, seed, resamples=500, ceilings=(None, 1.0, None))
    expected = (
        bootstrap_mean(x, seed, resamples=500, ceiling=None),
        bootstrap_mean([0.0] * x.size, seed),
        bootstrap_mean([1.0] * x.size, seed, ceiling=None),
    )
    for a, b in zip(found, expected, strict=True):
        assert (a.value, a.n, a.method) == (b.value, b.n, b.method)
        assert (a.low, a.high) == (pytest.approx(b.low), pytest.approx(b.high))


def test_a_simultaneous_band_is_wider_than_its_points_but_not_for_copies() -> None:
    independent = np.random.default_rng(0).normal(size=(200, 8))
    points = bootstrap_columns(independent, seed=0)
    band = simultaneous_band(independent, seed=0)
    for point, wide in zip(points, band, strict=True):
        assert (wide.value, wide.level) == (point.value, 0.95)
        assert wide.method == "simultaneous bca"
        # Phi^-1((1 + .95^(1/8)) / 2) / Phi^-1(.975) is 1.39
        assert (wide.high - wide.low) / (point.high - point.low) == pytest.approx(1.39, abs=0.1)
    copies = simultaneous_band(np.repeat(independent[:, :1], 8, axis=1), seed=0)
    assert copies[3].low == pytest.approx(points[0].low, abs=1e-4)
    assert copies[3].high == pytest.approx(points[0].high, abs=1e-4)


def test_a_simultaneous_band_stays_where_its_metric_lives() -> None:
    columns = np.column_stack([[0.0] * 30, [0.0] * 28 + [1.0] * 2, [1.0] * 30])
    none, few, every = simultaneous_band(columns, seed=0)
    assert none.low == 0.0 < none.high
    assert 0.0 <= few.low < few.value < few.high < 0.5
    assert every.low < every.high == 1.0


@pytest.mark.parametrize(("successes", "trials"), [(0, 30), (30, 30), (3, 10), (1, 1), (57, 200)])
def test_exact_intervals_equal_scipy(successes: int, trials: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.binomtest(successes, trials).proportion_ci(method="exact")
    ours = clopper_pearson(successes, trials)
    assert (ours.low, ours.high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))
    assert (ours.value, ours.n) == (successes / trials, trials)


def test_exact_intervals_cover_at_least_their_level_everywhere() -> None:
    n = 20
    intervals = [clopper_pearson(c, n, 0.9) for c in range(n + 1)]
    for p in np.linspace(0.01, 0.99, 50):
        law = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
        covered = sum(w for w, i in zip(law, intervals, strict=True) if i.low <= p <= i.high)
        assert covered >= 0.9
    assert clopper_pearson(0, 30).high == pytest.approx(bootstrap_mean([0.0] * 30, seed=0).high)


def test_lone_clusters_are_independent_problems() -> None:
    x = skewed(50)
    names = [f"{i:02}" for i in range(50)]
    alone, plain = cluster_bootstrap(x, names, seed=3), bootstrap_mean(x, seed=3)
    assert (alone.value, alone.n, alone.method) == (plain.value, 50, "cluster bca")
    assert (alone.low, alone.high) == (pytest.approx(plain.low), pytest.approx(plain.high))
    robust, student = clustered_t(x, names), t_interval(x)
    assert (robust.low, robust.high) == (pytest.approx(student.low), pytest.approx(student.high))


def test_copies_inside_clusters_add_no_evidence() -> None:
    x = skewed(40)
    names = [f"{i:02}" for i in range(40)]
    plain, robust = bootstrap_mean(x, seed=3), t_interval(x)
    copied = cluster_bootstrap(np.repeat(x, 5), list(np.repeat(names, 5)), seed=3)
    again = clustered_t(np.repeat(x, 5), list(np.repeat(names, 5)))
    assert copied.n == again.n == 40
    assert (copied.low, copied.high) == (pytest.approx(plain.low), pytest.approx(plain.high))
    assert (again.low, again.high) == (pytest.approx(robust.low), pytest.approx(robust.high))
    naive = bootstrap_mean(np.repeat(x, 5), seed=3)
    assert naive.high - naive.low < 0.6 * (copied.high - copied.low)


def test_cluster_bootstrap_law_equals_its_enumeration() -> None:
    values, names = [0.0, 1.0, 1.0, 0.0, 0.0, 0.5], ["a", "b", "b", "c", "c", "c"]
    members = {n: [v for v, m in zip(values, names, strict=True) if m == n] for n in "abc"}
    law = sorted(
        sum(sum(members[n]) for n in draw) / sum(len(members[n]) for n in draw)
        for draw in product("abc", repeat=3)
    )
    draws = resampled_sums([[0.0, 1], [2.0, 2], [0.5, 3]], seed=0, resamples=20_000)
    ratios = np.sort(draws[:, 0] / draws[:, 1])
    for q in (0.1, 0.35, 0.6, 0.9):
        assert np.quantile(ratios, q) == pytest.approx(law[int(q * 27)], abs=0.02)
    found = cluster_bootstrap(values, names, seed=0)
    assert found.value == pytest.approx(2.5 / 6)
    assert law[0] <= found.low < found.value < found.high <= law[-1]


def test_one_cluster_has_no_interval_and_equal_problems_no_width() -> None:
    for estimate in (cluster_bootstrap([0.1, 0.4], "aa", 0), clustered_t([0.1, 0.4], "aa")):
        assert estimate.value == pytest.approx(0.25)
        assert math.isnan(estimate.low)
    flat = cluster_bootstrap([0.3] * 6, "aabbcc", 0)
    assert (flat.low, flat.high, flat.method) == (flat.value, flat.value, "constant")


def test_datasets_weigh_the_same_whatever_their_size() -> None:
    values = [1.0, 0.0] + [0.2, 0.4] * 20
    strata = ["small"] * 2 + ["large"] * 40
    found = macro_mean(values, strata, seed=0)
    assert found.value == pytest.approx((0.5 + 0.3) / 2)
    assert found.n == 42
    assert found.low == pytest.approx(0.15, abs=0.03)  # the small one draws (0, 0) a quarter
    swapped = macro_mean(values[::-1], strata[::-1], seed=0)
    assert (swapped.value, swapped.low) == (found.value, pytest.approx(found.low, abs=0.02))
    flat = macro_mean([0.1, 0.1, 0.9, 0.9], "aabb", seed=0)
    assert (flat.low, flat.value, flat.high) == (0.5, 0.5, 0.5)


def test_one_dataset_is_the_plain_mean() -> None:
    x = skewed(60)
    plain, alone = bootstrap_mean(x, seed=1), macro_mean(x, ["a"] * 60, seed=1)
    assert alone.value == plain.value
    assert alone.low == pytest.approx(plain.low, rel=0.05)
    assert alone.high == pytest.approx(plain.high, rel=0.05)


def test_unusable_input_raises() -> None:
    with pytest.raises(ValueError, match="row of values per problem"):
        resampled_sums([0.1, 0.2], seed=0, resamples=10)
    with pytest.raises(ValueError, match="row of values per problem"):
        bootstrap_columns([[0.1, math.nan]], seed=0)
    with pytest.raises(ValueError, match="at least 1 resample"):
        resampled_sums([[0.1]], seed=0, resamples=0)
    with pytest.raises(ValueError, match="1 labels for 2 problems"):
        cluster_bootstrap([0.1, 0.2], ["a"], seed=0)
    with pytest.raises(ValueError, match="one problem has no spread"):
        macro_mean([0.1, 0.2, 0.3], "aab", seed=0)
    with pytest.raises(ValueError, match="4 of 3 samples"):
        clopper_pearson(4, 3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        clopper_pearson(1, 3, 95)
