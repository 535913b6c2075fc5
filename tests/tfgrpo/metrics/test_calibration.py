from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.metrics.calibration import (
    auroc,
    brier,
    brier_parts,
    ece,
    ece_floor,
    squared_ece,
    stated,
)
from tfgrpo.metrics.vote import agreement

Y = [True, False, True, True, False]
Q = [0.9, 0.6, 0.8, 0.3, 0.2]
percent = st.integers(0, 100).map(lambda i: i / 100)
samples = st.lists(st.tuples(percent, st.booleans()), min_size=1, max_size=30)


def split(rows: list[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [q for q, _ in rows], [y for _, y in rows]


def test_known_values() -> None:
    assert brier(Q, Y) == pytest.approx(0.188)
    assert ece(Q, Y) == pytest.approx(0.36)
    assert ece(Q, Y, bins=1) == pytest.approx(0.04)
    assert auroc(Q, Y) == pytest.approx(5 / 6)


def test_every_percent_lands_in_its_own_bin() -> None:
    """100 bins of one percent: q = i / 100 opens bin i, which float floors get wrong."""
    assert int(0.29 * 100) == 28
    q = [i / 100 for i in range(100)]
    for i, value in enumerate(q):
        alone = ece([*q, value], [*([False] * 100), True], bins=100)
        together = sum(q) - q[i] + abs(2 * value - 1)
        assert alone == pytest.approx(together / 101)


def test_certainty_is_in_the_last_bin_and_thirds_in_theirs() -> None:
    assert ece([1.0, 0.95], [True, False]) == pytest.approx(abs(1.95 - 1) / 2)
    assert ece([0.3, 0.2999], [True, False]) == pytest.approx((0.7 + 0.2999) / 2)


def test_equal_mass_bins_are_equal_and_keep_ties_together() -> None:
    q = [0.1, 0.11, 0.12, 0.13, 0.9, 0.91, 0.92, 0.93]
    y = [False, False, True, True, True, True, False, True]
    halves = abs(sum(q[:4]) - 2) / 8 + abs(sum(q[4:]) - 3) / 8
    assert ece(q, y, bins=2, by="mass") == pytest.approx(halves)
    quarters = sum(abs(sum(q[i : i + 2]) - sum(y[i : i + 2])) for i in range(0, 8, 2)) / 8
    assert ece(q, y, bins=4, by="mass") == pytest.approx(quarters)
    assert ece([0.5] * 6, [True, False] * 3, bins=3, by="mass") == 0.0


@settings(max_examples=30)
@given(samples)
def test_brier_equals_its_parts(rows: list[tuple[float, bool]]) -> None:
    q, y = split(rows)
    parts = brier_parts(q, y)
    whole = parts.reliability - parts.resolution + parts.uncertainty
    assert whole == pytest.approx(brier(q, y), abs=1e-12)
    assert min(parts.reliability, parts.resolution) >= 0
    assert parts.uncertainty == pytest.approx(np.var(y))


@settings(max_examples=30)
@given(samples)
def test_auroc_equals_all_pairs(rows: list[tuple[float, bool]]) -> None:
    q, y = split(rows)
    right, wrong = ([v for v, ok in rows if ok is kind] for kind in (True, False))
    if not right or not wrong:
        assert math.isnan(auroc(q, y))
        return
    wins = [(a > b) + (a == b) / 2 for a, b in product(right, wrong)]
    assert auroc(q, y) == pytest.approx(sum(wins) / len(wins))
    assert auroc([v**3 / 2 for v in q], y) == pytest.approx(auroc(q, y))
    assert auroc([1 - v for v in q], y) == pytest.approx(1 - auroc(q, y))
    assert auroc([0.5] * len(q), y) == 0.5


@settings(max_examples=30)
@given(samples)
def test_errors_are_bounded_and_ignore_order(rows: list[tuple[float, bool]]) -> None:
    q, y = split(rows)
    for by in ("width", "mass"):
        value = ece(q, y, by=by)  # type: ignore[arg-type]
        assert -1e-12 <= value <= 1
        assert ece(q[::-1], y[::-1], by=by) == pytest.approx(value)  # type: ignore[arg-type]
        assert ece(q, y, 1, by) <= value + 1e-12  # type: ignore[arg-type]
    assert ece(q, y) <= math.sqrt(brier(q, y)) + 1e-12


@pytest.mark.parametrize(("size", "level"), [(50, 0.140), (200, 0.071), (1000, 0.031)])
def test_floor_is_what_calibrated_answers_show(size: int, level: float) -> None:
    """The biased-up ECE of perfectly calibrated data with uniform confidence."""
    q = np.random.default_rng(0).random(size).tolist()
    assert ece_floor(q, seed=1, draws=300) == pytest.approx(level, abs=0.004)
    assert ece_floor(q, seed=1, draws=20) == ece_floor(q, seed=1, draws=20)
    assert ece_floor([0.0, 1.0] * size, seed=1, draws=5) == 0.0


def test_debiased_error_is_unbiased_by_enumeration() -> None:
    """Two bins of constant confidence; the mean over all 2^n outcomes is the true error."""
    q, p = [0.25] * 4 + [0.65] * 3, [0.5] * 4 + [0.65] * 3
    mean = plain = 0.0
    for y in product([False, True], repeat=7):
        weight = math.prod(x if ok else 1 - x for x, ok in zip(p, y, strict=True))
        mean += weight * squared_ece(q, y)
        rates = (sum(y[:4]) / 4, sum(y[4:]) / 3)
        plain += weight * (4 * (0.25 - rates[0]) ** 2 + 3 * (0.65 - rates[1]) ** 2) / 7
    assert mean == pytest.approx(4 / 7 * 0.25**2)
    assert plain > mean + 0.05


def test_debiased_error_leaves_out_bins_of_one_sample() -> None:
    q, y = [0.15, 0.15, 0.95], [True, False, False]
    assert squared_ece(q, y) == pytest.approx((0.15 - 0.5) ** 2 - 0.25)
    with pytest.raises(ValueError, match="single sample"):
        squared_ece([0.1, 0.9], [True, False])


def test_missing_confidence_is_dropped_or_half() -> None:
    q, y = [0.9, None, 0.2], [True, True, False]
    assert stated(q, y, "drop") == ((0.9, 0.2), (True, False))
    assert stated(q, y, "half") == ((0.9, 0.5, 0.2), (True, True, False))
    assert stated([None], [True], "drop") == ((), ())


def test_agreement_of_answers_serves_as_confidence() -> None:
    answers = ["7", "7", "7", "9", None]
    correct = [True, True, True, False, False]
    kept = stated(agreement(answers), correct, "drop")
    assert kept == ((0.5, 0.5, 0.5, 0.0), (True, True, True, False))
    assert auroc(*kept) == 1.0


def test_unusable_input_raises() -> None:
    for q, y in (([], []), ([1.2], [True]), ([math.nan], [True]), ([0.5, 0.5], [True])):
        for function in (brier, ece, auroc, brier_parts):
            with pytest.raises(ValueError, match=r"confidence in \[0, 1\] per sample"):
                function(q, y)
    with pytest.raises(ValueError, match="at least 1 bin"):
        ece(Q, Y, bins=0)
    with pytest.raises(ValueError, match="at least 1 draw"):
        ece_floor(Q, seed=0, draws=0)
