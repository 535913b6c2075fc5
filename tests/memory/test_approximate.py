from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.search.approximate import (
    APPROXIMATE_FROM,
    LEAST,
    RECALL,
    ApproximateIndex,
    choose,
    measured_recall,
)
from memory.search.embed import F32, unit_rows
from memory.search.index import FaissIndex, NumpyIndex

N, DIM = 3_000, 24


def clustered(n: int, spread: float, seed: int = 1, dim: int = DIM) -> F32:
    """Rows about 60 centres; with a large spread there is no cluster left."""
    centres = unit_rows(np.random.default_rng(0).normal(size=(60, dim)))
    rng = np.random.default_rng(seed)
    noise = spread * rng.normal(size=(n, dim)) / math.sqrt(dim)
    return unit_rows(centres[rng.integers(60, size=n)] + noise)


def pair(vectors: F32) -> tuple[ApproximateIndex, NumpyIndex]:
    index, oracle = ApproximateIndex(vectors.shape[1]), NumpyIndex(vectors.shape[1])
    for each in (index, oracle):
        each.add(np.arange(len(vectors)), vectors)
    return index, oracle


@pytest.mark.parametrize("spread", [0.3, 1.0, 100.0])
def test_it_finds_what_it_promises_in_data_it_was_not_built_for(spread: float) -> None:
    """Also where there is no cluster at all: then it searches more lists."""
    index, oracle = pair(clustered(N, spread))
    queries = clustered(200, spread, seed=2)
    recall = measured_recall(index, oracle, queries, 10)
    # 2000 neighbours were asked for: two standard errors of 0.95 are 0.01.
    assert recall >= RECALL - 0.01
    assert 1 <= index.probes < index.lists == math.isqrt(N)


def test_fewer_lists_are_searched_where_the_data_has_clusters() -> None:
    assert pair(clustered(N, 0.3))[0].probes < pair(clustered(N, 100.0))[0].probes


def test_below_its_least_it_is_exact_and_then_it_trains_and_trains_again() -> None:
    vectors = clustered(2 * LEAST + 100, 1.0)
    index = ApproximateIndex(DIM)
    index.add(range(LEAST - 1), vectors[: LEAST - 1])
    assert (index.lists, index.probes) == (0, 0)
    index.add([LEAST - 1], vectors[LEAST - 1 : LEAST])
    assert index.lists == 32
    for start in range(LEAST, len(vectors), 100):
        part = vectors[start : start + 100]
        index.add(range(start, start + len(part)), part)
    assert index.lists == math.isqrt(2 * LEAST + 100) > 32
    assert index.ids.tolist() == list(range(len(vectors)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.none() | st.integers(0, 60))
def test_hits_are_true_eligible_and_as_many_as_there_are(
    seed: int, k: int, allowed: int | None
) -> None:
    rng = np.random.default_rng(seed)
    allow = None if allowed is None else rng.choice(N + 500, allowed, replace=False)
    gone = rng.choice(N, 300, replace=False)
    vectors = clustered(N, 1.0)
    index = SHARED
    assert index.remove(gone) == 300
    try:
        queries = clustered(3, 1.0, seed=seed + 5)
        eligible = set(range(N)) - set(gone.tolist())
        if allow is not None:
            eligible &= set(allow.tolist())
        for query, hits in zip(queries, index.search(queries, k, allow), strict=True):
            assert set(hits.ids.tolist()) <= eligible
            assert len(hits.ids) == len(set(hits.ids.tolist())) == min(k, len(eligible))
            exact = (vectors[hits.ids].astype(np.float64) * query.astype(np.float64)).sum(axis=1)
            assert hits.scores.tolist() == exact.tolist()
            order = list(zip((-hits.scores).tolist(), hits.ids.tolist(), strict=True))
            assert order == sorted(order)
    finally:
        index.add(gone, vectors[gone])


SHARED = pair(clustered(N, 1.0))[0]


def test_every_vector_finds_itself_also_after_others_left() -> None:
    vectors = clustered(N, 1.0)
    index, _ = pair(vectors)
    kept = np.arange(0, N, 7)
    index.remove(sorted(set(range(N)) - set(kept.tolist())))
    assert len(index) == len(kept)
    found = [hits.ids.tolist() for hits in index.search(vectors[kept], 1)]
    assert found == [[i] for i in kept.tolist()]


def test_copies_are_ordered_by_id_like_everywhere() -> None:
    vectors = clustered(N, 1.0)
    vectors[[2999, 1500, 3]] = vectors[7]
    index, _ = pair(vectors)
    assert index.search(vectors[7:8], 3)[0].ids.tolist() == [3, 7, 1500]
    assert index.search(vectors[7:8], 2, allow=[2999, 1500])[0].ids.tolist() == [1500, 2999]


def test_it_is_read_back_with_its_lists_and_can_still_change() -> None:
    vectors = clustered(N, 1.0)
    index, _ = pair(vectors)
    again = ApproximateIndex.from_bytes(index.to_bytes(), DIM, N)
    assert (again.lists, again.probes) == (index.lists, index.probes)
    for left, right in zip(
        index.search(vectors[:50], 5), again.search(vectors[:50], 5), strict=True
    ):
        assert left.ids.tolist() == right.ids.tolist()
    again.remove([0])
    again.add([N], vectors[:1])
    assert again.search(vectors[:1], 1)[0].ids.tolist() == [N]
    with pytest.raises(ValueError, match="another number"):
        ApproximateIndex.from_bytes(index.to_bytes(), DIM, N - 1)


def test_recall_is_the_share_of_the_exact_neighbours() -> None:
    """By hand: the even half of the ids holds 2 of the 4 nearest of one query, 3 of the other."""
    vectors = unit_rows(np.array([[1.0, i / 10] for i in range(20)]))
    oracle, half = NumpyIndex(2), NumpyIndex(2)
    oracle.add(range(20), vectors)
    half.add([0, 2, 16, 17, 18], vectors[[0, 2, 16, 17, 18]])
    queries = vectors[[0, 19]]
    assert [hits.ids.tolist() for hits in oracle.search(queries, 4)] == [
        [0, 1, 2, 3],
        [19, 18, 17, 16],
    ]
    assert measured_recall(half, oracle, queries, 4) == (2 + 3) / 8
    assert measured_recall(oracle, oracle, queries, 4) == 1
    with pytest.raises(ValueError, match="needs queries and vectors"):
        measured_recall(half, oracle, queries, 0)


def test_the_choice_changes_at_its_threshold_and_says_why() -> None:
    below, above = choose(APPROXIMATE_FROM - 1), choose(APPROXIMATE_FROM)
    assert (below.index, above.index) == (FaissIndex, ApproximateIndex)
    assert below.reason.startswith("exact: ")
    assert above.reason.startswith("approximate: ")
