"""Pages to look at: a plain bank, a plain library, and the same with hostile texts everywhere."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from tfgrpo.report.pages.bank_records import Bank, BankCase, BankEvent, BankRead
from tfgrpo.report.pages.library_records import (
    Attempt,
    Lesson,
    Library,
    LibraryEdit,
    LibraryStep,
    TaughtBy,
)
from tfgrpo.report.pages.parts import State
from tfgrpo.types import Estimate

T = TypeVar("T")

DAY = 86_400.0
START = 1_790_000_000.0
KEYS = frozenset({"key", "group", "id", "outcome", "kind", "state", "fate", "status", "op", "code"})
"""Fields that name things; the others are what people and models write."""


def case(number: int) -> BankCase:
    right = number % 3 != 0
    return BankCase(
        id=number,
        kind="case",
        outcome="success" if right else "failure",
        state="archived" if number == 7 else "active",
        ns=f"maths/run-{number % 2}",
        question=f"What is {number} + {number * number % 97}?",
        plan=f"Add the ones of {number}, then carry.",
        answer=str(number + number * number % 97),
        reason="" if right else "forgot to carry",
        reward=float(right),
        prior=0.25,
        utility=Estimate(number / 50 - 0.5, number / 50 - 0.8, number / 50 - 0.1, 9, "shrunk")
        if number % 4 == 0
        else None,
        shown=number % 5,
        created=START + number * 60,
        updated=START + number * 60,
        item=f"{number:016x}",
        run="learn-1",
        step=number // 10,
        origin=(("uid", f"u{number}"), ("split", "train")),
        parents=((number // 2, "revises"),) if number > 40 else (),
        alike=((number - 1, 0.971),) if number % 10 == 0 else (),
        place=(float(number % 7), float(number % 11)) if number % 5 else None,
    )


def bank(count: int = 60) -> Bank:
    cases = tuple(case(i) for i in range(1, count + 1))
    events = [BankEvent(c.id, c.created, "learn", "add", c.id, "", "step 0", c.run) for c in cases]
    events.append(BankEvent(count + 1, START + DAY, "user", "update", 2, "plan: a → b", "typing"))
    events.append(BankEvent(count + 2, START + 2 * DAY, "learn", "credit", None))
    reads = (
        BankRead(1, "item-1", ((2, "rank 1, cosine 0.91"), (4, "rank 2, cosine 0.80")), "", 1, 0.5),
        BankRead(2, "item-2", ((4, "rank 1, cosine 0.85"),), "same item 1", None, None, "r", "a/1"),
    )
    return Bank(
        title="Bank of sums", seq=count + 2, digest="ab" * 32, cases=cases,
        events=tuple(events), reads=reads, notes=(("reads", "The last two reads."),),
    )  # fmt: skip


def library() -> Library:
    carry, ones = "When a column passes nine, carry.", "Add the ones first."
    lessons = (
        Lesson(
            id="E1", text=carry, status="active", support=3, version=2, created_step=0, shown=8,
            effect=Estimate(0.2, 0.05, 0.4, 12, "bca"), sources=(("0/t1", "2 attempts"),),
            model="abacus",
        ),
        Lesson(
            id="E2", text=ones, status="retired", support=1, version=1, created_step=1,
            parents=("E1",), sources=(("1/t9", "4 attempts"),),
        ),
    )  # fmt: skip
    edits = (
        LibraryEdit(
            number=1, step=0, origin="model", op="add", fate="accepted", code="added",
            entries=("E1",), text="When a column passes nine, go on.", evidence=("0/t1",),
        ),
        LibraryEdit(
            number=2, step=1, origin="model", op="modify", fate="accepted", code="modified",
            entries=("E1",), text=carry, reason="said more exactly",
        ),
        LibraryEdit(
            number=3, step=1, origin="model", op="add", fate="refused", code="E_LEAK",
            entries=(), text="The answer is 42.", detail="names the answer of a problem",
        ),
    )  # fmt: skip
    group = TaughtBy(
        key="0/t1", step=0, dataset="sums", prompt="What is 18 + 24?", reward_mean=0.5, right=1,
        size=2, proposed="add When a column passes nine, go on.",
    )  # fmt: skip
    attempts = tuple(
        Attempt(
            key=f"0/t1/{i}", group="0/t1", correct=bool(i), reward=float(i), answer="42" if i else
            None, text=f"Attempt {i}:\n8 + 4 = 12, carry 1.", summary="columns", shown=("E1",) * i,
        )
        for i in range(2)
    )  # fmt: skip
    return Library(
        title="What run-1 has learned",
        fingerprint="cd" * 32,
        prompt=f"[E1] {carry}",
        tokens=12,
        lessons=lessons,
        edits=edits,
        states=(
            State("at the start", ()),
            State("after step 0", (("E1", "When a column passes nine, go on."),)),
            State("after step 1", (("E1", carry), ("E2", ones))),
        ),
        steps=tuple(
            LibraryStep(step=i, epoch=0, reward_mean=0.4 + i / 10, groups="mixed 3", failures=i,
                        entries=i + 1, problems=("one reply was no JSON",) * i)
            for i in range(2)
        ),
        groups=(group,),
        attempts=attempts,
        note="1 of 3 groups.",
    )  # fmt: skip


def data_of(page: str) -> Any:
    """All that a page tells, as its script reads it."""
    start = '<script type="application/json" id="data">'
    return json.loads(page.split(start, 1)[1].split("</script>", 1)[0])


def rows_of(page: str, key: str) -> dict[str, dict[str, Any]]:
    """The rows of a table: label to value, links as (key, note)."""
    data = data_of(page)
    texts, told = data["strings"], data["tables"][key]

    def value(kind: str, cell: Any) -> Any:
        if cell is None or kind in ("number", "time", "estimate"):
            return cell
        if kind == "links":
            return [(texts[to], *(texts[n] for n in note)) for to, *note in cell]
        return texts[cell]

    return {
        texts[name]: {
            column["label"]: value(column["kind"], cell)
            for column, cell in zip(told["columns"], cells, strict=True)
        }
        for name, *cells in told["rows"]
    }


def spoken(record: T, text: str) -> T:
    """The record with `text` wherever people or models could have written something."""
    if not is_dataclass(record) or isinstance(record, type):
        return record
    changed = {
        f.name: _spoken(getattr(record, f.name), text)
        for f in fields(record)
        if f.name not in KEYS and not isinstance(record, Estimate)
    }
    return replace(record, **changed)


def _spoken(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return text
    if is_dataclass(value) and not isinstance(value, type):
        return spoken(value, text)
    if isinstance(value, tuple):
        pairs = len(value) == 2 and not is_dataclass(value[0])
        return (
            (value[0], _spoken(value[1], text)) if pairs else tuple(_spoken(v, text) for v in value)
        )
    return value
