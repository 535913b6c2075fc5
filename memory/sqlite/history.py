"""The history: every change as an event, and the state that any prefix of it amounts to."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from memory.credit import Utility
from memory.sqlite.codec import decode_case, encode_case, sha256
from memory.sqlite.rows import write_case
from memory.sqlite.utility import fold_utilities
from memory.types import Case, Event

_EVENT = "seq, ts, actor, op, case_id, before_json, after_json, after_sha, reason, run_id"
_LATEST = """SELECT h.case_id, h.seq, h.ts, h.op, h.after_json, h.after_sha, f.ts
    FROM (SELECT case_id, MAX(seq) AS last, MIN(seq) AS first FROM history
          WHERE seq <= ? AND case_id IS NOT NULL GROUP BY case_id) AS s
    JOIN history AS h ON h.seq = s.last JOIN history AS f ON f.seq = s.first
    ORDER BY h.case_id"""

_SHAS = """SELECT case_id, after_sha FROM history WHERE after_sha IS NOT NULL AND seq IN
    (SELECT MAX(seq) FROM history WHERE seq <= ? AND case_id IS NOT NULL GROUP BY case_id)"""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who changes something, when, and why."""

    actor: str
    ts: float
    reason: str = ""
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoreState:
    """The store right after event `seq`.

    `shas` also names cases that were purged later: they belong to the digest and can no longer
    be read.
    """

    seq: int
    cases: Mapping[int, Case]
    shas: Mapping[int, str]
    utilities: Mapping[int, Utility]

    @property
    def digest(self) -> str:
        return digest_of(self.shas, self.utilities)


def digest_of(shas: Mapping[int, str], utilities: Mapping[int, Utility]) -> str:
    """SHA-256 over all cases and their utilities, without times.

    Two stores have equal digests if the same events, with the same uids, led to them.
    """
    digest = hashlib.sha256()
    for number in sorted(shas):
        digest.update(f"{number} {shas[number]}\n".encode())
    for number in sorted(shas.keys() & utilities.keys()):
        u = utilities[number]
        digest.update(f"{number} {u.n} {u.mean!r} {u.m2!r}\n".encode())
    return digest.hexdigest()


def append_event(
    connection: sqlite3.Connection,
    stamp: Stamp,
    op: str,
    case_id: int | None = None,
    before: str | None = None,
    after: str | None = None,
) -> int:
    """Add one line to the history and return its sequence number."""
    row = (
        stamp.ts, stamp.actor, op, case_id, before, after,
        None if after is None else sha256(after), stamp.reason, stamp.run_id,
    )  # fmt: skip
    cursor = connection.execute(
        "INSERT INTO history (ts, actor, op, case_id, before_json, after_json, after_sha, reason,"
        " run_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )
    return int(cursor.lastrowid or 0)


def record(
    connection: sqlite3.Connection, stamp: Stamp, op: str, before: Case | None, after: Case
) -> Case:
    """Change one case: the event and the row, in the caller's transaction."""
    after = replace(
        after,
        version=1 if before is None else before.version + 1,
        created=stamp.ts if before is None else before.created,
        updated=stamp.ts,
    )
    text = encode_case(after)
    old = None if before is None else encode_case(before)
    seq = append_event(connection, stamp, op, after.id, old, text)
    after = replace(after, seq=seq)
    write_case(connection, after, sha256(text))
    return after


def events(connection: sqlite3.Connection, case_id: int | None, since: int) -> list[Event]:
    """Events after `since`, oldest first; of one case, or of all."""
    where, values = "seq > ?", [since]
    if case_id is not None:
        where, values = "seq > ? AND case_id = ?", [since, case_id]
    rows = connection.execute(f"SELECT {_EVENT} FROM history WHERE {where} ORDER BY seq", values)
    return [Event(*row) for row in rows]


def last_seq(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT COALESCE(MAX(seq), 0) FROM history").fetchone()[0])


def replay(connection: sqlite3.Connection, seq: int) -> StoreState:
    """The state after event `seq`, from the history and the logged outcomes alone.

    An event holds its whole case, so that the last event of each case is the fold of all of them.
    """
    cases: dict[int, Case] = {}
    shas: dict[int, str] = {}
    for row in connection.execute(_LATEST, (seq,)):
        number, sha, case = _decoded(row)
        if sha is not None:
            shas[number] = sha
        if case is not None:
            cases[number] = case
    folded = fold_utilities(connection, seq)
    utilities = {number: u for number, u in folded.items() if number in shas}
    return StoreState(seq, cases, shas, utilities)


def digest_at(connection: sqlite3.Connection, seq: int) -> str:
    """The digest of the state after event `seq`, without reading any case."""
    return digest_of(dict(connection.execute(_SHAS, (seq,))), fold_utilities(connection, seq))


def _decoded(row: tuple[Any, ...]) -> tuple[int, str | None, Case | None]:
    number, seq, ts, _, text, sha, created = row
    if text is None:
        return number, sha, None
    return number, sha, decode_case(text, seq=seq, created=created, updated=ts)
