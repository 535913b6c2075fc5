"""The map and the bars of a bank: right numbers, one picture for equal vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.report.pages.bank_figures import MOST_BARS, plane, timeline, worth
from tfgrpo.report.pages.projection import fitted, project

RNG = np.random.default_rng(5)
CLOUD = RNG.normal(size=(40, 6)) * np.array([9.0, 4.0, 1.0, 0.5, 0.2, 0.1])


def test_scores_are_those_of_the_covariance() -> None:
    scores = project(CLOUD)
    values, vectors = np.linalg.eigh(np.cov(CLOUD.T))
    for axis in (0, 1):
        direction = vectors[:, -1 - axis]
        direction = direction * np.sign(direction[np.abs(direction).argmax()])
        expected = (CLOUD - CLOUD.mean(axis=0)) @ direction
        assert scores[:, axis] == pytest.approx(expected, abs=1e-9)
        assert scores[:, axis].var(ddof=1) == pytest.approx(values[-1 - axis])


def test_points_of_a_plane_keep_their_distances() -> None:
    flat = RNG.normal(size=(20, 2)) * [3.0, 1.0]
    basis, _ = np.linalg.qr(RNG.normal(size=(7, 2)))
    scores = project(flat @ basis.T + 5.0)
    pairs = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    assert np.linalg.norm(scores[:, None] - scores[None], axis=-1) == pytest.approx(pairs)


@given(st.permutations(range(40)))
def test_the_picture_does_not_turn_over_with_the_order_of_rows(order: list[int]) -> None:
    assert project(CLOUD[order]) == pytest.approx(project(CLOUD)[order], abs=1e-9)


def test_a_mirrored_cloud_has_a_mirrored_picture() -> None:
    assert project(-CLOUD) == pytest.approx(-project(CLOUD), abs=1e-9)


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (5, 1), (4, 0)])
def test_directions_that_do_not_exist_are_zero(shape: tuple[int, int]) -> None:
    rows = np.arange(math.prod(shape), dtype=float).reshape(shape)
    scores = project(rows)
    assert scores.shape == (shape[0], 2)
    assert not scores[:, 1].any()
    assert project(np.ones((6, 4))).tolist() == [[0.0, 0.0]] * 6


def test_what_is_no_finite_matrix_is_refused() -> None:
    for rows in ([[float("nan"), 1.0]], [1.0, 2.0]):
        with pytest.raises(ValueError, match="finite matrix"):
            project(rows)


def test_the_map_fills_its_field() -> None:
    assert fitted([[2.0, 7.0], [4.0, 7.0], [3.0, 7.0]]).tolist() == [[0, 0.5], [1, 0.5], [0.5, 0.5]]
    points = plane([("1", (5.0, -1.0)), ("2", (9.0, 3.0))]).points
    assert points == (("1", 0.0, 0.0), ("2", 1.0, 1.0))
    assert plane([]).points == ()


@given(
    st.lists(
        st.tuples(st.floats(0, 4e9), st.sampled_from(["add", "update"])), min_size=1, max_size=30
    )
)
def test_every_dated_event_is_in_one_bar(events: list[tuple[float, str]]) -> None:
    bars = timeline(events)
    assert sum(sum(values) for values in bars.series.values()) == len(events)
    assert sum(bars.series.get("add", ())) == sum(name == "add" for _, name in events)
    years = (max(t for t, _ in events) - min(t for t, _ in events)) / (365 * 86_400)
    assert len(bars.labels) <= max(MOST_BARS, years + 2)


def test_a_bar_is_named_by_when_it_begins() -> None:
    bars = timeline([(1_790_000_000.0, "add"), (1_790_000_061.0, "add")])
    assert bars.labels == ("09-21 14:13", "09-21 14:14")
    long = timeline([(0.0, "add"), (40 * 86_400.0, "add"), (1e300, "add"), (-5.0, "add")])
    assert (long.labels[0], len(long.labels)) == ("1970-01-01", 41)


def test_utilities_are_counted_around_zero() -> None:
    bars = worth([-1.0, 0.04, 0.06, 1.0])
    (counts,) = bars.series.values()
    assert len(counts) == 20
    assert (counts[0], counts[10], counts[-1]) == (1, 2, 1)
    assert bars.labels[0] == "-0.95"
