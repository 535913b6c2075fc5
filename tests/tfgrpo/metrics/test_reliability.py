from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.metrics.pass_at_k import mean_pass_at_k, pass_at_k, per_task, per_task_curve
from tfgrpo.metrics.reliability import (
    auc_at_k,
    cover_at,
    covers,
    g_pass_at_k,
    log_auc,
    mean_g_pass_at_k,
    pass_hat_k,
)
from tfgrpo.types import TaskOutcome

counts = st.integers(1, 60).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)


def outcome(n: int, c: int) -> TaskOutcome:
    none = (None,) * n
    return TaskOutcome("t", "sum", tuple(i < c for i in range(n)), none, none, none, (1,) * n)


def binomial(n: int, p: float) -> list[float]:
    return [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]


def test_known_values() -> None:
    assert pass_hat_k(10, 7, 3) == pytest.approx(7 / 24)
    assert g_pass_at_k(8, 5, 4, 0.5) == pytest.approx(13 / 14)
    assert g_pass_at_k(8, 5, 4, 0.75) == pytest.approx(1 / 2)
    assert g_pass_at_k(8, 5, 4, 1) == pytest.approx(1 / 14)
    assert mean_g_pass_at_k(8, 5, 4) == pytest.approx(2 / 7)
    assert auc_at_k(8, 2, 8) == pytest.approx(0.625)
    curve = {k: pass_at_k(8, 2, k) for k in (1, 2, 4, 8)}
    assert list(curve.values()) == pytest.approx([1 / 4, 13 / 28, 11 / 14, 1])
    assert log_auc(curve) == pytest.approx(0.625)


def test_thresholds_equal_the_enumeration_of_all_subsets() -> None:
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                hits = [sum(s) for s in combinations([i < c for i in range(n)], k)]
                assert pass_hat_k(n, c, k) == pytest.approx(hits.count(k) / len(hits))
                for tau in (Fraction(1, 3), Fraction(1, 2), Fraction(3, 4)):
                    enough = sum(h >= max(1, tau * k) for h in hits) / len(hits)
                    assert g_pass_at_k(n, c, k, tau) == pytest.approx(enough)


@settings(max_examples=30)
@given(counts)
def test_order_and_limits_of_the_family(nck: tuple[int, int, int]) -> None:
    n, c, k = nck
    assert g_pass_at_k(n, c, k, 0) == pytest.approx(pass_at_k(n, c, k), rel=1e-13)
    assert g_pass_at_k(n, c, k, 1) == pass_hat_k(n, c, k)
    assert pass_hat_k(n, c, k) <= c / n + 1e-12
    assert c / n <= pass_at_k(n, c, k) + 1e-12
    falling = [g_pass_at_k(n, c, k, Fraction(i, k)) for i in range(k + 1)]
    assert falling == sorted(falling, reverse=True)
    upper = falling[(k + 1) // 2 + 1 :]
    assert mean_g_pass_at_k(n, c, k) == pytest.approx(2 / k * sum(upper), abs=1e-12)
    assert pass_hat_k(n, c, k) == pytest.approx(1 - pass_at_k(n, n - c, k), abs=1e-12)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_unbiased(p: float) -> None:
    n, k = 12, 5
    law = binomial(n, p)
    right = [sum(binomial(k, p)[j:]) for j in range(k + 1)]
    assert sum(w * pass_hat_k(n, c, k) for c, w in enumerate(law)) == pytest.approx(p**k)
    for j in range(1, k + 1):
        mean = sum(w * g_pass_at_k(n, c, k, Fraction(j, k)) for c, w in enumerate(law))
        assert mean == pytest.approx(right[j], abs=1e-12)


@pytest.mark.parametrize(("tau", "n", "c"), [(0.07, 100, 7), (0.55, 100, 55), (0.14, 50, 7)])
def test_thresholds_are_decimals_not_floats(tau: float, n: int, c: int) -> None:
    assert math.ceil(tau * n) == c + 1  # what floats would ask for
    assert covers(n, c, tau)
    assert not covers(n, c - 1, tau)
    assert g_pass_at_k(n, c, n, tau) == 1.0
    assert g_pass_at_k(n, c - 1, n, tau) == 0.0
    assert covers(n, c, np.float64(tau))


def test_cover_is_the_share_of_tasks_above_the_threshold() -> None:
    outcomes = [outcome(10, c) for c in (0, 1, 5, 10)]
    assert [cover_at(outcomes, t) for t in (0, 0.1, 0.5, 0.51, 1)] == [1, 0.75, 0.5, 0.25, 0.25]


def test_pass_at_k_is_the_beta_weighted_cover() -> None:
    """pass@k = integral of Cover(tau) k (1-tau)^(k-1) dtau for tasks of known skill."""
    skills, k = [0.2, 0.8], 3
    edges = [0.0, *skills]
    cover = [1.0, 0.5]
    weights = [(1 - a) ** k - (1 - b) ** k for a, b in pairwise(edges)]
    integral = sum(w * c for w, c in zip(weights, cover, strict=True))
    assert integral == pytest.approx(0.74)
    assert integral == pytest.approx(sum(1 - (1 - p) ** k for p in skills) / 2)
    outcomes = [outcome(1000, round(1000 * p)) for p in skills]
    assert [cover_at(outcomes, t) for t in (0.1, 0.2, 0.5)] == [1.0, 1.0, 0.5]
    assert mean_pass_at_k(outcomes, k) == pytest.approx(integral, abs=1e-3)


@given(counts)
def test_area_lies_between_the_ends_of_the_curve(nck: tuple[int, int, int]) -> None:
    n, c, k = nck
    if k > 1:
        assert c / n - 1e-12 <= auc_at_k(n, c, k) <= pass_at_k(n, c, k) + 1e-12


def test_area_of_a_line_in_log_k_on_any_grid() -> None:
    line = {k: 0.1 + 0.2 * math.log2(k) for k in (1, 2, 3, 7, 8)}
    assert log_auc(line) == pytest.approx(0.1 + 0.2 * 1.5)
    assert auc_at_k(9, 9, 6) == pytest.approx(1.0)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), min_size=1, max_size=5))
def test_whole_curves_equal_single_values(rows: list[tuple[int, int]]) -> None:
    outcomes = [outcome(40 + extra, min(c, 40)) for c, extra in rows]
    curve = per_task_curve(outcomes, 40)
    assert curve.shape == (len(rows), 40)
    for k in range(1, 41):
        assert curve[:, k - 1] == pytest.approx(per_task(outcomes, k), rel=1e-12, abs=0)


def test_agrees_with_scorio() -> None:
    scorio = pytest.importorskip("scorio.eval")
    rng = np.random.default_rng(1)
    grid = (rng.random((8, 12)) < rng.random((8, 1))).astype(int)
    c = grid.sum(axis=1).tolist()
    for k in range(1, 13):
        mean_all = sum(pass_hat_k(12, x, k) for x in c) / 8
        assert mean_all == pytest.approx(scorio.pass_hat_k(grid, k))
        mean_half = sum(g_pass_at_k(12, x, k, 0.5) for x in c) / 8
        assert mean_half == pytest.approx(scorio.g_pass_at_k_tau(grid, k, 0.5))
        mean_upper = sum(mean_g_pass_at_k(12, x, k) for x in c) / 8
        assert mean_upper == pytest.approx(scorio.mg_pass_at_k(grid, k))


def test_the_undefined_raises() -> None:
    for function in (pass_hat_k, mean_g_pass_at_k, auc_at_k):
        with pytest.raises(ValueError, match="undefined for 4 samples"):
            function(4, 2, 5)
    for tau in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            covers(4, 2, tau)
    with pytest.raises(ValueError, match="two or more k"):
        auc_at_k(4, 2, 1)
    with pytest.raises(ValueError, match="two or more k"):
        log_auc({0: 0.1, 2: 0.3})
    with pytest.raises(ValueError, match="No task has 1"):
        cover_at([], 0.5)
    with pytest.raises(ValueError, match="1 of 2 tasks have fewer than 9"):
        per_task_curve([outcome(8, 1), outcome(9, 1)], 9)
