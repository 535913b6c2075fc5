from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.metrics.crossover import crossover, crossover_law, efficiency_gap
from tfgrpo.metrics.pass_at_k import pass_at_k, per_task_curve
from tfgrpo.types import TaskOutcome


def curves(n: int, counts: list[int], k: int) -> np.ndarray:
    none = (None,) * n
    outcomes = [
        TaskOutcome(str(i), "sum", tuple(j < c for j in range(n)), none, none, none, (1,) * n)
        for i, c in enumerate(counts)
    ]
    return per_task_curve(outcomes, k)


def mean_curve(rows: np.ndarray) -> dict[int, float]:
    return {k: float(v) for k, v in enumerate(rows.mean(axis=0), start=1)}


BASE, TUNED = curves(10, [2, 2], 10), curves(10, [9, 0], 10)


def test_known_crossover() -> None:
    found = crossover(mean_curve(BASE), mean_curve(TUNED))
    assert found.k == 3
    assert found.interpolated == pytest.approx(2.750, abs=5e-4)
    assert (found.led, found.changes, found.label) == (True, 1, "3")


def test_a_coarser_grid_finds_its_own_first_point() -> None:
    grid = {k: (mean_curve(BASE)[k], mean_curve(TUNED)[k]) for k in (1, 4, 8)}
    found = crossover({k: b for k, (b, _) in grid.items()}, {k: t for k, (_, t) in grid.items()})
    assert found.k == 4
    assert found.interpolated is not None
    assert 1 < found.interpolated < 4


def test_none_up_to_the_limit_is_an_answer() -> None:
    found = crossover({1: 0.1, 2: 0.2, 4: 0.3}, {1: 0.2, 2: 0.3, 4: 0.4})
    assert (found.k, found.interpolated, found.limit) == (None, None, 4)
    assert found.label == ">4"


def test_identical_and_worse_arms_have_no_crossing() -> None:
    same = crossover(mean_curve(BASE), mean_curve(BASE))
    assert (same.k, same.led, same.changes, same.label) == (None, False, 0, "no lead")
    worse = crossover({1: 0.4, 2: 0.5, 3: 0.5}, {1: 0.3, 2: 0.45, 3: 0.6})
    assert (worse.k, worse.label, worse.changes) == (None, "no lead", 1)


def test_a_lead_that_changes_back_is_flagged() -> None:
    found = crossover({1: 0.1, 2: 0.4, 3: 0.4}, {1: 0.2, 2: 0.3, 3: 0.5})
    assert (found.k, found.changes) == (2, 2)


def test_touching_counts_as_overtaking() -> None:
    found = crossover({1: 0.1, 2: 1.0}, {1: 0.9, 2: 1.0})
    assert (found.k, found.interpolated) == (2, 2.0)


def test_bootstrap_law_equals_its_enumeration() -> None:
    base, tuned = curves(10, [2, 2, 4], 10), curves(10, [9, 0, 8], 10)
    expected: dict[str, float] = {}
    for draw in product(range(3), repeat=3):
        label = crossover(mean_curve(base[list(draw)]), mean_curve(tuned[list(draw)])).label
        expected[label] = expected.get(label, 0) + 1 / 27
    law = crossover_law(base, tuned, seed=1, resamples=20_000)
    found = {str(k): n / law.resamples for k, n in law.counts.items()}
    found |= {"no lead": law.no_lead / law.resamples, ">10": law.censored_share}
    assert law.resamples == 20_000
    assert {k for k, v in found.items() if v} == expected.keys()
    for label, share in expected.items():
        assert found[label] == pytest.approx(share, abs=0.012)


def test_quantiles_put_censored_draws_beyond_the_limit() -> None:
    law = crossover_law(BASE, TUNED, seed=0, resamples=4000)
    assert law.estimate.k == 3
    assert law.estimate.interpolated == pytest.approx(2.750, abs=5e-4)
    # draws: both tasks (1/2) cross at 3; the first twice (1/4) at 9, where both are 1;
    # the second twice (1/4) never led
    assert set(law.counts) == {3, 9}
    assert law.no_lead / 4000 == pytest.approx(1 / 4, abs=0.03)
    assert (law.quantile(0.5), law.quantile(0.9), law.interval()) == (3, 9, (3, 9))
    short = crossover_law(BASE[:, :5], TUNED[:, :5], seed=0, resamples=4000)
    assert short.limit == 5
    assert short.censored_share == pytest.approx(1 / 4, abs=0.03)
    assert short.interval() == (3, None)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=6))
def test_law_is_consistent_with_its_estimate(pairs: list[tuple[int, int]]) -> None:
    base, tuned = curves(8, [a for a, _ in pairs], 8), curves(8, [b for _, b in pairs], 8)
    law = crossover_law(base, tuned, seed=0, resamples=50)
    assert law.resamples == 50
    assert law == crossover_law(base, tuned, seed=0, resamples=50)
    if len(pairs) == 1:
        expected = {law.estimate.k: 50} if law.estimate.k else {}
        assert law.counts == expected
    lead = tuned.mean(axis=0) - base.mean(axis=0)
    k = law.estimate.k
    if k is not None:
        assert lead[k - 1] <= 1e-12
        assert (lead[: k - 1] > 0).all()
        assert law.estimate.interpolated is not None
        assert k - 1 <= law.estimate.interpolated <= k


@pytest.mark.parametrize(
    ("base", "tuned", "gap"),
    [(0.691, 0.251, 0.440), (0.691, 0.281, 0.410)],
    ids=["GRPO", "RLOO"],
)
def test_efficiency_gap_of_limit_of_rlvr(base: float, tuned: float, gap: float) -> None:
    """Omni-MATH test: pass@1 and pass@256 of the base, pass@1 of the tuned policy."""
    assert efficiency_gap({1: 0.102, 256: base}, {1: tuned, 256: 0.683}) == pytest.approx(gap)


def test_limit_of_rlvr_training_lowers_the_ceiling() -> None:
    """Table of steps 150, 300, 450 on the training set: more pass@1, less pass@256."""
    base = {1: 0.099, 256: 0.672}
    steps = [{1: 0.261, 256: 0.663}, {1: 0.336, 256: 0.653}, {1: 0.425, 256: 0.643}]
    met = [crossover(base, tuned) for tuned in steps]
    assert [c.k for c in met] == [256] * 3
    gaps = [efficiency_gap(base, tuned) for tuned in steps]
    assert gaps == sorted(gaps, reverse=True)


def test_the_undefined_raises() -> None:
    with pytest.raises(ValueError, match="same k"):
        crossover({1: 0.1}, {1: 0.2, 2: 0.3})
    with pytest.raises(ValueError, match="finite curves"):
        crossover({1: float("nan")}, {1: pass_at_k(2, 1, 1)})
    with pytest.raises(ValueError, match="align them"):
        crossover_law(BASE, TUNED[:1], seed=0)
    with pytest.raises(ValueError, match="led in no draw"):
        crossover_law(BASE, BASE, seed=0, resamples=10).quantile(0.5)
    with pytest.raises(ValueError, match="tuned pass@1"):
        efficiency_gap({1: 0.1}, {2: 0.3})
