"""The store of cases: adding, changing, erasing, looking back, and what it refuses."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import (
    CaseNotFound,
    CorruptStore,
    DuplicateCase,
    InvalidCase,
    NoStore,
    NotReady,
    ReadOnlyStore,
    SnapshotError,
    StoreBusy,
    StoreError,
    VersionConflict,
)
from memory.sqlite.rows import matches
from memory.sqlite.schema import MIGRATIONS, migrate
from memory.store import CaseStore
from memory.types import CaseFilter, CaseIn, Hit, Outcome, Parent, Retrieval

EVERYTHING = CaseFilter(states=("active", "archived", "deleted"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CaseStore]:
    with CaseStore(tmp_path / "store") as opened:
        yield opened
        assert opened.verify() == []


def case(question: str = "How much is 2 + 2?", **more: Any) -> CaseIn:
    return CaseIn(question=question, **{"plan": "Add.", "outcome": "success"} | more)


def add(store: CaseStore, *questions: str, **more: Any) -> list[int]:
    return [r.id for r in store.add_many([case(q, **more) for q in questions], actor="test")]


def contents_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def test_a_case_comes_back_as_it_was_given(store: CaseStore) -> None:
    given_case = CaseIn(
        ns="maths/train", kind="insight", question="¿Qué?\x00 😀", plan="", answer="4", reward=0.5,
        outcome="failure", reason="off by one", verifier="exact", item_id="i", dataset="d",
        split="train", run_id="r", step=3, rollout_id="o", group_id="g", model="m",
        prompt_sha="p", tokens=7, tags=("b", "a", "b"), uid="u-1",
    )  # fmt: skip
    result = store.add(given_case, actor="test", reason="seen")
    found = store.get(result.id)
    assert result.status == "created"
    assert found.tags == ("a", "b")
    for name in (n for n in CaseIn.__dataclass_fields__ if n != "tags"):
        assert getattr(found, name) == getattr(given_case, name)
    assert (found.version, found.seen_count, found.state, found.pinned) == (1, 1, "active", False)


def test_a_million_characters_survive(store: CaseStore) -> None:
    text = "πλάνο 😀 " * 125_000
    (number,) = add(store, "q", plan=text)
    assert store.get(number).plan == text


def test_copies_are_counted_not_kept(store: CaseStore) -> None:
    first = store.add(case("What  IS it?"), actor="test")
    assert store.add(case("what is it?"), actor="test") == replace(first, status="merged")
    assert store.get(first.id).seen_count == 2
    others = [case(plan="Other."), case(outcome="failure"), case(ns="x"), case(kind="tool")]
    assert {r.status for r in store.add_many(others, actor="test")} == {"created"}


def test_a_deleted_copy_stays_deleted_and_an_archived_one_archived(store: CaseStore) -> None:
    gone, old = add(store, "gone", "old")
    store.delete([gone], actor="test")
    store.archive([old], actor="test")
    assert store.add(case("gone"), actor="test").status == "rejected"
    assert store.add(case("old"), actor="test").status == "merged"
    assert store.cases() == []


def test_a_merged_copy_leaves_its_origin(store: CaseStore) -> None:
    """A guard that forgot the second item would let its answer through."""
    (parent,) = add(store, "parent")
    first = store.add(case("q", item_id="i"), actor="test").id
    child = store.add(case("child", parents=(Parent(first),)), actor="test").id
    copy = case("Q", item_id="j", parents=(Parent(parent), Parent(child), Parent(first)))
    for _ in range(2):
        assert store.add(copy, actor="test").status == "merged"
    found = store.get(first)
    assert (found.item_id, found.also_items) == ("i", ("j",))
    assert found.parents == (Parent(parent),)
    assert found.seen_count == 3
    for item in ("i", "j"):
        assert [c.id for c in store.cases(CaseFilter(item_id=item))] == [first]
    with pytest.raises(CaseNotFound):
        store.add(replace(copy, parents=(Parent(99),)), actor="test")


def test_ids_are_never_given_twice(store: CaseStore) -> None:
    (first,) = add(store, "a")
    store.purge([first], confirm=True, actor="test")
    (second,) = add(store, "a")
    assert second > first
    with pytest.raises(CaseNotFound, match=r"list the cases"):
        store.get(first)


def test_a_change_needs_the_version_it_was_made_for(store: CaseStore) -> None:
    (number,) = add(store, "a")
    changed = store.update(number, {"answer": "4"}, expected_version=1, actor="test")
    assert (changed.version, changed.answer) == (2, "4")
    with pytest.raises(VersionConflict, match="read it again"):
        store.update(number, {"answer": "5"}, expected_version=1, actor="test")
    assert store.get(number) == changed
    assert store.update(number, {"answer": "4"}, expected_version=2, actor="test") == changed


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"reward": float("nan")}, "finite"),
        ({"reward": "1"}, "finite"),
        ({"outcome": "fine"}, "use one of"),
        ({"kind": "thing"}, "use one of"),
        ({"question": "", "plan": ""}, "give one of them"),
        ({"question": "\ud800"}, "surrogate"),
        ({"question": None}, "give text"),
        ({"tags": (3,)}, "give text"),
        ({"ns": "a//b"}, "write it like"),
        ({"ns": ""}, "write it like"),
        ({"step": 2**63}, "whole number"),
        ({"tokens": 1.5}, "whole number"),
    ],
)
def test_what_no_case_can_hold(store: CaseStore, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidCase, match=sentence):
        store.add_many([case("good"), replace(case(), **fields)], actor="test")
    assert (store.cases(), store.seq) == ([], 0)


def test_a_change_cannot_make_a_copy_or_an_unknown_field(store: CaseStore) -> None:
    first, second = add(store, "a", "b")
    with pytest.raises(DuplicateCase, match=f"Case {first} says"):
        store.update(second, {"question": "A"}, expected_version=1, actor="test")
    with pytest.raises(InvalidCase, match="no field colour"):
        store.update(second, {"colour": "red"}, expected_version=1, actor="test")
    with pytest.raises(DuplicateCase, match="uid"):
        store.add_many([case("c", uid="u"), case("d", uid="u")], actor="test")


def test_restoring_must_not_make_a_copy(store: CaseStore) -> None:
    first, second = add(store, "a", "b")
    store.delete([first], actor="test")
    store.update(second, {"question": "a"}, expected_version=1, actor="test")
    with pytest.raises(DuplicateCase, match=f"Case {second} says"):
        store.restore([first], actor="test")
    store.delete([second], actor="test")
    store.restore([first], actor="test")
    assert [c.id for c in store.cases()] == [first]


def test_pinned_cases_stay(store: CaseStore) -> None:
    pinned, other = add(store, "a", "b")
    store.pin([pinned], actor="test")
    for remove in (store.archive, store.delete):
        with pytest.raises(StoreError, match="unpin it first"):
            remove([other, pinned], actor="test")
    with pytest.raises(StoreError, match="unpin it first"):
        store.purge([pinned], confirm=True, actor="test")
    assert [c.state for c in store.cases()] == ["active", "active"]
    store.pin([pinned], actor="test", pinned=False)
    assert [c.id for c in store.delete([pinned], actor="test").changes] == [pinned]
    assert store.delete([pinned], actor="test").changes == ()


def test_lineage_has_no_circles(store: CaseStore) -> None:
    a, b, c = add(store, "a", "b", "c")
    store.link(b, Parent(a, "distilled"), actor="test")
    store.link(c, Parent(b), actor="test")
    assert store.get(b).parents == (Parent(a, "distilled"),)
    for child, parent in ((a, c), (a, a)):
        with pytest.raises(InvalidCase, match="own ancestor"):
            store.link(child, Parent(parent), actor="test")
    with pytest.raises(CaseNotFound):
        store.link(a, Parent(99), actor="test")
    assert store.get(a).parents == ()


def test_namespaces_are_paths(store: CaseStore) -> None:
    for ns in ("m", "m/a", "m/a/1", "ma", "m_a"):
        add(store, "q", ns=ns)
    assert [c.ns for c in store.cases(CaseFilter(ns="m"))] == ["m", "m/a", "m/a/1"]
    assert [c.ns for c in store.cases(CaseFilter(ns="m/a"))] == ["m/a", "m/a/1"]
    assert store.namespaces() == {"m": 1, "m/a": 1, "m/a/1": 1, "m_a": 1, "ma": 1}


def test_pages_meet_every_case_once(store: CaseStore) -> None:
    ids = add(store, *"abcdefg")
    seen, after = [], 0
    while page := store.cases(after=after, limit=3):
        seen += [c.id for c in page]
        after = seen[-1]
    assert seen == ids


@given(st.data())
def test_a_filter_means_the_same_of_rows_and_of_cases(data: st.DataObject) -> None:
    names = st.sampled_from([None, "a", "b"])
    wanted = CaseFilter(
        ns=data.draw(st.sampled_from([None, "n", "n/a", "na"])),
        kind=data.draw(st.sampled_from([None, "case", "tool"])),
        states=data.draw(st.sampled_from([("active",), ("deleted", "archived"), ()])),
        outcome=data.draw(st.sampled_from([None, "success", "failure"])),
        item_id=data.draw(names),
        dataset=data.draw(names),
        pinned=data.draw(st.sampled_from([None, True, False])),
        tag=data.draw(names),
    )
    store = _assorted()
    expected = [c for c in store.cases(EVERYTHING) if matches(c, wanted)]
    assert store.cases(wanted) == expected


_ASSORTED: list[CaseStore] = []


def _assorted() -> CaseStore:
    """One store for all examples, because they only read."""
    return _ASSORTED[0]


@pytest.fixture(scope="module", autouse=True)
def _assorted_cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with CaseStore(tmp_path_factory.mktemp("assorted")) as store:
        for i in range(48):
            kinds, nss = ("case", "tool"), ("n", "n/a", "na")
            add(
                store, f"q{i}", kind=kinds[i % 2], ns=nss[i % 3], dataset=(None, "a", "b")[i % 3],
                item_id=(None, "a", "b", None)[i % 4],
                outcome=("success", "failure")[i % 5 % 2], tags=("a", "b")[: i % 4 % 3],
            )  # fmt: skip
        store.archive(range(1, 48, 7), actor="test")
        store.delete(range(2, 48, 5), actor="test")
        store.pin(range(1, 48, 3), actor="test")
        _ASSORTED.append(store)
        yield
        _ASSORTED.clear()


def test_a_purge_really_erases(tmp_path: Path) -> None:
    secret = "Sesam-öffne-dich"
    with CaseStore(tmp_path) as store:
        number, kept = add(store, f"{secret} 1", "kept")
        child = store.add(case("child", parents=(Parent(number),)), actor="test").id
        store.update(
            number, {"plan": secret * 9000}, expected_version=1, actor="test", reason=secret
        )
        before = store.snapshot("before")
        read = store.retrievals.log(Retrieval((Hit(number, 0.9, 0), Hit(kept, 0.8, 1)), "q"))
        store.retrievals.credit([Outcome(read, 1.0, 0.5)], actor="test")
        credited = store.snapshot("credited")
        store.vectors.register("fp", 2, {})
        store.vectors.put("fp", "plan", [store.get(number)], np.array([[1, 0]], np.float32))
        with pytest.raises(StoreError, match="cannot be undone"):
            store.purge([number], confirm=False, actor="test")
        store.purge([number], confirm=True, actor="test")
        for file in tmp_path.iterdir():
            assert secret.encode() not in file.read_bytes()
        assert [(e.op, e.before, e.after, e.reason) for e in store.history(number)] == [
            ("add", None, None, ""), ("update", None, None, ""), ("purge", None, None, ""),
        ]  # fmt: skip
        assert store.at("before").digest == before.digest
        assert store.at("credited").digest == credited.digest
        assert set(store.at("before").cases) == {kept, child}
        assert store.get(child).parents == (Parent(number),)
        assert set(store.utilities()) == {kept}
        assert store.diff("credited", store.seq).utility[0].case_id == number
        assert store.verify() == []


def test_a_purge_also_overwrites_what_other_tools_freed(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        (number,) = add(store, "a")
    file = tmp_path / "memory.sqlite"
    other = sqlite3.connect(file)
    with other:
        other.execute("PRAGMA secure_delete = OFF")
        other.execute("INSERT INTO meta VALUES ('note', ?)", ("Sesam" * 9000,))
        other.execute("DELETE FROM meta")
    other.close()
    assert b"Sesam" in file.read_bytes()
    with CaseStore(tmp_path) as store:
        store.purge([number], confirm=True, actor="test")
        assert store.verify() == []
    assert b"Sesam" not in file.read_bytes()


def test_an_unfinished_purge_is_told_and_can_be_finished(tmp_path: Path) -> None:
    with CaseStore(tmp_path, patience=0.05) as store:
        (number,) = add(store, "a")
        reader = sqlite3.connect(tmp_path / "memory.sqlite", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM cases").fetchall()
        with pytest.raises(StoreError, match="purge with no ids"):
            store.purge([number], confirm=True, actor="test")
        assert [p.code for p in store.verify()] == ["erase"]
        reader.close()
        store.purge([], confirm=True, actor="test")
        assert store.verify() == []


def test_a_frozen_store_is_left_alone_to_the_byte(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        a, b = add(store, "a", "b")
        taken = store.snapshot("then")
        store.delete([a], actor="test")
        store.update(b, {"answer": "x"}, expected_version=1, actor="test")
    before = contents_of(tmp_path)
    with CaseStore(tmp_path, mode="frozen", snapshot="then") as frozen:
        assert [c.id for c in frozen.cases()] == [a, b]
        assert frozen.get(b).answer is None
        assert (frozen.seq, frozen.digest) == (taken.seq, taken.digest)
        for change in (
            lambda: frozen.add(case("c"), actor="test"),
            lambda: frozen.snapshot("x"),
            lambda: frozen.retrievals.log(Retrieval((), "q")),
            lambda: frozen.purge([a], confirm=True, actor="test"),
        ):
            with pytest.raises(ReadOnlyStore, match="open it for writing"):
                change()
        assert frozen.verify() == []
    with CaseStore(tmp_path, mode="frozen") as frozen:
        assert [c.answer for c in frozen.cases()] == ["x"]
    assert contents_of(tmp_path) == before


def test_a_store_being_written_is_not_frozen(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        add(store, "a")
        with pytest.raises(NotReady, match="end every writer, then open it for writing"):
            CaseStore(tmp_path, mode="frozen")
        with CaseStore(tmp_path, mode="ro") as reader:
            assert len(reader.cases()) == 1
            add(store, "b")
            assert len(reader.cases()) == 2
            with pytest.raises(ReadOnlyStore):
                reader.delete([1], actor="test")


def test_a_frozen_store_tells_if_it_was_written_after_all(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        add(store, "a")
    with CaseStore(tmp_path, mode="frozen") as frozen:
        with CaseStore(tmp_path) as store:
            add(store, "b")
        with pytest.raises(StoreError, match="end its writer and begin again"):
            frozen.cases()


def test_threads_share_a_store(store: CaseStore) -> None:
    def work(who: int) -> None:
        for i in range(10):
            add(store, "shared", f"{who}/{i}")
            assert len(store.cases()) > i

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(store.cases()) == 41
    assert store.get(1).seen_count == 40


def test_what_cannot_be_opened_or_asked_is_told(store: CaseStore, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="mend that"):
        CaseStore(tmp_path / "file")
    with pytest.raises(StoreError, match="use rw, ro or frozen"):
        CaseStore(tmp_path, mode="r")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="2\\^63"):
        store.get(2**63)
    with pytest.raises(StoreError, match="check the file's name"):
        store.import_(tmp_path / "none.jsonl", actor="test")
    with pytest.raises(StoreError, match="cannot be written"):
        store.export(tmp_path / "no" / "folder.jsonl")


def test_a_reader_needs_a_store_and_a_writer_the_present(tmp_path: Path) -> None:
    for mode in ("ro", "frozen"):
        with pytest.raises(NoStore, match="check the folder"):
            CaseStore(tmp_path / "none", mode=mode)
    assert not (tmp_path / "none").exists()
    with pytest.raises(SnapshotError, match="for reading only"):
        CaseStore(tmp_path, snapshot="then")


def test_vectors_belong_to_a_text(store: CaseStore) -> None:
    a, b = add(store, "a", "b")
    cases = store.cases()
    store.vectors.register("fp", 2, {"model": "m"})
    store.vectors.put("fp", "question", cases, np.array([[1, 0], [0, 1]], np.float32))
    matrix, fitting, pending = store.vectors.get("fp", "question", cases)
    assert matrix.tolist() == [[1, 0], [0, 1]]
    assert (fitting, pending) == (cases, [])
    store.update(a, {"plan": "New."}, expected_version=1, actor="test")
    store.update(b, {"question": "bb"}, expected_version=1, actor="test")
    matrix, fitting, pending = store.vectors.get("fp", "question", store.cases())
    assert ([c.id for c in fitting], [c.id for c in pending]) == ([a], [b])
    assert store.vectors.get("fp", "plan", cases)[0].shape == (0, 2)


def test_vectors_must_fit_their_space(store: CaseStore) -> None:
    add(store, "a")
    with pytest.raises(StoreError, match="register it"):
        store.vectors.put("fp", "plan", store.cases(), np.ones((1, 2), np.float32))
    store.vectors.register("fp", 2, {"model": "m"})
    store.vectors.register("fp", 2, {"model": "m"})
    with pytest.raises(StoreError, match="another embedder"):
        store.vectors.register("fp", 2, {"model": "other"})
    for bad in (np.ones((1, 3)), np.ones((2, 2)), np.full((1, 2), np.nan)):
        with pytest.raises(InvalidCase, match=r"\(1, 2\)"):
            store.vectors.put("fp", "plan", store.cases(), bad.astype(np.float32))


def test_verify_finds_what_was_tampered_with(tmp_path: Path) -> None:
    tampering = {
        "case": "UPDATE cases SET plan = 'Lie.' WHERE id = 1",
        "utility": "UPDATE utility SET mean = 9",
        "snapshot": "UPDATE snapshots SET digest = 'x'",
        "vector": "UPDATE vectors SET vec = zeroblob(8)",
        "reference": "DELETE FROM ids WHERE id = 1",
        "history": "INSERT INTO history SELECT 99, ts, actor, op, case_id, '{}', after_json, "
        "after_sha, reason, run_id FROM history WHERE seq = 1",
    }
    for code, statement in tampering.items():
        folder = tmp_path / code
        with CaseStore(folder) as store:
            (number,) = add(store, "a")
            store.vectors.register("fp", 2, {})
            store.vectors.put("fp", "plan", store.cases(), np.array([[0, 1]], np.float32))
            read = store.retrievals.log(Retrieval((Hit(number, 1.0, 0),), "q"))
            store.retrievals.credit([Outcome(read, 1.0, 0.5)], actor="test")
            store.snapshot("s")
            assert store.verify() == []
            other = sqlite3.connect(folder / "memory.sqlite")
            with other:
                other.execute(statement)
            other.close()
            assert code in {problem.code for problem in store.verify()}


def test_the_history_cannot_be_rewritten(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        add(store, "a")
    other = sqlite3.connect(tmp_path / "memory.sqlite")
    for statement in ("DELETE FROM history", "UPDATE history SET after_json = '{}'"):
        with pytest.raises(sqlite3.IntegrityError, match="the history"):
            other.execute(statement)
    other.close()


@pytest.mark.parametrize("mode", ["rw", "ro", "frozen"])
def test_damaged_and_foreign_files_are_refused(tmp_path: Path, mode: Any) -> None:
    with CaseStore(tmp_path / "good") as store:
        add(store, *(f"q{i}" for i in range(40)), reason="x" * 5000)
    good = (tmp_path / "good" / "memory.sqlite").read_bytes()
    page = 4096
    wrecks = {
        "text": b"This is no database." * 500,
        "short": good[: len(good) // 2],
        "zeros": good[:page] + bytes(len(good) - page),
        "flipped": good[:page] + bytes(b ^ 255 for b in good[page : 20 * page]) + good[20 * page :],
    }
    for name, data in wrecks.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "memory.sqlite").write_bytes(data)
        with pytest.raises(CorruptStore, match="restore it from a backup"):
            CaseStore(folder, mode=mode)
        assert (folder / "memory.sqlite").read_bytes() == data


def test_a_database_of_another_program_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "memory.sqlite"
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE birds (name)")
    other.close()
    before = file.read_bytes()
    with pytest.raises(CorruptStore, match="another program"):
        CaseStore(tmp_path)
    assert file.read_bytes() == before


def test_formats_are_migrated_upwards_only(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        add(store, "a")
    connection = sqlite3.connect(tmp_path / "memory.sqlite", isolation_level=None)
    newer = (*MIGRATIONS, ("ALTER TABLE cases ADD COLUMN colour TEXT",))
    connection.execute("BEGIN")
    migrate(connection, newer)
    migrate(connection, newer)
    connection.execute("COMMIT")
    assert connection.execute("SELECT id, colour FROM cases").fetchall() == [(1, None)]
    connection.close()
    with pytest.raises(CorruptStore, match="upgrade it"):
        CaseStore(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "memory.sqlite").touch()
    with pytest.raises(NotReady, match="open it for writing once"):
        CaseStore(tmp_path / "empty", mode="ro")
    with CaseStore(tmp_path / "empty") as store:
        assert store.cases() == []


def test_a_writer_waits_only_so_long(tmp_path: Path) -> None:
    with CaseStore(tmp_path, patience=0.05) as store:
        other = sqlite3.connect(tmp_path / "memory.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="wait for it"):
            add(store, "a")
        other.close()
        add(store, "a")


def test_a_failed_batch_leaves_nothing(store: CaseStore) -> None:
    add(store, "a")
    digest = store.digest
    with pytest.raises(CaseNotFound):
        store.delete([1, 99], actor="test")
    with pytest.raises(CaseNotFound):
        store.add(case("b", parents=(Parent(77),)), actor="test")
    assert (store.digest, store.seq) == (digest, 1)
