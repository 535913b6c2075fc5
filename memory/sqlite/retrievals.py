"""Reads are logged, what came of them is credited once, and only to what was shown."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import astuple

from memory.credit import Utility
from memory.errors import InvalidCase, StoreError
from memory.sqlite.codec import canonical_json
from memory.sqlite.database import Database
from memory.sqlite.history import Stamp, append_event, last_seq
from memory.sqlite.utility import (
    check_outcome,
    fold_utilities,
    read_utilities,
    shown_cases,
    write_utilities,
)
from memory.types import CreditReport, Hit, Outcome, Retrieval

_HIT = "case_id, sim, rank, score, util, reason"
_OUTCOME = "retrieval_id, reward, advantage, baseline, verifier"
_PLAIN = "run_id, group_id, rollout_id, item_id, query_sha, policy, fingerprint, snapshot_seq"


class RetrievalLog:
    """The part of an open store that knows who read what, and how it went."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def log(self, read: Retrieval) -> int:
        """Keep a read; returns its id. All of its candidates are kept, shown or not."""
        for hit in read.hits:
            if not all(math.isfinite(v) for v in (hit.sim, hit.score or 0.0, hit.util or 0.0)):
                raise InvalidCase(f"A score of case {hit.case_id} is not finite; check the ranker.")
        with self._database.write() as connection:
            seq = last_seq(connection) if read.snapshot_seq is None else read.snapshot_seq
            row = (
                read.run_id, read.group_id, read.rollout_id, read.item_id, read.query_sha,
                canonical_json(dict(read.policy)), read.fingerprint, seq,
                None if read.seed is None else str(read.seed), read.ms, self._clock(),
            )  # fmt: skip
            cursor = connection.execute(
                f"INSERT INTO retrievals ({_PLAIN}, seed, ms, ts) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            number = int(cursor.lastrowid or 0)
            connection.executemany(
                f"INSERT INTO retrieval_hits (retrieval_id, {_HIT}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(number, *astuple(hit)) for hit in read.hits],
            )
        return number

    def get(self, retrieval_id: int) -> Retrieval:
        with self._database.read() as connection:
            row = connection.execute(
                f"SELECT {_PLAIN}, seed, ms FROM retrievals WHERE id = ?", (retrieval_id,)
            ).fetchone()
            if row is None:
                raise _unlogged(retrieval_id)
            hits = connection.execute(
                f"SELECT {_HIT} FROM retrieval_hits WHERE retrieval_id = ? "
                "ORDER BY rank IS NULL, rank, case_id",
                (retrieval_id,),
            ).fetchall()
        *plain, policy, fingerprint, seq, seed, ms = row
        names = ("run_id", "group_id", "rollout_id", "item_id", "query_sha")
        return Retrieval(
            hits=tuple(Hit(*hit) for hit in hits),
            policy=json.loads(policy),
            fingerprint=fingerprint,
            snapshot_seq=seq,
            seed=None if seed is None else int(seed),
            ms=ms,
            **dict(zip(names, plain, strict=True)),
        )

    def ids(self, *, case_id: int | None = None, run_id: str | None = None) -> list[int]:
        """Reads in the order of their logging: those that showed a case, or of a run, or all."""
        query = """SELECT id FROM retrievals WHERE (:run IS NULL OR run_id = :run)
            AND (:case IS NULL OR EXISTS (SELECT 1 FROM retrieval_hits AS h WHERE
                h.retrieval_id = retrievals.id AND h.case_id = :case AND h.rank IS NOT NULL))
            ORDER BY id"""
        with self._database.read() as connection:
            rows = connection.execute(query, {"case": case_id, "run": run_id})
            return [int(number) for (number,) in rows]

    def times_shown(self) -> dict[int, int]:
        """How often each case was shown, credited or not; cases that never were are left out."""
        query = (
            "SELECT case_id, COUNT(*) FROM retrieval_hits WHERE rank IS NOT NULL GROUP BY case_id"
        )
        with self._database.read() as connection:
            return dict(connection.execute(query))

    def credit(self, outcomes: Sequence[Outcome], *, actor: str) -> CreditReport:
        """Credit each outcome's advantage to the cases that its retrieval showed.

        All or nothing. An outcome that is stored already is counted and left alone; raises
        StoreError if the stored one says something else.
        """
        for outcome in outcomes:
            check_outcome(outcome)
        with self._database.write() as connection:
            fresh = _fresh(connection, outcomes)
            if fresh:
                ts = self._clock()
                seq = append_event(connection, Stamp(actor, ts), "credit")
                self._keep(connection, fresh, seq, ts)
        silent = sum(outcome.advantage is None for outcome in fresh)
        return CreditReport(len(fresh) - silent, len(outcomes) - len(fresh), silent)

    def _keep(
        self, connection: sqlite3.Connection, outcomes: Sequence[Outcome], seq: int, ts: float
    ) -> None:
        known = read_utilities(connection)
        touched: dict[int, Utility] = {}
        for outcome in outcomes:
            connection.execute(
                f"INSERT INTO outcomes ({_OUTCOME}, seq, ts) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*astuple(outcome), seq, ts),
            )
            if outcome.advantage is None:
                continue
            for number in shown_cases(connection, outcome.retrieval_id):
                known[number] = known.get(number, Utility()).add(float(outcome.advantage))
                touched[number] = known[number]
        write_utilities(connection, touched)

    def outcome(self, retrieval_id: int) -> Outcome | None:
        with self._database.read() as connection:
            return _outcome(connection, retrieval_id)

    def rebuild_utilities(self) -> None:
        """Fold all outcomes anew. Changes nothing unless the table was damaged."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM utility")
            write_utilities(connection, fold_utilities(connection, last_seq(connection)))


def _fresh(connection: sqlite3.Connection, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that are not stored yet, once each."""
    fresh: dict[int, Outcome] = {}
    for outcome in outcomes:
        number = outcome.retrieval_id
        if not connection.execute("SELECT 1 FROM retrievals WHERE id = ?", (number,)).fetchone():
            raise _unlogged(number)
        known = fresh.get(number) or _outcome(connection, number)
        if known is None:
            fresh[number] = outcome
        elif known != outcome:
            raise StoreError(
                f"Retrieval {number} already has another outcome; log a new retrieval."
            )
    return list(fresh.values())


def _outcome(connection: sqlite3.Connection, retrieval_id: int) -> Outcome | None:
    row = connection.execute(
        f"SELECT {_OUTCOME} FROM outcomes WHERE retrieval_id = ?", (retrieval_id,)
    ).fetchone()
    return None if row is None else Outcome(*row)


def _unlogged(retrieval_id: int) -> StoreError:
    return StoreError(f"No retrieval {retrieval_id} was logged; log it before it is credited.")
