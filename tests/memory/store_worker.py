"""Processes that share, fork and kill a store; run as a script, so that only it is forked.

    store_worker.py fork FOLDER             a child may not use its parent's connection
    store_worker.py share FOLDER            4 writers and 4 readers at once
    store_worker.py crash FOLDER N SEED     N children, each killed at some point of its work
    store_worker.py reindex FOLDER N SEED   N children, each killed while it makes indexes anew

Prints one line of JSON about what happened; exits 1 at the first broken promise.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memory.errors import StoreError, VersionConflict
from memory.search.embed import HashingEmbedder
from memory.search.index import NumpyIndex
from memory.search.index_files import StaleIndex, load
from memory.search.reembed import embed_pending, index_folder, stamp
from memory.search.reembed import reindex as write_indexes
from memory.store import CaseStore
from memory.types import CaseFilter, CaseIn, Hit, Outcome, Retrieval, View

WRITERS, READERS, CHANGES = 8, 8, 8
EMBEDDER = HashingEmbedder(dim=16)
VIEWS: tuple[View, ...] = ("question", "plan")


def in_child(work: Callable[[], None]) -> int:
    """Fork, do the work there, and return the child's id; the child exits 1 if the work raises."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def fork(folder: Path) -> None:
    with CaseStore(folder) as store:

        def touch() -> None:
            with pytest.raises(StoreError, match="open it again in the child"):
                store.cases()

        assert os.waitpid(in_child(touch), 0)[1] == 0
        assert store.cases() == []
    print("{}")


def share(folder: Path) -> None:
    """Each writer counts one shared case up and adds cases of its own."""

    def write(who: int) -> None:
        with CaseStore(folder) as store:
            store.add(CaseIn(question="shared", answer="0"), actor="any")
            for i in range(CHANGES):
                store.add(CaseIn(question=f"{who}-{i}", plan="own"), actor=str(who))
                while True:
                    case = store.get(1)
                    count = str(int(case.answer or 0) + 1)
                    try:
                        store.update(
                            1, {"answer": count}, expected_version=case.version, actor=str(who)
                        )
                        break
                    except VersionConflict:
                        continue

    def read() -> None:
        while not (folder / "memory.sqlite").exists():
            time.sleep(0.005)
        last = -1
        deadline = time.monotonic() + 60
        with CaseStore(folder) as store:
            while time.monotonic() < deadline:
                state = store.at(store.seq)
                assert state.seq >= last
                last = state.seq
                done = sum(c.plan == "own" for c in state.cases.values())
                counted = int(state.cases[1].answer or 0) if 1 in state.cases else 0
                assert counted <= done <= counted + WRITERS
                if counted == WRITERS * CHANGES:
                    return
        raise AssertionError("the last change was never seen")

    children = [in_child(lambda who=who: write(who)) for who in range(WRITERS)]
    children += [in_child(read) for _ in range(READERS)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)
    with CaseStore(folder) as store:
        assert store.get(1).answer == str(WRITERS * CHANGES)
        assert store.verify() == []
        print(json.dumps({"cases": len(store.cases()), "seen": store.get(1).seen_count}))


def crash(folder: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    promises: list[list[str]] = []
    killed = 0
    for number in range(kills):
        way, when = ("statement", "instruction", "outside")[number % 3], rng.random()
        reading, writing = os.pipe()
        child = in_child(lambda w=writing, n=number, way=way, x=when: work(folder, w, n, way, x))
        os.close(writing)
        if way == "outside":
            time.sleep(0.04 * when)
            os.kill(child, signal.SIGKILL)
        with os.fdopen(reading) as told:
            promises += [line.split() for line in told.read().splitlines()]
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
        killed += os.WIFSIGNALED(status)
        check(folder, promises, deep=number % 40 == 0 or number == kills - 1)
    kinds = {kind: sum(p[0] == kind for p in promises) for kind in ("add", "credit", "snapshot")}
    print(json.dumps({"killed": killed, **kinds}))


def work(folder: Path, pipe: int, number: int, way: str, when: float) -> None:
    """Change the store until killed, and tell what has been promised."""

    def tell(*words: object) -> None:
        os.write(pipe, (" ".join(map(str, words)) + "\n").encode())

    with CaseStore(folder) as store:
        if way != "outside":
            die_after(store, way, when)
        for i in range(100 if way == "outside" else 6):
            first = store.add(CaseIn(question=f"{number}/{i}", plan="p" * 500), actor="w").id
            tell("add", first)
            read = store.retrievals.log(Retrieval((Hit(first, 0.5, 0),), "q"))
            store.retrievals.credit([Outcome(read, 1.0, 0.25)], actor="w")
            tell("credit", read)
            taken = store.snapshot(f"s{number}-{i}")
            tell("snapshot", taken.name, taken.digest)
            store.update(first, {"answer": "x"}, expected_version=1, actor="w")
            if i == 2:
                tell("purging", first)
                store.purge([first], confirm=True, actor="w")


def die_after(store: CaseStore, way: str, when: float) -> None:
    """Kill this process before some SQL statement, or in the midst of one."""
    left = [int(when * (170 if way == "statement" else 4000))]

    def tick(*_: object) -> int:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    connection = store._database._connection
    if way == "statement":
        connection.set_trace_callback(tick)
    else:
        connection.set_progress_handler(tick, 3)


def check(folder: Path, promises: list[list[str]], deep: bool) -> None:
    """Whatever a child was told is done is still there."""
    with CaseStore(folder) as store:
        everything = CaseFilter(states=("active", "archived", "deleted"))
        present = {case.id for case in store.cases(everything)}
        digests = {s.name: s.digest for s in store.snapshots()}
        purged = {int(p[1]) for p in promises if p[0] == "purging"}
        for kind, name, *more in promises:
            if kind == "add":
                assert int(name) in present | purged, name
            elif kind == "credit" and deep:
                assert store.retrievals.outcome(int(name)) == Outcome(int(name), 1.0, 0.25)
            elif kind == "snapshot":
                assert digests[name] == more[0]
        if deep:
            assert [p for p in store.verify() if p.code != "erase"] == []


def reindex(folder: Path, kills: int, seed: int) -> None:
    """Utilities and indexes are what they were, or what they are to become; never anything else."""
    rng = random.Random(seed)
    killed, stale = 0, 0
    with CaseStore(folder) as store:
        cases = [CaseIn(question=f"q {i}", plan=f"p {i}") for i in range(40)]
        added = store.add_many(cases, actor="w")
        for result in added[::4]:
            read = store.retrievals.log(Retrieval((Hit(result.id, 0.5, 0),), "q"))
            store.retrievals.credit([Outcome(read, 1.0, rng.random())], actor="w")
        embed_pending(store, EMBEDDER, VIEWS)
    steps = counted(lambda: make_anew(folder, 10**9))
    for number in range(kills):
        with CaseStore(folder) as store:  # so that every index is to become another one
            store.add(CaseIn(question=f"new {number}", plan=f"p {number}"), actor="w")
            embed_pending(store, EMBEDDER, VIEWS)
            expected = store.digest
        stop = rng.randrange(steps)
        child = in_child(lambda stop=stop: make_anew(folder, stop))  # type: ignore[misc]
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        stale += check_indexes(folder, expected)
    print(json.dumps({"killed": killed, "stale": stale}))


def counted(work: Callable[[], int]) -> int:
    """What `work` returns, done in a child because its hooks cannot be taken away again."""
    reading, writing = os.pipe()
    child = in_child(lambda: os.write(writing, str(work()).encode()) and None)
    os.close(writing)
    with os.fdopen(reading) as told:
        found = int(told.read())
    assert os.waitpid(child, 0)[1] == 0
    return found


def make_anew(folder: Path, stop: int) -> int:
    """Rebuild everything, killed before step `stop`; a step is a statement or a touch of a file."""
    steps = 0

    def tick(event: str, *_: object) -> None:
        nonlocal steps
        if event in ("open", "os.rename", "os.remove", "statement"):
            if steps == stop:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1

    with CaseStore(folder) as store:
        store._database._connection.set_trace_callback(lambda _: tick("statement"))
        sys.addaudithook(tick)
        store.retrievals.rebuild_utilities()
        write_indexes(store, EMBEDDER.fingerprint.digest, "numpy")
        return steps


def check_indexes(folder: Path, expected: str) -> int:
    """How many indexes have to be made again; those that need not are exactly right."""
    stale, fingerprint = 0, EMBEDDER.fingerprint.digest
    with CaseStore(folder) as store:
        assert store.digest == expected
        assert store.verify() == []
        cases = store.cases()
        seq, mark = stamp(cases)
        for view in VIEWS:
            place = index_folder(folder, fingerprint, view)
            try:
                index = load(NumpyIndex, place, fingerprint=f"{fingerprint}:{mark}", seq=seq)
            except StaleIndex:
                stale += 1
                continue
            assert index.ids.tolist() == [case.id for case in cases]
            rows, _, _ = store.vectors.get(fingerprint, view, cases)
            found = [hits.ids[0] for hits in index.search(rows, 1)]
            texts = [getattr(case, view) for case in cases]
            assert [getattr(store.get(int(i)), view) for i in found] == texts
    return stale


def main(arguments: Iterator[str]) -> None:
    what, folder = next(arguments), Path(next(arguments))
    if what in ("crash", "reindex"):
        killing = crash if what == "crash" else reindex
        killing(folder, int(next(arguments)), int(next(arguments)))
    else:
        {"fork": fork, "share": share}[what](folder)


if __name__ == "__main__":
    main(iter(sys.argv[1:]))
