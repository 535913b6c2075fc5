"""Vectors of cases, kept so that nothing is embedded twice. They can always be made again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from memory.errors import InvalidCase, StoreError
from memory.sqlite.codec import sha256, view_text
from memory.sqlite.fingerprints import (
    PENDING,
    RETRIEVED,
    STORED,
    WANTED,
    FingerprintTable,
    count_pending,
    dim_of,
    values_of,
)
from memory.sqlite.rows import read_case
from memory.types import Case, Mark, View

_PUT = "INSERT OR REPLACE INTO vectors SELECT ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM cases WHERE id = ?)"  # noqa: E501
_GET = """SELECT v.case_id, v.text_sha, v.vec FROM json_each(:ids) AS wanted JOIN vectors AS v
    ON v.case_id = wanted.value AND v.fp = :fp AND v.view = :view"""
_MARKS = f"""SELECT id, uid, seq, updated FROM cases
    WHERE state = 'active' AND kind IN ({", ".join("?" * len(RETRIEVED))}) ORDER BY id"""


class VectorTable(FingerprintTable):
    """The part of an open store that holds one vector per (case, fingerprint, view).

    A case whose text in a view is blank has nothing to be found by there and needs no vector.
    """

    def put(
        self, fingerprint: str, view: View, cases: Sequence[Case], matrix: NDArray[np.float32]
    ) -> None:
        """Keep the vectors of these cases, shape (cases, dim). Those purged meanwhile are skipped.

        A vector belongs to the text that the case has in `cases`: after an edit it is pending.
        """
        rows = np.ascontiguousarray(matrix, dtype=STORED)
        with self._database.write() as connection:
            dim = dim_of(connection, fingerprint)
            if dim is None:
                raise StoreError(f"No fingerprint {fingerprint} is known; register it first.")
            if rows.shape != (len(cases), dim) or not np.isfinite(rows).all():
                raise InvalidCase(
                    f"The vectors have shape {rows.shape} or are not finite; "
                    f"give finite ones of shape {(len(cases), dim)}."
                )
            connection.executemany(
                _PUT,
                [
                    (c.id, fingerprint, view, sha256(view_text(c, view)), row.tobytes(), c.id)
                    for c, row in zip(cases, rows, strict=True)
                ],
            )

    def get(
        self, fingerprint: str, view: View, cases: Sequence[Case]
    ) -> tuple[NDArray[np.float32], list[Case], list[Case]]:
        """The vectors that fit the texts of `cases`, shape (found, dim), and their cases.

        The second list holds the pending ones: those that still have to be embedded.
        """
        wanted = {"ids": json.dumps([c.id for c in cases]), "fp": fingerprint, "view": view}
        with self._database.read() as connection:
            dim = dim_of(connection, fingerprint)
            rows = connection.execute(_GET, wanted)
            stored = {number: (sha, vec) for number, sha, vec in rows}
        fitting, pending, parts = [], [], []
        for case in cases:
            text = view_text(case, view)
            sha, vec = stored.get(case.id, (None, b""))
            if sha == sha256(text):
                fitting.append(case)
                parts.append(np.frombuffer(vec, dtype=STORED))
            elif text.strip():
                pending.append(case)
        matrix = np.stack(parts) if parts else np.zeros((0, dim or 0), dtype=STORED)
        return matrix.astype(np.float32), fitting, pending

    def pending(
        self, fingerprint: str, view: View, *, after: int = 0, limit: int = 256
    ) -> list[Case]:
        """Active cases above `after` that have no vector of their present text, by id."""
        with self._database.read() as connection:
            values = values_of(connection, fingerprint, view) | {"after": after, "limit": limit}
            rows = connection.execute(f"SELECT id {PENDING} ORDER BY id LIMIT :limit", values)
            return [read_case(connection, number) for (number,) in rows.fetchall()]

    def progress(self, fingerprint: str, view: View) -> tuple[int, int]:
        """How many active cases have their vector, and how many need one."""
        with self._database.read() as connection:
            values = values_of(connection, fingerprint, view)
            query = f"SELECT COUNT(sha) FROM {WANTED}"
            total = int(connection.execute(query, values).fetchone()[0])
            return total - count_pending(connection, fingerprint, view), total


def retrievable(cases: Iterable[Case]) -> list[Case]:
    """Those that can be found by likeness, by id."""
    found = [c for c in cases if c.state == "active" and c.kind in RETRIEVED]
    return sorted(found, key=lambda case: case.id)


def read_marks(connection: sqlite3.Connection) -> list[Mark]:
    """Of the active cases that can be found by likeness, by id."""
    return list(connection.execute(_MARKS, RETRIEVED))


def marks_of(cases: Iterable[Case]) -> list[Mark]:
    return [(case.id, case.uid, case.seq, case.updated) for case in cases]
