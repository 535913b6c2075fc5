"""Scanning a bank finds what judging every case against every item finds, and only that."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memory.care.leaks import EXCUSED_KEPT, LeakReport, everything, find_leaks, scan
from memory.errors import InvalidCase, StoreError
from memory.files.foreign import read_bank
from memory.read.guard import Guard, GuardedCase, GuardedItem, inspect
from memory.search.embed import HashingEmbedder
from memory.store import CaseStore
from memory.types import Case, CaseFilter, CaseIn, Content, Parent

EVERYTHING = CaseFilter(states=("active", "archived", "deleted"))
SPELLING = HashingEmbedder(dim=64)
Found = tuple[int, str | None, str, str, bool]


def brute_force(
    cases: Sequence[Case], items: Sequence[GuardedItem], near: float, shortest: int
) -> list[Found]:
    """The guard, asked about each item and all cases. What no item plays a part in counts once."""
    guard = Guard(near=near, shortest_answer=shortest)
    known = SPELLING.embed_documents([c.question for c in cases]).astype(np.float64)
    asked = SPELLING.embed_queries([i.question for i in items]).astype(np.float64)
    found: list[Found] = []
    for item, query in zip(items, asked, strict=True):
        guarded = [
            GuardedCase(
                case.id,
                item.item_id if item.item_id in case.also_items else case.item_id or "",
                case.question,
                everything(case),
                parents=tuple(parent.id for parent in case.parents),
                cosine=float(row @ query) if case.question else None,
            )
            for case, row in zip(cases, known, strict=True)
        ]
        for case_id, verdict in inspect(item, guarded, guard).items():
            for f in verdict.findings:
                whom = None if f.rule == "unknown ancestor" else item.item_id
                found.append((case_id, whom, f.rule, f.detail, f.blocks))
    return found


SUM = "What is 3 + 4?"
QUESTIONS = st.sampled_from(
    ["", "?", "Where was Ann born?", "When was Ann born?", "where was  ANN born", "Who is Bo?",
     SUM, "What is 4 + 3?", "What is 13 + 4?", "What is 1,300 * 2?", "東京はどこ?"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["Rome", "rome", "romeo", "São Paulo", "7 January 1883", "1,300", "the cat", "cat", "ab",
     "東京都庁", "東京", "the", "of the cat", "", "-", "é"]
)  # fmt: skip
ITEM_IDS = st.sampled_from(["", "i", "j", "k"])
ITEMS = st.lists(
    st.builds(GuardedItem, ITEM_IDS, QUESTIONS, st.lists(WORDS, max_size=3).map(tuple)),
    min_size=1, max_size=6,
)  # fmt: skip


@st.composite
def banks(draw: st.DrawFn) -> list[Case]:
    """Up to eight cases; parents may be younger, gone, or the case itself.

    Half of the banks have nothing but questions, so that cosines alone decide.
    """
    ids = draw(st.lists(st.integers(1, 9), max_size=8, unique=True))
    if draw(st.booleans()):
        return [Case(id=number, uid=str(number), question=draw(QUESTIONS)) for number in ids]
    parents = st.lists(st.integers(1, 9).map(Parent), max_size=2).map(tuple)
    return [
        Case(
            id=number,
            uid=str(number),
            question=draw(QUESTIONS),
            plan=draw(st.lists(WORDS, max_size=4).map(" ".join)),
            answer=draw(st.none() | WORDS),
            item_id=draw(st.none() | ITEM_IDS),
            also_items=tuple(draw(st.sets(ITEM_IDS, max_size=2))),
            parents=draw(parents),
        )
        for number in ids
    ]


@example([Case(id=1, uid="1", question=SUM)], [GuardedItem("i", "What is 4 + 3?")], 0.5, 4)
@settings(max_examples=120)
@given(banks(), ITEMS, st.sampled_from([-1.0, 0.3, 0.5, 0.9]), st.integers(1, 5))
def test_a_scan_finds_what_brute_force_finds(
    cases: list[Case], items: list[GuardedItem], near: float, shortest: int
) -> None:
    leaks = list(
        find_leaks(cases, items, embedder=SPELLING, near=near, shortest_answer=shortest)
    )  # fmt: skip
    found = [(k.case_id, k.item_id, k.rule, k.detail, k.blocks) for k in leaks]
    told = Counter(brute_force(cases, items, near, shortest))
    for finding, times in told.items():
        if finding[1] is None:
            assert times == len(items)
            told[finding] = 1
    assert Counter(found) == told
    assert all(k.case is next(c for c in cases if c.id == k.case_id) for k in leaks)


def test_each_rule_is_met() -> None:
    cases = [
        Case(id=1, uid="1", question="Where was Ann born?", item_id="i", parents=(Parent(9),)),
        Case(id=2, uid="2", plan="In Rome.", parents=(Parent(1),)),
        Case(id=3, uid="3", question="When was Ann born?"),
        Case(id=4, uid="4", question="What is 13 + 4?"),
    ]
    items = [
        GuardedItem("i", "where was ann born", ("Rome",)),
        GuardedItem("j", "What is 3 + 4?"),
    ]
    report = scan(cases, items, embedder=SPELLING, near=0.5)
    assert report.rules == {
        "unknown ancestor": 2, "same item": 1, "same question": 1, "near duplicate": 1,
        "gold answer": 1, "blocked ancestor": 1,
    }  # fmt: skip
    assert [(k.case_id, k.item_id, k.rule, k.blocks) for k in report.excused] == [
        (4, "j", "other numbers", False)
    ]
    assert report.leaking_cases == {1, 2, 3}
    assert report.leaked_items == {"i"}


def planted() -> tuple[list[CaseIn], list[GuardedItem]]:
    """200 innocent cases and, for each of 40 items, a copy, a near copy and an answer."""
    names = [f"{a}{b}" for a in ("Kel", "Mor", "Tan", "Vel") for b in "abcdefghij"]
    items = [
        GuardedItem(f"q{i}", f"Which river flows through the old town of {n}?", (f"River {n}",))
        for i, n in enumerate(names)
    ]
    bank = [CaseIn(question=f"Colour {i} of flag {i % 7}", plan="Look.") for i in range(200)]
    for item, name in zip(items, names, strict=True):
        bank += [
            CaseIn(question=item.question.upper(), plan="p"),
            CaseIn(question=f"Which river flows through the OLD town of {name}, please?"),
            CaseIn(question="Other", plan=f"It is the river {name.lower()}."),
        ]
    return bank, items


def test_planted_leaks_are_all_found_and_nothing_else() -> None:
    bank, items = planted()
    report = scan(bank, items, embedder=HashingEmbedder(2048), near=0.8)
    places = {
        (place, f"q{(place - 201) // 3}") for place in range(201, 321)
    }  # fmt: skip
    found = {(k.case_id, k.item_id) for k in report.leaks if k.rule != "near duplicate"}
    assert found == {(p, i) for p, i in places if (p - 201) % 3 != 1}
    assert places <= {(k.case_id, k.item_id) for k in report.leaks}
    assert min(report.leaking_cases) == 201
    assert len(report.leaked_items) == 40
    assert (report.cases, report.items, report.near) == (320, 40, 0.8)


def test_a_store_is_scanned_with_what_was_merged_and_what_was_deleted(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        store.add_many([CaseIn(question="q", item_id=i) for i in ("i", "j")], actor="test")
        lesson = CaseIn(kind="insight", plan="Advice.", parents=(Parent(1),))
        store.add(lesson, actor="test")
        store.delete([1], actor="test")
        report = scan(store.cases(EVERYTHING), [GuardedItem("j", "x"), GuardedItem("k", "y")])
        assert [(k.case_id, k.item_id, k.rule, k.detail) for k in report.leaks] == [
            (1, "j", "same item", "j"), (2, "j", "blocked ancestor", "case 1"),
        ]  # fmt: skip
        assert report.near is None
        store.purge([1], confirm=True, actor="test")
        report = scan(store.cases(EVERYTHING), [GuardedItem("j", "x"), GuardedItem("k", "y")])
        assert [(k.case_id, k.item_id, k.rule, k.detail) for k in report.leaks] == [
            (2, None, "unknown ancestor", "case 1"),
        ]  # fmt: skip


def test_a_foreign_bank_is_scanned(tmp_path: Path) -> None:
    rows = [{"case": f"Question {n}?", "plan": "p", "case_label": "positive"} for n in "abc"]
    file = tmp_path / "memory.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    report = scan(read_bank(file).cases, [GuardedItem("1", "question b"), GuardedItem("2", "new")])
    assert [(k.case_id, k.case.question, k.item_id, k.rule) for k in report.leaks] == [
        (2, "Question b?", "1", "same question")
    ]


def test_a_templated_bank_is_excused_and_counted() -> None:
    bank = [CaseIn(question=f"What is {i} + {i + 1}?") for i in range(60)]
    items = [GuardedItem(str(i), f"What is {i} - 7?") for i in range(100, 160)]
    report = scan(bank, items, embedder=SPELLING, near=0.2)
    assert report.leaks == ()
    assert EXCUSED_KEPT == len(report.excused) < report.excused_pairs <= 3600


def test_a_case_is_judged_as_it_is_rendered() -> None:
    bank = [CaseIn(question="q", plan="p", answer="Rathmines", reason="r", tags=("Dublin",))]

    def plain(case: Content) -> str:
        return f"{case.question}\n{case.plan}"

    for answer in ("Rathmines", "Dublin"):
        items = [GuardedItem("i", "x", (answer,))]
        assert [k.detail for k in scan(bank, items).leaks] == [answer]
        assert scan(bank, items, render=plain).leaks == ()


def test_nothing_leaks_where_there_is_nothing() -> None:
    nothing = LeakReport((), (), 0, 0, 0, 0.9)
    assert scan([], [], embedder=SPELLING) == nothing
    assert scan([], [GuardedItem("i", "q", ("answer",))], embedder=SPELLING).leaks == ()
    assert scan([CaseIn(question="q", plan="answer")], [], embedder=SPELLING).leaks == ()


def test_inputs_are_checked() -> None:
    case = Case(id=1, uid="1", question="q")
    with pytest.raises(InvalidCase, match="given twice"):
        scan([case, case], [])
    with pytest.raises(InvalidCase, match="scan that store"):
        scan([CaseIn(question="q", parents=(Parent(1),))], [])
    for wrong in ({"near": float("nan")}, {"shortest_answer": 0}):
        with pytest.raises(StoreError, match="at least one character"):
            scan([case], [], **wrong)
