"""What must hold of every store, checked on one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np

from memory.sqlite.codec import content_key, encode_case, sha256
from memory.sqlite.history import digest_at, last_seq, replay
from memory.sqlite.keywords import out_of_step
from memory.sqlite.rows import all_cases
from memory.sqlite.snapshots import all_snapshots
from memory.sqlite.utility import read_utilities
from memory.types import Problem


def problems(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Everything wrong with the store; nothing if it is sound."""
    yield from _file(connection)
    yield from _events(connection)
    yield from _replayed(connection)
    yield from _snapshots(connection)
    yield from _vectors(connection)
    yield from _keywords(connection)
    if connection.execute("SELECT 1 FROM meta WHERE key = 'erase'").fetchone():
        yield Problem("erase", "A purge has not been finished; call purge with no ids, alone.")


def _file(connection: sqlite3.Connection) -> Iterator[Problem]:
    for (found,) in connection.execute("PRAGMA integrity_check"):
        if found != "ok":
            yield Problem("file", f"The file is damaged: {found}")
    for table, *_ in connection.execute("PRAGMA foreign_key_check"):
        yield Problem("reference", f"A row of {table} refers to something that is gone.")


def _events(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Each event begins where the case's last one ended, and is what its hash says."""
    query = """SELECT seq, op, case_id, before_json, after_json, after_sha FROM history
        WHERE case_id IS NOT NULL ORDER BY seq"""
    last: dict[int, str | None] = {}
    purged: set[int] = set()
    for seq, op, number, before, after, sha in connection.execute(query):
        if number in purged:
            yield Problem("history", f"Event {seq} follows the purge of its case.", number)
        if op == "purge":
            purged.add(number)
        elif before != last.get(number):
            yield Problem("history", f"Event {seq} does not follow the one before.", number)
        if after is not None and sha256(after) != sha:
            yield Problem("history", f"Event {seq} was altered.", number)
        last[number] = after


def _replayed(connection: sqlite3.Connection) -> Iterator[Problem]:
    """The history and the outcomes amount to the tables."""
    state = replay(connection, last_seq(connection))
    rows = {case.id: case for case in all_cases(connection)}
    stored = {number: values for number, *values in connection.execute(_KEYS)}
    for number in sorted(state.cases.keys() | rows.keys()):
        case = rows.get(number)
        if case != state.cases.get(number):
            yield Problem("case", "The case is not what its history says.", number)
        elif case is not None and stored[number] != [sha256(encode_case(case)), content_key(case)]:
            yield Problem("case", "The hashes of the case are not its own.", number)
    utilities = read_utilities(connection)
    for number in sorted(utilities.keys() | state.utilities.keys()):
        if utilities.get(number) != state.utilities.get(number):
            yield Problem("utility", "The utility is not the fold of its outcomes.", number)


_KEYS = "SELECT id, sha, content_key FROM cases"


def _snapshots(connection: sqlite3.Connection) -> Iterator[Problem]:
    for snapshot in all_snapshots(connection):
        if digest_at(connection, snapshot.seq) != snapshot.digest:
            yield Problem("snapshot", f"The snapshot {snapshot.name} has another digest now.")


def _vectors(connection: sqlite3.Connection) -> Iterator[Problem]:
    query = "SELECT case_id, vec, dim FROM vectors JOIN fingerprints USING (fp)"
    for number, blob, dim in connection.execute(query):
        vector = np.frombuffer(blob, dtype="<f4") if len(blob) % 4 == 0 else np.zeros(0)
        with np.errstate(over="ignore", invalid="ignore"):
            norm = float(np.linalg.norm(vector.astype(np.float64)))
        if len(vector) != dim or not abs(norm - 1) <= 1e-4:
            yield Problem("vector", "A vector has not unit length or the wrong size.", number)


def _keywords(connection: sqlite3.Connection) -> Iterator[Problem]:
    """The index of words holds those of the cases, at their places."""
    try:
        found = out_of_step(connection)
    except sqlite3.DatabaseError as error:
        yield Problem("keywords", f"The index of words is damaged ({error}); {_REBUILD}.")
        return
    for number in found:
        yield Problem("keywords", f"The index of words lags behind; {_REBUILD}.", number)


_REBUILD = "purge with no ids, which makes it anew"
