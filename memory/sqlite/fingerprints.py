"""The embedding spaces that a store knows, and which of them is searched.

A space is what one embedder makes, named by the digest of its fingerprint. A store may hold vectors
of several; the active one is searched.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from memory.errors import StoreError
from memory.search.calibrate import Calibration
from memory.search.embed import Fingerprint
from memory.sqlite.codec import canonical_json, sha256, view_text
from memory.sqlite.database import Database
from memory.types import Content, Kind, View

RETRIEVED: tuple[Kind, ...] = ("case", "insight")
"""The kinds that are found by likeness. Subtasks and tool calls are read in order instead."""

STORED = np.dtype("<f4")
WANTED = """(SELECT id, view_sha(question, plan, :view) AS sha FROM cases
    WHERE state = 'active' AND kind IN (SELECT value FROM json_each(:kinds)) AND id > :after)"""
PENDING = f"""FROM {WANTED} AS c WHERE sha IS NOT NULL AND sha IS NOT (
    SELECT text_sha FROM vectors WHERE case_id = c.id AND fp = :fp AND view = :view)"""


@dataclass(frozen=True, slots=True)
class StoredView:
    """The vectors of one view in one space; `bytes` is their size, `pending` what has none yet."""

    fingerprint: str
    name: str
    dim: int
    active: bool
    view: View
    vectors: int
    pending: int
    bytes: int


class FingerprintTable:
    """The part of an open store that knows embedders, their probes and their chance levels."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def register(
        self, fingerprint: str, dim: int, details: Mapping[str, Any], name: str = ""
    ) -> None:
        """Make an embedding space known. Raises StoreError if it is known to be another one.

        The `name` is for people: the first one given stays.
        """
        text = canonical_json(dict(details))
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO fingerprints VALUES (?, ?, ?, ?)",
                (fingerprint, text, dim, self._clock()),
            )
            found = connection.execute(
                "SELECT json, dim FROM fingerprints WHERE fp = ?", (fingerprint,)
            ).fetchone()
            if found != (text, dim):
                raise StoreError(
                    f"The fingerprint {fingerprint} already names another embedder; embed with "
                    "that one, or give this one a fingerprint of its own."
                )
            if name and _meta(connection, f"name:{fingerprint}") is None:
                _put_meta(connection, f"name:{fingerprint}", name)

    def known(self, fingerprint: str) -> Fingerprint | None:
        """What a registered space was made with; None if it is unknown or says less than that."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT json FROM fingerprints WHERE fp = ?", (fingerprint,)
            ).fetchone()
            name = _meta(connection, f"name:{fingerprint}") or ""
        details = {} if row is None else json.loads(row[0])
        if {*details, "model"} != {field.name for field in fields(Fingerprint)}:
            return None
        return Fingerprint(**details, model=name)

    @property
    def active(self) -> str | None:
        """The space that is searched; None until all cases were embedded once."""
        with self._database.read() as connection:
            return _meta(connection, "active")

    def activate(self, fingerprint: str, views: Sequence[View], *, replacing: str | None) -> bool:
        """Search this space from now on; returns False if a case has no vector there yet.

        Raises StoreError if the active space is no longer `replacing`.
        """
        with self._database.write() as connection:
            active = _meta(connection, "active")
            if active not in (replacing, fingerprint):
                raise StoreError(
                    "Another process has switched this store to another embedder meanwhile; "
                    "open the store again, and re-embed it if you still want to."
                )
            if any(count_pending(connection, fingerprint, view) for view in views):
                return False
            _put_meta(connection, "active", fingerprint)
            return True

    def views(self, fingerprint: str) -> tuple[View, ...]:
        """The views that have vectors in a space."""
        query = "SELECT DISTINCT view FROM vectors WHERE fp = ? ORDER BY view"
        with self._database.read() as connection:
            rows = connection.execute(query, (fingerprint,))
            return tuple(cast(View, view) for (view,) in rows)

    def drop(self, fingerprint: str) -> int:
        """Forget a space and its vectors; returns how many. Raises StoreError if it is active."""
        with self._database.write() as connection:
            if _meta(connection, "active") == fingerprint:
                raise StoreError("That space is being searched; re-embed with another one first.")
            gone = connection.execute("DELETE FROM vectors WHERE fp = ?", (fingerprint,)).rowcount
            connection.execute("DELETE FROM fingerprints WHERE fp = ?", (fingerprint,))
            keys = [f"{kind}:{fingerprint}" for kind in ("name", "probe")]
            keys += [f"floor:{fingerprint}:{view}" for view in ("question", "plan", "insight")]
            connection.executemany("DELETE FROM meta WHERE key = ?", [(key,) for key in keys])
            return gone

    def keep_probe(self, fingerprint: str, rows: NDArray[np.float32]) -> None:
        """Keep the vectors of the fixed sentences, shape (probes, dim)."""
        data = np.ascontiguousarray(rows, dtype=STORED).tobytes()
        with self._database.write() as connection:
            _put_meta(connection, f"probe:{fingerprint}", base64.b64encode(data).decode())

    def probe(self, fingerprint: str) -> NDArray[np.float32] | None:
        with self._database.read() as connection:
            text = _meta(connection, f"probe:{fingerprint}")
            dim = dim_of(connection, fingerprint)
        if text is None or not dim:
            return None
        flat = np.frombuffer(base64.b64decode(text), dtype=STORED)
        return flat.reshape(-1, dim).astype(np.float32)

    def keep_calibration(self, view: View, found: Calibration) -> None:
        """Keep what chance amounts to in a view of the space that `found` names."""
        with self._database.write() as connection:
            key = f"floor:{found.fingerprint}:{view}"
            _put_meta(connection, key, canonical_json(asdict(found)))

    def calibration(self, fingerprint: str, view: View) -> Calibration | None:
        with self._database.read() as connection:
            text = _meta(connection, f"floor:{fingerprint}:{view}")
        return None if text is None else Calibration(**json.loads(text))


def count_pending(connection: sqlite3.Connection, fingerprint: str, view: View) -> int:
    values = values_of(connection, fingerprint, view)
    return int(connection.execute(f"SELECT COUNT(*) {PENDING}", values).fetchone()[0])


def stored_views(connection: sqlite3.Connection) -> list[StoredView]:
    """What each space holds, by fingerprint and view."""
    query = """SELECT fp, dim, view, COUNT(*), SUM(length(vec)) FROM vectors
        JOIN fingerprints USING (fp) GROUP BY fp, view ORDER BY fp, view"""
    active = _meta(connection, "active")
    return [
        StoredView(
            fp, _meta(connection, f"name:{fp}") or "", dim, fp == active, view, count,
            count_pending(connection, fp, view), size,
        )
        for fp, dim, view, count, size in connection.execute(query).fetchall()
    ]  # fmt: skip


def values_of(connection: sqlite3.Connection, fingerprint: str, view: View) -> dict[str, Any]:
    """Parameters of the queries for what is pending, which need a function of ours."""
    connection.create_function("view_sha", 3, _view_sha, deterministic=True)
    kinds = json.dumps(RETRIEVED)
    return {"fp": fingerprint, "view": view, "after": 0, "kinds": kinds}


def _view_sha(question: str, plan: str, view: View) -> str | None:
    text = view_text(Content(question=question, plan=plan), view)
    return sha256(text) if text.strip() else None


def dim_of(connection: sqlite3.Connection, fingerprint: str) -> int | None:
    row = connection.execute("SELECT dim FROM fingerprints WHERE fp = ?", (fingerprint,)).fetchone()
    return None if row is None else int(row[0])


def _meta(connection: sqlite3.Connection, key: str) -> str | None:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def _put_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
