"""Export and import: equal bytes for equal contents, and nothing happens twice."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.errors import DuplicateCase, InvalidCase, StoreError
from memory.store import CaseStore
from memory.types import CaseFilter, CaseIn, Parent
from tests.memory.store_places import memory_folder

EVERYTHING = CaseFilter(states=("active", "archived", "deleted"))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MAYBE = st.none() | TEXT
CASES = st.builds(
    CaseIn,
    ns=st.sampled_from(["a", "a/b"]),
    kind=st.sampled_from(["case", "insight", "subtask", "tool"]),
    question=TEXT,
    plan=TEXT.map(lambda text: text or "plan"),
    answer=MAYBE,
    reward=st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3),
    outcome=st.sampled_from(["success", "failure", "unknown"]),
    item_id=MAYBE,
    step=st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
    tags=st.lists(TEXT, max_size=3).map(tuple),
)


@settings(max_examples=40)
@given(st.lists(CASES, max_size=5), st.data())
def test_export_import_export_gives_the_same_bytes(cases: list[CaseIn], data: Any) -> None:
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        here = Path(name)
        with CaseStore(here / "one") as one:
            ids = sorted({r.id for r in one.add_many(cases, actor="test")})
            for child in ids[1:]:
                for parent in data.draw(st.sets(st.sampled_from(ids[: ids.index(child)]))):
                    one.link(child, Parent(parent, data.draw(TEXT)), actor="test")
            if ids:
                some = st.lists(st.sampled_from(ids))
                one.archive(data.draw(some), actor="test")
                one.delete(data.draw(some), actor="test")
                one.pin(data.draw(some), actor="test")
            assert one.export(here / "1.jsonl") == len(ids)
        with CaseStore(here / "two") as two:
            assert two.import_(here / "1.jsonl", actor="test").created == len(ids)
            two.export(here / "2.jsonl")
            seq, digest = two.seq, two.digest
            assert two.import_(here / "1.jsonl", actor="test").same == len(ids)
            assert (two.seq, two.digest) == (seq, digest)
            assert two.verify() == []
        assert (here / "1.jsonl").read_bytes() == (here / "2.jsonl").read_bytes()


def exported(folder: Path, *cases: CaseIn) -> Path:
    with CaseStore(folder) as store:
        store.add_many(cases, actor="test")
        store.export(folder / "cases.jsonl")
    return folder / "cases.jsonl"


def test_the_lines_are_as_documented(tmp_path: Path) -> None:
    lines = exported(tmp_path, CaseIn(question="é", uid="u")).read_text("utf-8").splitlines()
    assert lines == [
        '{"format":"tfgrpo-memory","version":1}',
        '{"also_items":[],"answer":null,"dataset":null,"group_id":null,"item_id":null,"kind":"case","model":null,'
        '"ns":"default","outcome":"unknown","parents":[],"pinned":false,"plan":"",'
        '"prompt_sha":null,"question":"é","reason":"","reward":null,"rollout_id":null,'
        '"run_id":null,"seen_count":1,"split":null,"state":"active","step":null,"tags":[],'
        '"tokens":null,"uid":"u","verifier":null}',
    ]


def test_the_order_of_adding_does_not_show(tmp_path: Path) -> None:
    cases = [CaseIn(question=uid, uid=uid) for uid in "cab"]
    files = [exported(tmp_path / "1", *cases), exported(tmp_path / "2", *reversed(cases))]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_conflicts_are_skipped_overwritten_or_refused(tmp_path: Path) -> None:
    a = CaseIn(question="a", uid="a", answer="theirs")
    file = exported(tmp_path / "other", a, CaseIn(question="b", uid="b"))
    with CaseStore(tmp_path / "here") as store:
        number = store.add(CaseIn(question="a", uid="a", answer="ours"), actor="test").id
        with pytest.raises(DuplicateCase, match="skip or overwrite"):
            store.import_(file, actor="test", on_conflict="refuse")
        assert len(store.cases()) == 1
        report = store.import_(file, actor="test")
        assert (report.created, report.same, report.conflicting) == (1, 0, ("a",))
        assert store.get(number).answer == "ours"
        store.import_(file, actor="test", on_conflict="overwrite")
        assert (store.get(number).answer, store.get(number).version) == ("theirs", 2)
        assert store.verify() == []


def test_a_copy_under_another_uid_is_the_same_case(tmp_path: Path) -> None:
    file = exported(tmp_path / "other", CaseIn(question="A", uid="theirs"))
    with CaseStore(tmp_path / "here") as store:
        number = store.add(CaseIn(question="a", uid="ours"), actor="test").id
        before = store.seq
        assert store.import_(file, actor="test").same == 1
        assert (store.seq, [c.id for c in store.cases()]) == (before, [number])


def test_a_copy_leaves_its_origins(tmp_path: Path) -> None:
    with CaseStore(tmp_path / "other") as other:
        parent = other.add(CaseIn(question="p", uid="p"), actor="test").id
        theirs = CaseIn(question="A", uid="theirs", item_id="j", parents=(Parent(parent),))
        other.add(theirs, actor="test")
        other.export(tmp_path / "file.jsonl")
    with CaseStore(tmp_path / "here") as store:
        number = store.add(CaseIn(question="a", item_id="i"), actor="test").id
        assert store.import_(tmp_path / "file.jsonl", actor="test").created == 1
        found, seq = store.get(number), store.seq
        assert (found.item_id, found.also_items, found.seen_count) == ("i", ("j",), 1)
        assert [store.get(p.id).uid for p in found.parents] == ["p"]
        store.import_(tmp_path / "file.jsonl", actor="test")
        assert store.seq == seq
        assert store.verify() == []


def test_a_purged_parent_is_left_out(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        parent = store.add(CaseIn(question="p"), actor="test").id
        store.add(CaseIn(question="c", parents=(Parent(parent),)), actor="test")
        store.purge([parent], confirm=True, actor="test")
        store.export(tmp_path / "cases.jsonl")
    assert (
        json.loads((tmp_path / "cases.jsonl").read_text("utf-8").splitlines()[1])["parents"] == []
    )


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"tfgrpo-memory"', '"other"', "export it again"),
        ('"kind":"case"', '"kind":"thing"', "Line 2 is no case"),
        ('"reward":null', '"reward":NaN', "Line 2 is no case"),
        ('"step":null', '"colour":null', "Line 2 is no case"),
        ('"pinned":false', '"pinned":0', "Line 2 is no case"),
        ('"state":"active"', '"state":"gone"', "Line 2 is no case"),
        ('"parents":[]', '"parents":[["none","from"]]', "not in the file"),
        ('"tags":[]}', "", "Line 2 is no JSON"),
        ('"tags":[]', '"tags":5', "Line 2 is no case"),
        ('"question":"a"', '"question":"\\ud800"', "Line 2 is no case"),
    ],
)
def test_a_bad_file_is_refused_whole(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    file = exported(tmp_path / "other", CaseIn(question="a", uid="u"))
    text = file.read_text("utf-8").replace('"tokens":null,"uid":"u","verifier":null}', "#")
    line = '"tokens":null,"uid":"u","verifier":null'
    text = text.replace('"tags":[],#', f'{line},"tags":[]}}')
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")
    with CaseStore(tmp_path / "here") as store:
        with pytest.raises(InvalidCase, match=sentence):
            store.import_(file, actor="test")
        assert store.seq == 0


def test_a_backup_holds_everything(tmp_path: Path) -> None:
    with CaseStore(tmp_path / "one") as store:
        store.add(CaseIn(question="a"), actor="test")
        store.snapshot("s")
        digest = store.digest
        (tmp_path / "two").mkdir()
        store.backup(tmp_path / "two" / "memory.sqlite")
        with pytest.raises(StoreError, match="choose another file"):
            store.backup(tmp_path / "two" / "memory.sqlite")
    with CaseStore(tmp_path / "two") as copy:
        assert copy.digest == digest == copy.at("s").digest
        assert [e.op for e in copy.history()] == ["add"]
        assert copy.verify() == []
