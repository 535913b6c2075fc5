from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.embed import F32, unit_rows
from memory.index import (
    I64,
    MANIFEST,
    FaissIndex,
    Manifest,
    NumpyIndex,
    StaleIndex,
    load,
    load_or_build,
    save,
)

KINDS = [NumpyIndex, FaissIndex]
Kind = type[NumpyIndex] | type[FaissIndex]
each_kind = pytest.mark.parametrize("kind", KINDS)


def rows(n: int, dim: int = 8, seed: int = 0) -> F32:
    return unit_rows(np.random.default_rng(seed).normal(size=(n, dim)))


def filled(kind: Kind, n: int = 20, dim: int = 8) -> NumpyIndex | FaissIndex:
    index = kind(dim)
    index.add(range(100, 100 + n), rows(n, dim))
    return index


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


def source() -> tuple[I64, F32]:
    return np.arange(100, 120), rows(20)


def opened(
    kind: Kind, folder: Path, **changes: object
) -> tuple[NumpyIndex | FaissIndex, str | None]:
    wanted = {"fingerprint": "f", "seq": 7, "dim": 8, "vectors": source, **changes}
    return load_or_build(kind, folder, **wanted)


@each_kind
@pytest.mark.parametrize("n", [0, 20])
def test_a_saved_index_is_read_back(kind: Kind, n: int, tmp_path: Path) -> None:
    index = filled(kind, n)
    manifest = save(index, tmp_path, fingerprint="f", seq=7)
    assert (manifest.count, manifest.dim, manifest.seq) == (n, 8, 7)
    again = load(kind, tmp_path, fingerprint="f", seq=7)
    assert again.ids.tolist() == index.ids.tolist()
    for left, right in zip(
        index.search(rows(3, seed=5), 4), again.search(rows(3, seed=5), 4), strict=True
    ):
        assert left.ids.tolist() == right.ids.tolist()
        assert left.scores.tolist() == right.scores.tolist()
    again.add([5], rows(1, seed=8))
    assert again.remove([5]) == 1


@each_kind
def test_it_is_built_when_absent_and_then_kept(kind: Kind, tmp_path: Path) -> None:
    index, reason = opened(kind, tmp_path / "new")
    assert reason == "its files cannot be read"
    assert index.ids.tolist() == list(range(100, 120))
    assert opened(kind, tmp_path / "new")[1] is None


@each_kind
@pytest.mark.parametrize("part", ["vectors", "manifest"])
def test_any_flipped_bit_or_cut_is_noticed(kind: Kind, part: str, tmp_path: Path) -> None:
    opened(kind, tmp_path)
    (data,) = tmp_path.glob("gen-*.bin")
    file = data if part == "vectors" else tmp_path / MANIFEST
    good = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(good), size=40).tolist():
        flipped = bytearray(good)
        flipped[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(bytes(flipped))
        if file.read_bytes() != good:
            with pytest.raises(StaleIndex):
                load(kind, tmp_path, fingerprint="f", seq=7)
    for length in (0, 1, len(good) // 2, len(good) - 2):
        file.write_bytes(good[:length])
        index, reason = opened(kind, tmp_path)
        assert reason is not None
        assert index.ids.tolist() == list(range(100, 120))
        assert opened(kind, tmp_path)[1] is None
    file.unlink()
    assert opened(kind, tmp_path)[1] == "its files cannot be read"


@each_kind
@pytest.mark.parametrize("changes", [{"fingerprint": "other"}, {"seq": 8}, {"seq": 6}])
def test_another_space_or_time_is_stale(
    kind: Kind, changes: dict[str, object], tmp_path: Path
) -> None:
    opened(kind, tmp_path)
    _, reason = opened(kind, tmp_path, **changes)
    assert reason is not None
    assert next(iter(changes)) in reason
    assert len(list(tmp_path.iterdir())) == 2


def test_another_kind_or_format_is_stale(tmp_path: Path) -> None:
    opened(NumpyIndex, tmp_path)
    with pytest.raises(StaleIndex, match="kind is numpy"):
        load(FaissIndex, tmp_path, fingerprint="f", seq=7)
    newer = Manifest("numpy", "f", 7, 0, 8, "x", "y", format=2).to_text()
    with pytest.raises(StaleIndex, match="another version"):
        Manifest.from_text(newer)
    for junk in ("", "[]", "{}", "null", '{"check": 1}'):
        with pytest.raises(StaleIndex):
            Manifest.from_text(junk)


KILLED = """
import os, signal, sys
from pathlib import Path
from memory import index as module
from memory.index import NumpyIndex, save
import numpy as np

stop, folder = int(sys.argv[1]), Path(sys.argv[2])
calls = 0

def watched(name, real):
    def call(*arguments):
        global calls
        calls += 1
        if calls == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    return call

os.fsync = watched("fsync", os.fsync)
Path.replace = watched("replace", Path.replace)
index = NumpyIndex(2)
index.add([1, 2], np.eye(2, dtype=np.float32))
save(index, folder, fingerprint="f", seq=8)
"""


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_kill_while_saving_leaves_the_old_or_the_new(stop: int, tmp_path: Path) -> None:
    opened(NumpyIndex, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(stop), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert load(NumpyIndex, tmp_path, fingerprint="f", seq=7).ids.tolist() == list(range(100, 120))
