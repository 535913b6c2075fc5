"""Vectors of cases, kept so that nothing is embedded twice. They can always be made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.codec import canonical_json, sha256, view_text
from memory.database import Database
from memory.errors import InvalidCase, StoreError
from memory.types import Case, View

_TYPE = np.dtype("<f4")
_PUT = "INSERT OR REPLACE INTO vectors SELECT ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM cases WHERE id = ?)"  # noqa: E501


class VectorTable:
    """The part of an open store that holds one vector per (case, fingerprint, view)."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def register(self, fingerprint: str, dim: int, details: Mapping[str, Any]) -> None:
        """Make an embedding space known. Raises StoreError if it is known to be another one."""
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

    def put(
        self, fingerprint: str, view: View, cases: Sequence[Case], matrix: NDArray[np.float32]
    ) -> None:
        """Keep the vectors of these cases, shape (cases, dim). Those purged meanwhile are skipped.

        A vector belongs to the text that the case has in `cases`: after an edit it is pending.
        """
        rows = np.ascontiguousarray(matrix, dtype=_TYPE)
        with self._database.write() as connection:
            found = connection.execute(
                "SELECT dim FROM fingerprints WHERE fp = ?", (fingerprint,)
            ).fetchone()
            if found is None:
                raise StoreError(f"No fingerprint {fingerprint} is known; register it first.")
            if rows.shape != (len(cases), found[0]) or not np.isfinite(rows).all():
                raise InvalidCase(
                    f"The vectors have shape {rows.shape} or are not finite; "
                    f"give finite ones of shape {(len(cases), found[0])}."
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
        with self._database.read() as connection:
            space = connection.execute(
                "SELECT dim FROM fingerprints WHERE fp = ?", (fingerprint,)
            ).fetchone()
            rows = connection.execute(
                "SELECT case_id, text_sha, vec FROM vectors WHERE fp = ? AND view = ?",
                (fingerprint, view),
            )
            stored = {number: (sha, vec) for number, sha, vec in rows}
        fitting, pending, parts = [], [], []
        for case in cases:
            sha, vec = stored.get(case.id, (None, b""))
            if sha == sha256(view_text(case, view)):
                fitting.append(case)
                parts.append(np.frombuffer(vec, dtype=_TYPE))
            else:
                pending.append(case)
        dim = 0 if space is None else int(space[0])
        matrix = np.stack(parts) if parts else np.zeros((0, dim), dtype=_TYPE)
        return matrix.astype(np.float32), fitting, pending
