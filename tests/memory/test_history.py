"""The history: events, snapshots, differences, and going back."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.errors import SnapshotError
from memory.store import CaseStore
from memory.types import CaseIn, Change, Hit, Outcome, Parent, Retrieval


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CaseStore]:
    ticks = itertools.count(100.0)
    with CaseStore(tmp_path / "store", clock=lambda: next(ticks)) as opened:
        yield opened
        assert opened.verify() == []


def add(store: CaseStore, *questions: str) -> list[int]:
    return [store.add(CaseIn(question=q, uid=f"u-{q}"), actor="test").id for q in questions]


def test_an_event_tells_who_what_and_why(store: CaseStore) -> None:
    (number,) = add(store, "a")
    store.update(number, {"answer": "4"}, expected_version=1, actor="ann", reason="typo")
    first, second = store.history()
    assert (first.seq, first.ts, first.op, first.before) == (1, 100.0, "add", None)
    assert (second.seq, second.ts, second.actor, second.op) == (2, 101.0, "ann", "update")
    assert (second.reason, second.case_id) == ("typo", number)
    assert second.before == first.after
    before, after = json.loads(second.before or ""), json.loads(second.after or "")
    assert {k for k in after if after[k] != before[k]} == {"answer", "version"}
    assert store.history(since=1) == store.history(number, since=1) == [second]
    assert (store.get(number).created, store.get(number).updated) == (100.0, 101.0)


def test_the_run_that_made_a_case_is_in_its_event(store: CaseStore) -> None:
    store.add(CaseIn(question="a", run_id="run-1"), actor="learner")
    assert [(e.actor, e.run_id) for e in store.history()] == [("learner", "run-1")]


def test_every_past_state_can_be_read(store: CaseStore) -> None:
    a, b = add(store, "a", "b")
    store.update(a, {"answer": "4"}, expected_version=1, actor="test")
    store.delete([b], actor="test")
    assert store.at(0).cases == {}
    assert set(store.at(1).cases) == {a}
    assert store.at(2).cases[a].answer is None
    assert store.at(3).cases[a] == store.get(a)
    assert store.at(3).cases[b].state == "active"
    assert store.at(4).cases[b].state == "deleted"
    assert store.at(4).digest == store.digest


def test_equal_events_give_equal_digests_at_any_time(tmp_path: Path) -> None:
    digests = set()
    for name, start in (("one", 0.0), ("two", 1e9)):
        with CaseStore(tmp_path / name, clock=lambda start=start: start) as store:
            add(store, "a", "b")
            digests.add(store.digest)
            read = store.retrievals.log(Retrieval((Hit(1, 0.5, 0),), "q"))
            store.retrievals.credit([Outcome(read, 1.0, 0.5)], actor="test")
            digests.add(store.digest)
    assert len(digests) == 2


def test_a_snapshot_keeps_its_name_and_its_state(store: CaseStore) -> None:
    (a,) = add(store, "a")
    taken = store.snapshot("first")
    assert store.snapshot("first") == taken
    assert (taken.seq, taken.digest) == (1, store.digest)
    store.update(a, {"answer": "4"}, expected_version=1, actor="test")
    with pytest.raises(SnapshotError, match="choose another name"):
        store.snapshot("first")
    assert store.at("first").digest == taken.digest != store.digest
    assert [s.name for s in store.snapshots()] == ["first"]
    for name in ("", " ", "12"):
        with pytest.raises(SnapshotError, match="choose a name"):
            store.snapshot(name)
    with pytest.raises(SnapshotError, match="use one of these: first"):
        store.at("second")
    for seq in (-1, 3):
        with pytest.raises(SnapshotError, match="from 0 to 2"):
            store.at(seq)


def test_a_diff_tells_what_moved(store: CaseStore) -> None:
    a, b, c = add(store, "a", "b", "c")
    store.snapshot("then")
    store.update(a, {"answer": "4", "tags": ("x",)}, expected_version=1, actor="test")
    store.delete([b], actor="test")
    store.add(CaseIn(question="c"), actor="test")
    (d,) = add(store, "d")
    read = store.retrievals.log(Retrieval((Hit(c, 0.5, 0), Hit(a, 0.4)), "q"))
    store.retrievals.credit([Outcome(read, 1.0, 0.5)], actor="test")
    diff = store.diff("then", store.seq)
    assert (diff.added, diff.removed) == ((d,), (b,))
    assert diff.changed == (
        Change(a, "change", ("answer", "tags")),
        Change(c, "change", ("seen_count",)),
    )
    assert [(m.case_id, m.before.n, m.after.n, m.after.mean) for m in diff.utility] == [
        (c, 0, 1, 0.5)
    ]
    back = store.diff(store.seq, "then")
    assert (back.added, back.removed) == ((b,), (d,))
    same = store.diff("then", "then")
    assert (same.added, same.removed, same.changed, same.utility) == ((), (), (), ())


def test_going_back_is_a_new_event_and_can_be_tried_first(store: CaseStore) -> None:
    a, b = add(store, "a", "b")
    store.snapshot("then")
    store.update(a, {"question": "z"}, expected_version=1, actor="test")
    store.link(b, Parent(a), actor="test")
    (c,) = add(store, "c")
    store.pin([c], actor="test")
    digest, seq = store.digest, store.seq
    planned = store.revert("then")
    assert planned.dry_run
    assert (store.digest, store.seq) == (digest, seq)
    done = store.revert("then", dry_run=False, actor="ann")
    assert done.changes == planned.changes
    assert [(change.id, change.fields) for change in done.changes] == [
        (a, ("question",)), (b, ("parents",)), (c, ("state", "pinned")),
    ]  # fmt: skip
    assert store.seq == done.seq == seq + 3
    assert [(e.actor, e.op, e.reason) for e in store.history(since=seq)] == [
        ("ann", "revert", "revert to then")
    ] * 3
    assert store.diff("then", store.seq).changed == ()
    assert [x.id for x in store.cases()] == [a, b]
    store.revert(seq, dry_run=False)
    assert store.get(a).question == "z"
    assert store.get(c).state == "active"


def test_going_back_may_swap_contents_and_turn_the_lineage(store: CaseStore) -> None:
    a, b = add(store, "a", "b")
    store.link(a, Parent(b), actor="test")
    store.snapshot("then")
    store.update(a, {"question": "x", "parents": ()}, expected_version=2, actor="test")
    store.update(b, {"question": "a", "parents": (Parent(a),)}, expected_version=1, actor="test")
    store.update(a, {"question": "b"}, expected_version=3, actor="test")
    store.revert("then", dry_run=False)
    assert [(c.question, c.parents) for c in store.cases()] == [("a", (Parent(b),)), ("b", ())]


def test_going_back_does_not_bring_back_the_purged(store: CaseStore) -> None:
    a, b = add(store, "a", "b")
    store.snapshot("then")
    store.purge([a], confirm=True, actor="test")
    store.delete([b], actor="test")
    store.revert("then", dry_run=False)
    assert [c.id for c in store.cases()] == [b]
