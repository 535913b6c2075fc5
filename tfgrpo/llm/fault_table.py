"""The faults of an endpoint, in the database that holds its calls: they outlive a session."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, fields

from tfgrpo.llm.faults import Fault, FaultCount, Faults
from tfgrpo.types import Phase, Usage

_COUNTS = ["seen", "failed", *(field.name for field in fields(Usage))]
_TABLE = f"""CREATE TABLE IF NOT EXISTS faults (
    phase TEXT NOT NULL, kind TEXT NOT NULL, {", ".join(f"{name} NOT NULL" for name in _COUNTS)},
    PRIMARY KEY (phase, kind)
) WITHOUT ROWID"""
_ADD = f"""INSERT INTO faults VALUES (?, ?{", ?" * len(_COUNTS)}) ON CONFLICT DO UPDATE SET
    {", ".join(f"{name} = {name} + excluded.{name}" for name in _COUNTS)}"""


class FaultTable:
    """Counts by phase and kind, on a connection that commits each statement by itself."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute
        self._run(_TABLE)

    def note(self, fault: Fault) -> None:
        """Count one fault. A kill loses nothing; a power cut may lose the latest of them."""
        # Unlike a paid call, a fault is not worth the wait for the disk, while all fail at once.
        self._run("PRAGMA synchronous = NORMAL")
        try:
            row = (fault.phase, fault.kind, 1, fault.failed, *astuple(fault.usage))
            self._run(_ADD, row)
        finally:
            self._run("PRAGMA synchronous = FULL")

    def read(self) -> Faults:
        record = Faults()
        for _, kind, seen, failed, *lost in self._rows():
            record = record.plus(kind, FaultCount(seen, failed, Usage(*lost)))
        return record

    def lost_by_phase(self) -> dict[Phase, Usage]:
        """What was billed in vain, for the phases where anything was."""
        lost: dict[Phase, Usage] = {}
        for phase, _, _, _, *counts in self._rows():
            if any(counts):
                lost[phase] = lost.get(phase, Usage()) + Usage(*counts)
        return lost

    def _rows(self) -> sqlite3.Cursor:
        return self._run("SELECT * FROM faults ORDER BY phase, kind")
