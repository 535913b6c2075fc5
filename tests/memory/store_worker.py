"""Processes that share, fork and kill a store; run as a script, so that only it is forked.

    store_worker.py fork FOLDER             a child may not use its parent's connection
    store_worker.py share FOLDER            4 writers and 4 readers at once
    store_worker.py crash FOLDER N SEED     N children, each killed at some point of its work

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
from memory.store import CaseStore
from memory.types import CaseFilter, CaseIn, Hit, Outcome, Retrieval

WRITERS, READERS, CHANGES = 4, 4, 12


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


def main(arguments: Iterator[str]) -> None:
    what, folder = next(arguments), Path(next(arguments))
    if what == "crash":
        crash(folder, int(next(arguments)), int(next(arguments)))
    else:
        {"fork": fork, "share": share}[what](folder)


if __name__ == "__main__":
    main(iter(sys.argv[1:]))
