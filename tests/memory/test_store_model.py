"""Random operations on a store and on a plain dictionary must lead to the same state."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from memory.credit import Utility
from memory.errors import CaseNotFound, DuplicateCase, StoreError, VersionConflict
from memory.store import CaseStore
from memory.types import CaseFilter, CaseIn, Hit, Outcome, Parent, Retrieval
from tests.memory.store_places import memory_folder

EVERYTHING = CaseFilter(states=("active", "archived", "deleted"))
# Each spelling and what it is a spelling of.
QUESTIONS = {"a": "a", " A ": "a", "straße": "strasse", "STRASSE": "strasse", "ﬁ b": "fi b"}
PLANS = ("", "p", "x" * 10_000)
PICK = st.integers(0, 30)


class Model(RuleBasedStateMachine):
    """The dictionary holds what a case says, its state, and its counters, by id."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=memory_folder())
        self.store = CaseStore(Path(self.folder.name))
        self.cases: dict[int, dict[str, Any]] = {}
        self.credits: dict[int, list[float]] = {}
        self.past: dict[int, tuple[dict[int, dict[str, Any]], str]] = {0: ({}, self.store.digest)}
        self.purged: set[int] = set()
        self.newest = 0

    def key(self, values: dict[str, Any]) -> tuple[str, str, str]:
        return QUESTIONS[values["question"]], values["plan"], values["outcome"]

    def copies(self, values: dict[str, Any], living: bool) -> list[int]:
        key = self.key(values)
        return [
            n for n, c in self.cases.items()
            if self.key(c) == key and (c["state"] != "deleted") == living
        ]  # fmt: skip

    def some(self, pick: int) -> int:
        """One of the ids that were ever given, or one that was not."""
        return pick % (self.newest + 2)

    def twin(self, number: int, values: dict[str, Any]) -> bool:
        return any(n != number for n in self.copies(values, living=True))

    def touch(self, number: int, **changes: Any) -> None:
        self.cases[number] |= changes
        self.cases[number]["version"] += 1

    @rule(
        question=st.sampled_from(sorted(QUESTIONS)), plan=st.sampled_from(PLANS),
        outcome=st.sampled_from(["success", "unknown"]), answer=st.sampled_from([None, "", "b"]),
        item_id=st.sampled_from([None, "i", "j"]),
    )  # fmt: skip
    def add(self, **values: Any) -> None:
        result = self.store.add(CaseIn(**values), actor="test")
        if living := self.copies(values, living=True):
            assert (result.id, result.status) == (living[0], "merged")
            found = self.cases[living[0]]
            also = found["also"] | {values["item_id"]} - {None, found["item_id"]}
            self.touch(living[0], seen=found["seen"] + 1, also=also)
        elif gone := self.copies(values, living=False):
            assert (result.id, result.status) == (gone[0], "rejected")
        else:
            assert (result.id, result.status) == (self.newest + 1, "created")
            self.newest = result.id
            more = {"state": "active", "pinned": False, "seen": 1, "version": 1}
            self.cases[result.id] = values | more | {"parents": set(), "also": set()}

    @rule(pick=PICK, question=st.sampled_from(sorted(QUESTIONS)), late=st.booleans())
    def update(self, pick: int, question: str, late: bool) -> None:
        number = self.some(pick)
        found = self.cases.get(number)
        version = found["version"] - late if found else 1

        def change() -> None:
            self.store.update(
                number, {"question": question}, expected_version=version, actor="test"
            )

        if found is None:
            with pytest.raises(CaseNotFound):
                change()
        elif late:
            with pytest.raises(VersionConflict):
                change()
        elif question == found["question"]:
            change()
        elif found["state"] != "deleted" and self.twin(number, found | {"question": question}):
            with pytest.raises(DuplicateCase):
                change()
        else:
            change()
            self.touch(number, question=question)

    @rule(pick=PICK, op=st.sampled_from(["archive", "delete", "restore"]))
    def move(self, pick: int, op: str) -> None:
        number = self.some(pick)
        found = self.cases.get(number)
        state = {"archive": "archived", "delete": "deleted", "restore": "active"}[op]

        def change() -> None:
            getattr(self.store, op)([number], actor="test")

        if found is None:
            with pytest.raises(CaseNotFound):
                change()
        elif found["pinned"] and op != "restore":
            with pytest.raises(StoreError, match="unpin"):
                change()
        elif state != "deleted" and found["state"] != state and self.twin(number, found):
            with pytest.raises(DuplicateCase):
                change()
        else:
            change()
            if found["state"] != state:
                self.touch(number, state=state)

    @precondition(lambda self: self.cases)
    @rule(pick=PICK, pinned=st.booleans())
    def pin(self, pick: int, pinned: bool) -> None:
        number = sorted(self.cases)[pick % len(self.cases)]
        self.store.pin([number], actor="test", pinned=pinned)
        if self.cases[number]["pinned"] != pinned:
            self.touch(number, pinned=pinned)

    @precondition(lambda self: self.cases)
    @rule(child=PICK, parent=PICK)
    def link_to_an_older_case(self, child: int, parent: int) -> None:
        ids = sorted(self.cases)
        old, new = sorted((ids[child % len(ids)], ids[parent % len(ids)]))
        if old == new:
            return
        self.store.link(new, Parent(old), actor="test")
        if old not in self.cases[new]["parents"]:
            self.touch(new, parents=self.cases[new]["parents"] | {old})

    @precondition(lambda self: self.cases)
    @rule(pick=PICK)
    def purge(self, pick: int) -> None:
        number = sorted(self.cases)[pick % len(self.cases)]
        if self.cases[number]["pinned"]:
            return
        self.store.purge([number], confirm=True, actor="test")
        del self.cases[number]
        self.purged.add(number)

    @precondition(lambda self: self.cases)
    @rule(picks=st.sets(PICK, max_size=3), advantage=st.none() | st.floats(-1, 1))
    def credit(self, picks: set[int], advantage: float | None) -> None:
        ids = sorted(self.cases)
        shown = sorted({ids[pick % len(ids)] for pick in picks})
        hits = tuple(Hit(number, 0.5, rank) for rank, number in enumerate(shown))
        outcome = Outcome(self.store.retrievals.log(Retrieval(hits, "q")), 1.0, advantage)
        for _ in range(2):
            self.store.retrievals.credit([outcome], actor="test")
        for number in shown if advantage is not None else []:
            self.credits.setdefault(number, []).append(advantage)

    @rule(pick=PICK)
    def revert(self, pick: int) -> None:
        seq = sorted(self.past)[pick % len(self.past)]
        planned = self.store.revert(seq)
        assert self.store.revert(seq, dry_run=False).changes == planned.changes
        changed = set()
        for number, now in self.cases.items():
            then = self.past[seq][0].get(number, now | {"state": "deleted", "pinned": False})
            target = copy.deepcopy(then) | {"version": now["version"]}
            if target != now:
                changed.add(number)
                self.cases[number] = target
                self.touch(number)
        assert {change.id for change in planned.changes} == changed

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = CaseStore(Path(self.folder.name))

    @invariant()
    def the_store_is_the_dictionary(self) -> None:
        found = {
            c.id: {
                "question": c.question, "plan": c.plan, "outcome": c.outcome, "answer": c.answer,
                "state": c.state, "pinned": c.pinned, "seen": c.seen_count, "version": c.version,
                "item_id": c.item_id, "also": set(c.also_items),
                "parents": {parent.id for parent in c.parents},
            }
            for c in self.store.cases(EVERYTHING)
        }  # fmt: skip
        assert found == self.cases
        self.past.setdefault(self.store.seq, (copy.deepcopy(self.cases), self.store.digest))

    @invariant()
    def utilities_are_those_of_the_credits(self) -> None:
        expected = {}
        for number, credits in self.credits.items():
            if number in self.cases:
                expected[number] = Utility()
                for credit in credits:
                    expected[number] = expected[number].add(credit)
        assert self.store.utilities() == expected

    def teardown(self) -> None:
        for seq, (cases, digest) in self.past.items():
            state = self.store.at(seq)
            assert state.digest == digest
            assert set(state.cases) == set(cases) - self.purged
            assert {n: c.version for n, c in state.cases.items()} == {
                n: c["version"] for n, c in cases.items() if n not in self.purged
            }
        assert self.store.verify() == []
        self.store.close()
        self.folder.cleanup()


Model.TestCase.settings = settings(max_examples=30, stateful_step_count=25)
TestModel = Model.TestCase
