"""Vectors are made once, moved whole, and survive a kill at any point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.errors import StoreError
from memory.search.calibrate import Calibration, calibrate
from memory.search.embed import F32, Fingerprint, FingerprintMismatch, HashingEmbedder
from memory.search.index import NumpyIndex
from memory.search.index_files import load
from memory.search.reembed import (
    attach,
    drop_space,
    embed_pending,
    index_folder,
    measure_floor,
    migrate,
    reindex,
    stamp,
)
from memory.sqlite.codec import view_text
from memory.sqlite.vectors import retrievable
from memory.store import CaseStore
from memory.types import CaseIn
from tests.memory.store_places import memory_folder

ROOT = Path(__file__).parents[2]
OLD, NEW = HashingEmbedder(dim=16), HashingEmbedder(dim=24)
OLD_FP, NEW_FP = OLD.fingerprint.digest, NEW.fingerprint.digest


class Drifted:
    """Says that it is the old embedder and makes other vectors."""

    fingerprint = OLD.fingerprint
    dim = 16

    def embed_queries(self, texts: Sequence[str]) -> F32:
        return self.embed_documents(texts)

    def embed_documents(self, texts: Sequence[str]) -> F32:
        return HashingEmbedder(dim=16, sizes=(5,)).embed_documents(texts)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CaseStore]:
    with CaseStore(tmp_path / "store") as opened:
        yield opened
        assert opened.verify() == []


def add(store: CaseStore, *questions: str, **more: object) -> list[int]:
    cases = [CaseIn(question=q, plan=f"plan of {q}", **more) for q in questions]  # type: ignore[arg-type]
    return [r.id for r in store.add_many(cases, actor="test")]


def whole(store: CaseStore, embedder: HashingEmbedder, view: str = "question") -> bool:
    """Every active case has exactly the vector that the embedder makes of it."""
    fingerprint = embedder.fingerprint.digest
    matrix, cases, pending = store.vectors.get(fingerprint, view, retrievable(store.cases()))  # type: ignore[arg-type]
    made = embedder.embed_documents([view_text(case, view) for case in cases])  # type: ignore[arg-type]
    return not pending and np.array_equal(matrix, made)


def test_only_what_is_missing_is_embedded(store: CaseStore) -> None:
    a, b, _ = add(store, "a", "b", "c")
    assert embed_pending(store, OLD, ("question", "plan"), batch=2) == 6
    assert embed_pending(store, OLD, ("question", "plan")) == 0
    store.update(a, {"question": "aa"}, expected_version=1, actor="test")
    store.archive([b], actor="test")
    add(store, "d")
    assert [c.question for c in store.vectors.pending(OLD_FP, "question")] == ["aa", "d"]
    assert [c.question for c in store.vectors.pending(OLD_FP, "question", after=a)] == ["d"]
    assert store.vectors.progress(OLD_FP, "question") == (1, 3)
    assert embed_pending(store, OLD) == 2
    assert whole(store, OLD)
    store.restore([b], actor="test")
    assert embed_pending(store, OLD) == 0


def test_blank_texts_and_other_kinds_need_no_vector(store: CaseStore) -> None:
    store.add_many(
        [
            CaseIn(kind="insight", plan="Think."),
            CaseIn(question="  ", plan="p"),
            CaseIn(kind="tool", question="t"),
            CaseIn(kind="subtask", question="s"),
        ],
        actor="test",
    )
    assert embed_pending(store, OLD) == 0
    assert store.vectors.active == OLD_FP
    assert embed_pending(store, OLD, ("insight",)) == 2


def test_the_first_space_is_searched_once_it_is_whole(store: CaseStore) -> None:
    add(store, "a")
    attach(store, OLD)
    assert store.vectors.active is None
    embed_pending(store, OLD)
    assert store.vectors.active == OLD_FP
    assert store.vectors.known(OLD_FP) == OLD.fingerprint
    with pytest.raises(FingerprintMismatch, match=r"pooling differ.* or re-embed it"):
        embed_pending(store, NEW)
    assert store.vectors.known(NEW_FP) is None


def test_an_embedder_that_drifted_is_refused(store: CaseStore) -> None:
    add(store, "a")
    embed_pending(store, OLD)
    for use in (attach, embed_pending, lambda s, e: list(migrate(s, e))):
        with pytest.raises(FingerprintMismatch, match="no longer makes"):
            use(store, Drifted())
    assert whole(store, OLD)


def test_a_name_is_no_part_of_a_space(store: CaseStore) -> None:
    store.vectors.register("fp", 2, {"x": 1}, "first")
    store.vectors.register("fp", 2, {"x": 1}, "second")
    assert store.vectors.known("fp") is None
    details = {"weights": "w", "tokenizer": "t", "pooling": "p", "prompts": "q"}
    more = {"dtype": "float32", "backend": "b"}
    store.vectors.register("full", 2, details | more, "named")
    assert store.vectors.known("full") == Fingerprint(model="any", **details, **more)


def test_a_store_moves_when_all_is_there(store: CaseStore) -> None:
    add(store, *(f"question {i}" for i in range(5)))
    embed_pending(store, OLD, ("question", "plan"))
    told = []
    for step in migrate(store, NEW, batch=2):
        told.append(step)
        assert store.vectors.active == OLD_FP
        assert whole(store, OLD)
    assert told == [(0, 10), (2, 10), (4, 10), (5, 10), (7, 10), (9, 10), (10, 10)]
    assert store.vectors.active == NEW_FP
    assert whole(store, NEW)
    assert whole(store, NEW, "plan")
    assert whole(store, OLD)
    assert list(migrate(store, NEW)) == [(10, 10)]
    with pytest.raises(FingerprintMismatch):
        attach(store, OLD)


def test_a_case_added_while_moving_is_waited_for(store: CaseStore) -> None:
    add(store, "a", "b", "c")
    embed_pending(store, OLD)
    moving = migrate(store, NEW, batch=1)
    for _ in range(4):
        next(moving)
    add(store, "late")
    store.update(1, {"question": "changed"}, expected_version=1, actor="test")
    assert list(moving) == [(4, 4), (3, 4), (4, 4)]
    assert store.vectors.active == NEW_FP
    assert whole(store, NEW)


def test_two_moves_do_not_overtake_each_other(store: CaseStore) -> None:
    add(store, "a")
    embed_pending(store, OLD)
    slow = migrate(store, NEW)
    next(slow)
    third = HashingEmbedder(dim=8)
    list(migrate(store, third))
    with pytest.raises(StoreError, match="open the store again"):
        list(slow)
    assert store.vectors.active == third.fingerprint.digest


def test_a_space_is_dropped_unless_it_is_searched(store: CaseStore) -> None:
    add(store, "a", "b")
    embed_pending(store, OLD)
    reindex(store, OLD_FP, "numpy")
    with pytest.raises(StoreError, match="with another one first"):
        drop_space(store, OLD_FP)
    assert index_folder(store.folder, OLD_FP, "question").exists()
    list(migrate(store, NEW))
    assert drop_space(store, OLD_FP) == 2
    assert drop_space(store, OLD_FP) == 0
    assert not index_folder(store.folder, OLD_FP).exists()
    assert store.vectors.known(OLD_FP) is None
    assert store.vectors.probe(OLD_FP) is None
    assert whole(store, NEW)
    assert list(migrate(store, OLD))[-1] == (2, 2)
    assert whole(store, OLD)


def test_a_new_index_is_of_the_vectors(store: CaseStore) -> None:
    numbers = add(store, "a", "b", "c")
    embed_pending(store, OLD, ("question", "plan"))
    assert reindex(store, OLD_FP, "numpy") == {"plan": 3, "question": 3}
    seq, mark = stamp(store.cases())
    folder = index_folder(store.folder, OLD_FP, "plan")
    index = load(NumpyIndex, folder, fingerprint=f"{OLD_FP}:{mark}", seq=seq)
    assert index.ids.tolist() == numbers
    (hits,) = index.search(OLD.embed_queries(["plan of b"]), 1)
    assert hits.ids.tolist() == [numbers[1]]
    add(store, "d")
    with pytest.raises(StoreError, match="embed them first"):
        reindex(store, OLD_FP)


def test_a_purge_leaves_no_index(store: CaseStore) -> None:
    (number,) = add(store, "a")
    embed_pending(store, OLD)
    reindex(store, OLD_FP, "numpy")
    store.purge([number], confirm=True, actor="test")
    assert not (store.folder / "index").exists()


def test_the_stamp_tells_states_apart(store: CaseStore, tmp_path: Path) -> None:
    (number,) = add(store, "a")
    before = stamp(store.cases())
    assert stamp(store.cases()) == before
    assert stamp([]) != before
    with CaseStore(tmp_path / "other") as other:
        add(other, "a")
        assert stamp(other.cases()) != before
    store.update(number, {"answer": "x"}, expected_version=1, actor="test")
    assert stamp(store.cases()) != before


def test_chance_is_measured_once_there_are_enough_texts(store: CaseStore) -> None:
    add(store, *(f"How far is town {i}?" for i in range(99)), "HOW FAR  is town 3?")
    embed_pending(store, OLD)
    assert store.vectors.calibration(OLD_FP, "question") is None
    assert measure_floor(store, OLD_FP, "question") is None
    add(store, "And now?")
    embed_pending(store, OLD)
    found = store.vectors.calibration(OLD_FP, "question")
    assert found == calibrate(OLD, [case.question for case in store.cases()])
    assert found is not None
    assert found.texts == 100
    add(store, "One more.")
    embed_pending(store, OLD)
    assert store.vectors.calibration(OLD_FP, "question") == found
    assert measure_floor(store, OLD_FP, "question") != found
    list(migrate(store, NEW))
    assert isinstance(store.vectors.calibration(NEW_FP, "question"), Calibration)
    other = replace(found, floor=0.5)
    store.vectors.keep_calibration("question", other)
    assert store.vectors.calibration(OLD_FP, "question") == other
    drop_space(store, OLD_FP)
    assert store.vectors.calibration(OLD_FP, "question") is None


QUESTIONS = st.sampled_from(["a", "b", "c d", " ", "é"])
CHANGES = st.lists(
    st.tuples(st.sampled_from(["edit", "add", "archive", "purge"]), st.integers(0, 6),
              QUESTIONS), max_size=8,
)  # fmt: skip


@settings(max_examples=25)
@given(st.lists(QUESTIONS, min_size=1, max_size=6), CHANGES, st.integers(1, 3))
def test_what_is_pending_is_what_has_no_vector_of_its_text(
    questions: list[str], second: list[tuple[str, int, str]], batch: int
) -> None:
    first = [("add", 0, question) for question in questions]
    with (
        tempfile.TemporaryDirectory(dir=memory_folder()) as folder,
        CaseStore(Path(folder)) as store,
    ):
        for changes in (first, second):
            for number, (name, pick, question) in enumerate(changes):
                change(store, name, pick, question, number)
            cases = retrievable(store.cases())
            _, fitting, pending = store.vectors.get(OLD_FP, "question", cases)
            assert store.vectors.pending(OLD_FP, "question") == pending
            total = len(fitting) + len(pending)
            assert store.vectors.progress(OLD_FP, "question") == (len(fitting), total)
            assert {c.id for c in fitting + pending} == {c.id for c in cases if c.question.strip()}
            assert embed_pending(store, OLD, batch=batch) == len(pending)
            assert whole(store, OLD)
        assert store.verify() == []


def change(store: CaseStore, name: str, pick: int, question: str, number: int) -> None:
    ids = [case.id for case in store.cases()]
    if name == "add" or not ids:
        store.add(CaseIn(question=question, plan=f"p{number}"), actor="test")
        return
    one = store.get(ids[pick % len(ids)])
    if name == "edit":
        fields = {"question": question, "plan": f"e{one.id}.{one.version}"}
        store.update(one.id, fields, expected_version=one.version, actor="test")
    elif name == "purge":
        store.purge([one.id], confirm=True, actor="test")
    else:
        getattr(store, name)([one.id], actor="test")


KILLED = """
import json, os, signal, sys
from pathlib import Path
from memory.search.embed import HashingEmbedder
from memory.search.reembed import migrate
from memory.store import CaseStore

OLD, NEW = HashingEmbedder(dim=16), HashingEmbedder(dim=24)

def move(folder, stop):
    with CaseStore(folder) as store:
        left = [stop]

        def tick(*_):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        store._database._connection.set_trace_callback(tick)
        for _ in migrate(store, NEW, batch=3):
            pass
        return stop - left[0]

def check(folder):
    with CaseStore(folder) as store:
        active = store.vectors.active
        embedder = {e.fingerprint.digest: e for e in (OLD, NEW)}[active]
        for view in ("question", "plan"):
            matrix, cases, pending = store.vectors.get(active, view, store.cases())
            texts = [getattr(case, view) for case in cases]
            assert not pending and len(cases) == 104
            assert (matrix == embedder.embed_documents(texts)).all()
        return active

folders = iter(sys.argv[1:])
total = move(Path(next(folders)), 10**9)
kills = {"old": 0, "new": 0}
names = {OLD.fingerprint.digest: "old", NEW.fingerprint.digest: "new"}
count = len(sys.argv) - 2
for number, folder in enumerate(map(Path, folders)):
    stop = total - (count - number - 1)
    if number < count - 4:
        stop = 1 + number * total // (count - 4)
    child = os.fork()
    if not child:
        move(folder, stop)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), status
    kills[names[check(folder)]] += 1
    move(folder, 10**9)
    check(folder)
print(json.dumps(kills))
"""


@pytest.mark.parametrize("kills", [6, pytest.param(40, marks=pytest.mark.slow)])
def test_a_killed_move_resumed_is_the_uninterrupted_one(kills: int) -> None:
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        here = Path(name)
        with CaseStore(here / "first", clock=lambda: 5.0) as store:
            store.add_many(
                [CaseIn(question=f"q {i}", plan=f"p {i}", uid=f"u{i}") for i in range(104)],
                actor="test",
            )
            embed_pending(store, OLD, ("question", "plan"))
            for number in range(kills):
                (here / str(number)).mkdir()
                store.backup(here / str(number) / "memory.sqlite")
        places = [str(here / "first"), *(str(here / str(number)) for number in range(kills))]
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", KILLED, *places],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told == {"old": kills, "new": 0}
        expected = contents(here / "first")
        for number in range(kills):
            assert contents(here / str(number)) == expected


def contents(folder: Path) -> list[object]:
    """Everything that a move writes, but for the times."""
    with CaseStore(folder, mode="ro") as store, store._database.read() as connection:
        tables = (
            "SELECT * FROM vectors ORDER BY case_id, fp, view",
            "SELECT * FROM meta ORDER BY key",
            "SELECT fp, json, dim FROM fingerprints ORDER BY fp",
            "SELECT * FROM history ORDER BY seq",
        )
        return [connection.execute(query).fetchall() for query in tables]
