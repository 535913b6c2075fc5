from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.search.embed import F32, unit_rows
from memory.search.index import FaissIndex, NumpyIndex
from tests.memory.indexes import Kind, each_kind, filled, rows


def brute(ids: Iterable[int], vectors: F32, query: F32, k: int) -> list[int]:
    """Independent of the package: a sort of Python floats."""
    scored = [
        (-sum(float(a) * float(b) for a, b in zip(v, query, strict=True)), i)
        for i, v in zip(ids, vectors, strict=True)
    ]
    return [i for _, i in sorted(scored)[:k]]


@each_kind
def test_search_is_a_sort_of_all_cosines(kind: Kind) -> None:
    index, queries = filled(kind, 50), rows(5, seed=9)
    for query, hits in zip(queries, index.search(queries, 7), strict=True):
        assert hits.ids.tolist() == brute(range(100, 150), rows(50), query, 7)
        np.testing.assert_allclose(hits.scores, rows(50)[hits.ids - 100] @ query, atol=1e-6)


@each_kind
def test_k_may_exceed_what_is_there(kind: Kind) -> None:
    index = filled(kind, 3)
    (hits,) = index.search(rows(1, seed=4), 10)
    assert sorted(hits.ids.tolist()) == [100, 101, 102]
    assert np.isfinite(hits.scores).all()
    assert index.search(rows(1), 0)[0].ids.size == 0


@each_kind
def test_an_empty_index_finds_nothing(kind: Kind) -> None:
    index = kind(8)
    assert len(index) == 0
    assert [hits.ids.size for hits in index.search(rows(2), 3)] == [0, 0]
    assert index.search(rows(0), 3) == []
    assert index.remove([1]) == 0
    index.add([], np.zeros((0, 8), np.float32))
    assert filled(kind).search(rows(1), 3, allow=[])[0].ids.size == 0


@each_kind
def test_duplicates_are_ordered_by_id_whatever_the_order_of_insertion(kind: Kind) -> None:
    index = kind(4)
    one = rows(1, 4)
    index.add([9, 2, 7], np.repeat(one, 3, axis=0))
    index.add([1, 30], np.repeat(one, 2, axis=0))
    for k in range(1, 6):
        assert index.search(one, k)[0].ids.tolist() == [1, 2, 7, 9, 30][:k]
    assert index.search(one, 2, allow=[30, 9, 7])[0].ids.tolist() == [7, 9]


@each_kind
def test_ids_survive_removal(kind: Kind) -> None:
    index = filled(kind, 6)
    assert index.remove([101, 104, 104, 999]) == 2
    assert index.ids.tolist() == [100, 102, 103, 105]
    assert index.search(rows(6)[5:6], 1)[0].ids.tolist() == [105]
    index.add([101], rows(1, seed=3))
    assert index.search(rows(1, seed=3), 1)[0].ids.tolist() == [101]


@each_kind
def test_vectors_come_back_as_they_were_added(kind: Kind) -> None:
    index = filled(kind, 20)
    index.remove([103])
    ids, vectors = index.vectors([119, 100, 103, 7, 119])
    assert ids.tolist() == [100, 119]
    np.testing.assert_array_equal(vectors, rows(20)[[0, 19]])
    again = kind.from_bytes(index.to_bytes(), 8, 19)
    np.testing.assert_array_equal(again.vectors(range(200))[1], np.delete(rows(20), 3, axis=0))
    for none in (index.vectors([]), index.vectors([1]), kind(8).vectors([100])):
        assert (none[0].shape, none[1].shape) == ((0,), (0, 8))


@each_kind
def test_what_cannot_be_compared_is_refused(kind: Kind) -> None:
    index = filled(kind, 2)
    with pytest.raises(ValueError, match="there already"):
        index.add([100], rows(1))
    with pytest.raises(ValueError, match="there already"):
        index.add([5, 5], rows(2))
    with pytest.raises(ValueError, match="0 or above"):
        index.add([-1], rows(1))
    with pytest.raises(ValueError, match="shape"):
        index.add([5], rows(1, dim=9))
    for bad in (0.0, np.nan, 1.0):
        with pytest.raises(ValueError, match="length 1"):
            index.add([5], np.full((1, 8), bad, np.float32))
    for bad in (0.0, np.nan, 1.0):
        with pytest.raises(ValueError, match="length 1"):
            index.search(np.full((1, 8), bad, np.float32), 1)
    with pytest.raises(ValueError, match="rows of 8"):
        index.search(rows(1)[0], 1)
    with pytest.raises(ValueError, match="k is 0"):
        index.search(rows(1), -1)
    assert index.ids.tolist() == [100, 101]


@each_kind
def test_large_ids_and_arrays_of_ids_are_ids(kind: Kind) -> None:
    """FAISS filters by a bitmap below 2^24 and by a set above."""
    index, ids = kind(8), np.array([3, 2**24 - 1, 2**24, 2**62])
    index.add(ids, rows(4))
    for left_out in range(4):
        allow = np.delete(ids, left_out)
        for same in (allow, allow[::-1], [*allow.tolist(), 77, allow[0]], set(allow.tolist())):
            (hits,) = index.search(rows(4)[left_out][None], 4, same)
            assert hits.ids.tolist() == brute(
                allow.tolist(), np.delete(rows(4), left_out, axis=0), rows(4)[left_out], 4
            )
    assert index.search(rows(4)[:1], 4, [3])[0].ids.tolist() == [3]
    assert index.remove(ids[2:]) == 2


def test_a_tie_far_beyond_k_is_still_settled_by_id() -> None:
    """FAISS returns any of the tied rows; the smallest ids are inserted last."""
    index, oracle = FaissIndex(4), NumpyIndex(4)
    ids = list(range(500, 0, -1))
    for each in (index, oracle):
        each.add(ids, np.repeat(rows(1, 4), 500, axis=0))
    assert index.search(rows(1, 4), 3)[0].ids.tolist() == [1, 2, 3]
    assert oracle.search(rows(1, 4), 3)[0].ids.tolist() == [1, 2, 3]


# A few directions only, so that ties and duplicates are the rule.
DIRECTIONS = unit_rows(
    np.array([[x, y, z] for x in (-1, 0, 1) for y in (0, 1) for z in (1, 2)], dtype=np.float64)
)
operation = st.one_of(
    st.tuples(st.just("add"), st.dictionaries(st.integers(0, 15), st.integers(0, 11), max_size=6)),
    st.tuples(st.just("remove"), st.lists(st.integers(0, 15), max_size=6)),
    st.tuples(
        st.just("search"),
        st.tuples(
            st.integers(0, 11),
            st.integers(0, 20),
            st.none() | st.lists(st.integers(0, 15), max_size=8),
        ),
    ),
)


@settings(max_examples=150)
@given(st.lists(operation, max_size=25))
def test_faiss_equals_the_oracle_on_any_history(operations: list[tuple[str, object]]) -> None:
    oracle, index, model = NumpyIndex(3), FaissIndex(3), dict[int, int]()
    for name, value in operations:
        if name == "add":
            new = {i: d for i, d in value.items() if i not in model}
            model |= new
            for each in (oracle, index):
                each.add(new, DIRECTIONS[list(new.values())])
        elif name == "remove":
            there = {i for i in value if i in model}
            assert oracle.remove(value) == index.remove(value) == len(there)
            model = {i: d for i, d in model.items() if i not in there}
        else:
            direction, k, allow = value
            query = DIRECTIONS[direction]
            left = oracle.search(query[None], k, allow)[0]
            right = index.search(query[None], k, allow)[0]
            eligible = [i for i in model if allow is None or i in allow]
            assert left.ids.tolist() == right.ids.tolist()
            assert left.scores.tolist() == right.scores.tolist()
            expected = DIRECTIONS[[model[i] for i in eligible]].reshape(-1, 3)
            assert left.ids.tolist() == brute(eligible, expected, query, k)
        assert oracle.ids.tolist() == index.ids.tolist() == sorted(model)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 70))
def test_faiss_equals_the_oracle_on_dense_vectors(seed: int, n: int, k: int) -> None:
    oracle, index = NumpyIndex(64), FaissIndex(64)
    ids = np.random.default_rng(seed).permutation(1000)[:n]
    for each in (oracle, index):
        each.add(ids.tolist(), rows(n, 64, seed))
    for left, right in zip(
        oracle.search(rows(3, 64, seed + 1), k), index.search(rows(3, 64, seed + 1), k), strict=True
    ):
        assert left.ids.tolist() == right.ids.tolist()
        assert left.scores.tolist() == right.scores.tolist()


def test_the_batch_of_queries_changes_nothing() -> None:
    index, queries = filled(FaissIndex, 200, 32), rows(40, 32, seed=2)
    together = index.search(queries, 5)
    for query, hits in zip(queries, together, strict=True):
        (alone,) = index.search(query[None], 5)
        assert alone.ids.tolist() == hits.ids.tolist()
        assert alone.scores.tolist() == hits.scores.tolist()
