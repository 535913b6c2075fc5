"""Banks of other programs: what becomes of each entry; none is lost or brought in twice."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.errors import InvalidCase, StoreError
from memory.files.foreign import Unread, detect, export_lines, import_bank, read_bank
from memory.store import CaseStore
from memory.types import CaseFilter, CaseIn, Parent
from tests.memory.store_places import memory_folder

EVERYTHING = CaseFilter(states=("active", "archived", "deleted"))
STEPS = {"plan": [{"id": 1, "description": "Find the club."}, {"id": 2, "description": "Read."}]}
SPOKEN = "1. Find the club.\n2. Read."


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def whole(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, indent=2), "utf-8")
    return path


def said(cases: Sequence[CaseIn]) -> list[tuple[str, str, str, float | None]]:
    return [(c.question, c.plan, c.outcome, c.reward) for c in cases]


def test_memento_without_a_trained_retriever(tmp_path: Path) -> None:
    file = jsonl(
        tmp_path / "memory.jsonl",
        {"question": "Which sport?", "plan": json.dumps(STEPS), "reward": 1},
        {"question": "Which town?", "plan": "Ask.", "reward": 0},
        {"question": "Half?", "plan": "", "reward": 0.5},
        {"question": "Unjudged?", "plan": "p", "reward": None},
        {"question": "Unjudged too?", "plan": "p"},
        {"question": "True?", "plan": "p", "reward": True},
    )
    bank = read_bank(file)
    assert detect(file) == bank.format == "memento"
    assert said(bank.cases) == [
        ("Which sport?", SPOKEN, "success", 1.0),
        ("Which town?", "Ask.", "failure", 0.0),
        ("Half?", "", "failure", 0.5),
        ("Unjudged?", "p", "unknown", None),
        ("Unjudged too?", "p", "unknown", None),
        ("True?", "p", "success", 1.0),
    ]
    assert (bank.unread, bank.repeated) == ((), 0)


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (STEPS, SPOKEN),
        (json.dumps(STEPS, indent=1), SPOKEN),
        ('{"plan": [', '{"plan": ['),
        ("Just do it.", "Just do it."),
        ('{"plan": ["x"]}', '{"plan": ["x"]}'),
        ({"plan": ["x"], "a": 1}, '{"a":1,"plan":["x"]}'),
        ({"plan": [{"id": 1, "description": "d", "tool": "t"}]},
         '{"plan":[{"description":"d","id":1,"tool":"t"}]}'),
        (["a", "b"], '["a","b"]'),
        ("[" * 100_000, "[" * 100_000),
    ],
)  # fmt: skip
def test_memento_with_labels_and_plans_of_all_shapes(tmp_path: Path, plan: Any, text: str) -> None:
    rows = [
        {"case": "q", "plan": plan, "case_label": label}
        for label in ("positive", "Negative ", "unknown")
    ]
    bank = read_bank(jsonl(tmp_path / "x", *rows))
    assert bank.format == "memento-labels"
    assert said(bank.cases) == [
        ("q", text, "success", 1.0), ("q", text, "failure", 0.0), ("q", text, "unknown", None),
    ]  # fmt: skip


def test_both_memories_name_one_case_alike(tmp_path: Path) -> None:
    row = {"question": " Which  SPORT?", "plan": STEPS, "reward": 1}
    first = read_bank(jsonl(tmp_path / "a", row)).cases[0]
    row = {"case": "which sport?", "plan": json.dumps(STEPS), "case_label": "positive"}
    assert read_bank(jsonl(tmp_path / "b", row)).cases[0].uid == first.uid
    assert read_bank(jsonl(tmp_path / "b", row), ns="other").cases[0].uid != first.uid


def test_training_pairs_become_each_case_once(tmp_path: Path) -> None:
    rows = [
        {"query": query, "case": case, "case_label": label, "plan": "p", "truth_label": truth}
        for query, truth in (("x?", True), ("y?", False))
        for case, label in (("a?", "positive"), ("b?", "negative"), ("a?", "negative"))
    ]
    bank = read_bank(jsonl(tmp_path / "training_data.jsonl", *rows))
    assert bank.format == "memento-pairs"
    assert [(c.question, c.outcome) for c in bank.cases] == [
        ("a?", "success"), ("b?", "failure"), ("a?", "failure"),
    ]  # fmt: skip
    assert bank.repeated == 3


def test_mem0(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "memory": "Likes tea.", "hash": "h", "created_at": "2025-01-01",
         "metadata": {"room": "kitchen", "n": [1]}, "user_id": "ann", "run_id": "r",
         "categories": ["food"]},
        {"id": "2", "memory": "Dislikes rain.", "metadata": None},
    ]  # fmt: skip
    for value in (rows, {"results": rows, "relations": []}):
        bank = read_bank(whole(tmp_path / "mem0.json", value))
        assert bank.format == "mem0"
        first, second = bank.cases
        assert (first.kind, first.plan, first.question) == ("insight", "Likes tea.", "")
        assert first.tags == ("food", "n=[1]", "room=kitchen", "user_id=ann")
        assert (first.run_id, second.run_id, second.tags) == ("r", None, ())
    assert read_bank(jsonl(tmp_path / "lines", *rows)).cases == bank.cases


@pytest.mark.parametrize(
    "value", [{"G0": "Check units.", "G1": "Draw."}, ["Check units.", "Draw."]]
)
def test_experiences(tmp_path: Path, value: Any) -> None:
    bank = read_bank(whole(tmp_path / "experiences.json", value), ns="maths")
    assert bank.format == "experiences"
    assert [(c.kind, c.plan, c.ns) for c in bank.cases] == [
        ("insight", "Check units.", "maths"), ("insight", "Draw.", "maths"),
    ]  # fmt: skip


def test_an_export_of_ours(tmp_path: Path) -> None:
    with CaseStore(tmp_path / "one") as store:
        parent = store.add(CaseIn(question="p", item_id="i", ns="a/b"), actor="test").id
        store.add(CaseIn(question="P", item_id="j", ns="a/b"), actor="test")
        child = CaseIn(question="c", uid="c", parents=(Parent(parent),))
        store.delete([store.add(child, actor="test").id], actor="test")
        store.export(tmp_path / "1.jsonl")
    bank = read_bank(tmp_path / "1.jsonl", ns="unused")
    assert bank.format == "tfgrpo"
    assert sorted((c.question, c.item_id, c.ns) for c in bank.cases) == [
        ("c", None, "default"), ("p", "i", "a/b"), ("p", "j", "a/b"),
    ]  # fmt: skip
    with CaseStore(tmp_path / "added") as store:
        store.add_many(bank.cases, actor="test")
        assert {(c.item_id, c.also_items) for c in store.cases()} == {("i", ("j",)), (None, ())}
    with CaseStore(tmp_path / "two") as store:
        assert import_bank(store, tmp_path / "1.jsonl", actor="test")[0].created == 2
        store.export(tmp_path / "2.jsonl")
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


BAD_LINES = {
    '{"question": "cut': "no JSON",
    '"text"': "no JSON object",
    '[{"question": "q"}]': "no JSON object",
    '{"question": 5, "plan": "p", "reward": 1}': "question is no text",
    '{"question": "q", "reward": 1}': "no plan",
    '{"question": "", "plan": "", "reward": 1}': "says nothing",
    '{"question": "q", "plan": "p", "reward": "1"}': "reward is '1'",
    '{"question": "q", "plan": "p", "reward": NaN}': "reward is nan",
    '{"question": "q", "plan": "p", "reward": 1' + "0" * 400 + "}": "finite number",
    '{"question": "q\\ud800", "plan": "p", "reward": 1}': "surrogate",
    '{"question": "q", "plan": [NaN], "reward": 1}': "none of JSON",
    '{"case": "q", "plan": "p", "case_label": "positive"}': "question is no text",
    "[" * 100_000: "no JSON",
}


def test_each_line_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    good = '{"question": "q", "plan": "p", "reward": 1}'
    file = tmp_path / "memory.jsonl"
    file.write_text("\ufeff" + "\n".join([*BAD_LINES, "", " ", good, good]), "utf-8")
    bank = read_bank(file)
    for line, (told, part) in enumerate(zip(bank.unread, BAD_LINES.values(), strict=True), 1):
        assert told == Unread(str(file), line, told.why)
        assert part in told.why
        assert told.why.endswith(".")
    assert (len(bank.cases), bank.repeated) == (1, 1)


@pytest.mark.parametrize(
    ("value", "unread"),
    [
        ({"G0": "Draw.", "G1": ["not", "text"], "G2": None}, [2, 3]),
        (["Draw.", 5], [2]),
        ([{"id": 1, "memory": 2}, {"id": 2, "memory": "Draw."}, "text"], [1, 3]),
        ({"results": [{"id": 1, "memory": "m", "metadata": []}, {"id": 2, "memory": "n",
          "metadata": [1]}]}, [2]),
        ([{"case": "q", "plan": "p", "case_label": "maybe"}, {"case": "q", "plan": "p",
          "case_label": None}, {"case": "q", "plan": "p", "case_label": "positive"}], [1, 2]),
    ],
)  # fmt: skip
def test_entries_of_one_value_are_told_by_their_place(
    tmp_path: Path, value: Any, unread: list[int]
) -> None:
    bank = read_bank(whole(tmp_path / "x.json", value))
    assert [u.line for u in bank.unread] == unread
    assert len(bank.cases) == 1


@pytest.mark.parametrize(
    "text",
    ["", " \n", "{}", "[]", "null", "5", '"text"', "no JSON at all", '{"a": 1}\n{"b": 2}\n',
     '{"G0": 1, "name": "x"}', '[\n  "cut off",\n  "here', '{"results": {}}', "[[1]]"],
)  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x"
    file.write_text(text, "utf-8")
    for read in (detect, read_bank):
        with pytest.raises(InvalidCase, match="give an export of cases, a Memento memory"):
            read(file)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes('{"case": "é"}'.encode("latin-1"))
    for name in ("latin", "none", "."):
        with pytest.raises(StoreError, match="check the file's name"):
            read_bank(tmp_path / name)
    (tmp_path / "newer").write_text('{"format":"tfgrpo-memory","version":9}\n', "utf-8")
    with pytest.raises(InvalidCase, match="export it again"):
        read_bank(tmp_path / "newer")
    with pytest.raises(InvalidCase, match=r"line 1: Its reward is 'x'; give"):
        read_bank(jsonl(tmp_path / "bad", {"question": "q", "plan": "p", "reward": "x"}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.sampled_from(["positive", "negative", "q", "Q ", 1])
        for name in ("question", "case", "plan", "reward", "case_label", "id", "memory", "metadata")
    },
)


@settings(max_examples=40)
@given(st.lists(ROWS | JSON, max_size=6), st.booleans())
def test_every_entry_is_a_case_a_repetition_or_told(rows: list[Any], lines: bool) -> None:
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        here = Path(name)
        first = {"case": "q", "plan": "p", "case_label": "positive"}
        write = jsonl if lines else lambda path, *values: whole(path, values)
        file = write(here / "x", first, *rows)
        bank = read_bank(file)
        assert len(bank.cases) + len(bank.unread) + bank.repeated == len(rows) + 1
        assert len({case.uid for case in bank.cases}) == len(bank.cases)
        with CaseStore(here / "store") as store:
            report, _ = import_bank(store, file, actor="test")
            assert report.created == len(bank.cases) == len(store.cases())
            digest, seq = store.digest, store.seq
            report, again = import_bank(store, file, actor="test")
            assert (report.created, report.conflicting, again) == (0, (), bank)
            assert (store.digest, store.seq) == (digest, seq)
            assert store.verify() == []


def test_a_second_import_leaves_what_was_done_since(tmp_path: Path) -> None:
    rows = [{"case": q, "plan": "p", "case_label": "positive"} for q in "abc"]
    file = jsonl(tmp_path / "x", *rows[:2])
    with CaseStore(tmp_path / "store") as store:
        ours = store.add(CaseIn(question="C", plan="p", outcome="success"), actor="test").id
        import_bank(store, file, actor="test")
        store.delete([2], actor="test")
        store.update(3, {"answer": "ours"}, expected_version=1, actor="test")
        report, _ = import_bank(store, jsonl(tmp_path / "x", *rows), actor="test")
        assert (report.created, report.same, len(report.conflicting)) == (0, 1, 2)
        assert [(c.id, c.state, c.seen_count) for c in store.cases(EVERYTHING)] == [
            (ours, "active", 1), (2, "deleted", 1), (3, "active", 1),
        ]  # fmt: skip
        assert store.get(3).answer == "ours"


def test_lines_of_a_bank_are_those_of_its_export(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "x", *({"question": q, "plan": "p", "reward": 1} for q in "ba"))
    bank = read_bank(file)
    with CaseStore(tmp_path / "store") as store:
        import_bank(store, file, actor="test")
        store.export(tmp_path / "export.jsonl")
    assert (tmp_path / "export.jsonl").read_text("utf-8").splitlines() == export_lines(bank.cases)
