"""A space is one state of a store: whole, untouched by others, silent where it may not write."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.read.guard import Guard, GuardedItem
from memory.read.policy import BySimilarity, ReadPolicy
from memory.read.reader import Query, Reader, Rules, State
from memory.search.embed import FingerprintMismatch, HashingEmbedder
from memory.search.reembed import embed_pending, index_folder, migrate
from memory.search.space import Space
from memory.store import CaseStore
from memory.types import STATES, Case, CaseFilter, CaseIn, Parent
from tests.memory.store_places import memory_folder

EMBEDDER = HashingEmbedder(dim=32)
EVERYTHING = CaseFilter(states=STATES)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CaseStore]:
    with CaseStore(tmp_path / "store") as opened:
        yield opened
        assert opened.verify() == []


def add(store: CaseStore, *questions: str) -> list[int]:
    return [r.id for r in store.add_many([CaseIn(question=q) for q in questions], actor="test")]


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in found}


def near(space: Space, text: str, k: int = 1, allow: list[int] | None = None) -> list[int]:
    (hits,) = space.search(space.embed([text]), k, allow)
    return list(map(int, hits.ids))


@pytest.mark.parametrize("kind", ["exact", "approximate", "numpy"])
def test_what_is_added_is_found_after_a_refresh(store: CaseStore, kind: str) -> None:
    one, two = add(store, "one apple", "two pears")
    space = Space(store, EMBEDDER, kind=kind)  # type: ignore[arg-type]
    assert near(space, "two pears") == [two]
    assert near(space, "two pears", 5, [one]) == [one]
    (three,) = add(store, "three plums")
    store.archive([two], actor="test")
    assert near(space, "three plums", 5) != [three]
    space.refresh()
    assert sorted(near(space, "three plums", 5)) == [one, three]
    ids, rows = space.matrix()
    assert ids.tolist() == [one, three]
    np.testing.assert_array_equal(rows, EMBEDDER.embed_documents(["one apple", "three plums"]))
    assert store.vectors.progress(space.fingerprint, "question") == (2, 2)


def test_an_empty_store_has_a_space(store: CaseStore) -> None:
    space = Space(store, EMBEDDER)
    assert near(space, "anything", 3) == []
    assert space.matrix()[1].shape == (0, 32)
    assert space.vector(1) is None
    assert space.floor == -1.0


def test_archived_and_unseen_cases_have_vectors_too(store: CaseStore) -> None:
    old, blank = add(store, "old", "x")
    store.update(blank, {"question": "", "plan": "p"}, expected_version=1, actor="test")
    store.archive([old], actor="test")
    space = Space(store, EMBEDDER)
    np.testing.assert_array_equal(space.vector(old), EMBEDDER.embed_documents(["old"])[0])
    assert space.vector(blank) is None
    assert space.vector(99) is None


def test_an_index_is_read_again(store: CaseStore) -> None:
    add(store, "a", "b")
    Space(store, EMBEDDER, kind="numpy")
    folder = index_folder(store.folder, EMBEDDER.fingerprint.digest, "question")
    before = files(folder)
    assert len(before) == 2
    assert near(Space(store, EMBEDDER, kind="numpy"), "b") == [2]
    assert files(folder) == before


def test_what_is_stored_is_opened_without_reading_the_cases(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        a, b = add(store, "a", "b")
        store.archive([b], actor="test")
        Space(store, EMBEDDER, kind="numpy")
    asked: list[str] = []
    with CaseStore(tmp_path, mode="ro") as store:
        store._database._connection.set_trace_callback(asked.append)
        space = Space(store, EMBEDDER, kind="numpy")
        np.testing.assert_array_equal(space.vector(a), EMBEDDER.embed_documents(["a"])[0])
        assert near(space, "a") == [a]
        columns = [query.partition("FROM")[0] for query in asked]
        assert any("uid" in query for query in columns)
        assert not any("plan" in query for query in columns)
        np.testing.assert_array_equal(space.vector(b), EMBEDDER.embed_documents(["b"])[0])


def test_an_index_of_another_past_is_not_believed(tmp_path: Path) -> None:
    """After a backup was restored, the file has as many events as before, but other ones."""
    backup = tmp_path / "backup.sqlite"
    with CaseStore(tmp_path / "store") as store:
        add(store, "a")
        embed_pending(store, EMBEDDER)
        store.backup(backup)
        add(store, "b")
        Space(store, EMBEDDER, kind="numpy")
    backup.replace(tmp_path / "store" / "memory.sqlite")
    with CaseStore(tmp_path / "store") as store:
        add(store, "c")
        space = Space(store, EMBEDDER, kind="numpy")
        (hits,) = space.search(space.embed(["c"]), 1)
        assert (hits.ids[0], hits.scores[0]) == (2, pytest.approx(1, abs=1e-6))


@pytest.mark.parametrize("mode", ["ro", "frozen"])
@pytest.mark.parametrize("embedded", ["all", "some", "none"])
def test_a_reader_writes_nothing_and_sees_everything(
    tmp_path: Path, mode: str, embedded: str
) -> None:
    with CaseStore(tmp_path) as store:
        add(store, "a", "b")
        if embedded != "none":
            embed_pending(store, EMBEDDER)
            Space(store, EMBEDDER)
        if embedded == "some":
            add(store, "c")
            store.update(1, {"question": "aa"}, expected_version=1, actor="test")
    before = files(tmp_path)
    with CaseStore(tmp_path, mode=mode) as store:  # type: ignore[arg-type]
        space = Space(store, EMBEDDER)
        questions = [case.question for case in store.cases()]
        np.testing.assert_array_equal(space.matrix()[1], EMBEDDER.embed_documents(questions))
        assert [near(space, q)[0] for q in questions] == [case.id for case in store.cases()]
        assert space.vector(1) is not None
    after = files(tmp_path)
    if mode == "ro":  # SQLite's own files for readers beside writers
        after = {name: data for name, data in after.items() if not name.endswith(("-shm", "-wal"))}
    assert after == before


def test_a_snapshot_is_searched_as_it_was(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        a, b = add(store, "apples", "pears")
        Space(store, EMBEDDER)
        store.snapshot("then")
        store.update(a, {"question": "cherries"}, expected_version=1, actor="test")
        store.delete([b], actor="test")
        add(store, "pears and apples")
        Space(store, EMBEDDER)
    with CaseStore(tmp_path, mode="frozen", snapshot="then") as store:
        space = Space(store, EMBEDDER)
        assert near(space, "pears", 9) == [b, a]
        np.testing.assert_array_equal(space.vector(a), EMBEDDER.embed_documents(["apples"])[0])


def test_another_embedder_is_refused_in_every_mode(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        add(store, "a")
        Space(store, EMBEDDER)
        with pytest.raises(FingerprintMismatch, match="open it with that embedder"):
            Space(store, HashingEmbedder(dim=8))
    for mode in ("ro", "frozen"):
        with (
            CaseStore(tmp_path, mode=mode) as store,  # type: ignore[arg-type]
            pytest.raises(FingerprintMismatch, match="hashing"),
        ):
            Space(store, HashingEmbedder(dim=8))


def test_a_space_outlives_a_move_until_it_is_refreshed(store: CaseStore) -> None:
    add(store, "a", "b")
    space = Space(store, EMBEDDER)
    list(migrate(store, HashingEmbedder(dim=8)))
    assert near(space, "b") == [2]
    moved = Space(store, HashingEmbedder(dim=8))
    assert near(moved, "b") == [2]


def test_the_floor_is_kept_with_the_store(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        add(store, *(f"How far is town {i}?" for i in range(120)))
        floor = Space(store, EMBEDDER).floor
        assert 0 < floor < 1
        add(store, *(f"Something else, {i}" for i in range(50)))
        assert Space(store, EMBEDDER).floor == floor
    with CaseStore(tmp_path, mode="frozen") as store:
        assert Space(store, EMBEDDER).floor == floor


def test_a_reader_reads_through_it(store: CaseStore) -> None:
    """The near copy of the item is archived; the guard still finds it as an ancestor."""
    leak, other = add(store, "How many apples are in the red basket?", "What is a prime number?")
    child = store.add(
        CaseIn(question="Something about fruit", parents=(Parent(leak),)), actor="test"
    ).id
    store.archive([leak], actor="test")
    cases = {case.id: case for case in store.cases(EVERYTHING)}
    space = Space(store, EMBEDDER)
    rules = Rules(ReadPolicy(k=2, score=BySimilarity()), Guard())
    reader = Reader(State(cases, {}, store.seq), space, rules)
    read = reader.read(Query(GuardedItem("i", "How many apples are in the red basket")))
    assert [case.id for case in read.shown] == [other]
    assert (read.verdicts[child].blocked_by or "").startswith("blocked ancestor")
    assert read.retrieval.fingerprint == EMBEDDER.fingerprint.digest


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "edit", "archive", "open"]), st.integers(0, 5),
                  st.sampled_from(["a", "bb", "c d", " "])), max_size=10,
    ),
    st.sampled_from(["exact", "approximate", "numpy"]),
)  # fmt: skip
def test_a_refreshed_space_is_a_new_one(changes: list[tuple[str, int, str]], kind: str) -> None:
    with (
        tempfile.TemporaryDirectory(dir=memory_folder()) as folder,
        CaseStore(Path(folder)) as store,
    ):
        space = Space(store, EMBEDDER, kind=kind)  # type: ignore[arg-type]
        for number, (name, pick, question) in enumerate(changes):
            apply(store, store.cases(), name, pick, question, number)
            if name == "open":
                space = Space(store, EMBEDDER, kind=kind)  # type: ignore[arg-type]
            space.refresh(store.cases(EVERYTHING))
            wanted = [case for case in store.cases() if case.question.strip()]
            ids, rows = space.matrix()
            assert ids.tolist() == sorted(near(space, "bb", 99)) == [case.id for case in wanted]
            expected = EMBEDDER.embed_documents([case.question for case in wanted])
            np.testing.assert_array_equal(rows, expected)


def apply(
    store: CaseStore, cases: list[Case], name: str, pick: int, question: str, number: int
) -> None:
    if name == "add":
        store.add(CaseIn(question=question, plan=f"p{number}"), actor="test")
    elif cases and name == "edit":
        one = cases[pick % len(cases)]
        fields = {"question": question, "plan": f"e{number}"}
        store.update(one.id, fields, expected_version=one.version, actor="test")
    elif cases and name == "archive":
        store.archive([cases[pick % len(cases)].id], actor="test")
