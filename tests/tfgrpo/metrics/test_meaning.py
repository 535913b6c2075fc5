"""Classes of meaning: known cases, and complete linkage held against its definition."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tfgrpo.metrics.meaning import meaning_classes, meaning_threshold


def rays(*degrees: float) -> NDArray[np.float32]:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def parts(classes: list[int]) -> set[frozenset[int]]:
    return {frozenset(i for i, own in enumerate(classes) if own == c) for c in classes}


def test_near_rays_are_one_class_and_far_ones_are_not() -> None:
    classes = meaning_classes(rays(0, 90, 5, 91), np.cos(np.deg2rad(10)))
    assert parts(classes) == {frozenset({0, 2}), frozenset({1, 3})}


def test_no_chain_of_small_steps_joins_what_is_far_apart() -> None:
    # Neighbours are 8 degrees apart and the ends 24: single linkage would make one class.
    assert len(parts(meaning_classes(rays(0, 8, 16, 24), np.cos(np.deg2rad(10))))) == 2


def test_all_alike_and_all_apart() -> None:
    assert parts(meaning_classes(rays(30, 30, 30), 1.0)) == {frozenset({0, 1, 2})}
    assert len(parts(meaning_classes(rays(0, 30, 60, 90), 1.0))) == 4
    assert parts(meaning_classes(rays(0, 30, 60, 90), -1.0)) == {frozenset(range(4))}
    assert meaning_classes(rays(3), 0.9) == [0]


ANGLES = st.lists(st.integers(0, 90), min_size=1, max_size=12)


@given(ANGLES, st.floats(0.0, 1.0), st.randoms())
def test_members_are_close_and_classes_cannot_be_joined(
    degrees: list[int], cosine: float, rng: object
) -> None:
    vectors = rays(*degrees)
    classes = meaning_classes(vectors, cosine)
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    found = parts(classes)
    for part in found:
        assert all(cosines[i, j] >= cosine - 1e-6 for i, j in combinations(part, 2))
    for a, b in combinations(found, 2):  # merging goes on as long as any two classes may
        assert min(cosines[i, j] for i in a for j in b) < cosine + 1e-6
    assert all(
        classes[i] == classes[j]
        for i, j in combinations(range(len(degrees)), 2)
        if degrees[i] == degrees[j]
    )
    order = list(range(len(degrees)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    again = meaning_classes(vectors[order], cosine)
    assert {frozenset(order[i] for i in part) for part in parts(again)} == found


def test_the_threshold_is_what_a_share_of_the_pairs_within_problems_reaches() -> None:
    tables = [rays(0, 10, 40), rays(0, 20), rays(70)]
    cosines = sorted(float(np.cos(np.deg2rad(d))) for d in (10, 30, 40, 20))
    assert meaning_threshold(tables, 0.25) == pytest.approx(np.quantile(cosines, 0.75), abs=1e-6)
    assert meaning_threshold(tables, 0.999) == pytest.approx(cosines[0], abs=1e-3)


def test_what_has_no_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="draw two or more"):
        meaning_threshold([rays(1), rays(2)])
    with pytest.raises(ValueError, match="between 0 and 1"):
        meaning_threshold([rays(1, 2)], 1.0)
