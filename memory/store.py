"""The case store: what the rest of the world may do with it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memory.care.stats import Stats, read_stats
from memory.credit import Utility
from memory.errors import CaseNotFound, SnapshotError, StoreError
from memory.files import exchange
from memory.sqlite import changes, history, keywords, rows, snapshots, verify
from memory.sqlite.database import Database
from memory.sqlite.history import Stamp, StoreState
from memory.sqlite.retrievals import RetrievalLog
from memory.sqlite.utility import read_utilities
from memory.sqlite.vectors import VectorTable, marks_of, read_marks, retrievable
from memory.types import (
    AddResult,
    Case,
    CaseFilter,
    CaseIn,
    ChangeSet,
    Event,
    ImportReport,
    Mark,
    Mode,
    OnConflict,
    Parent,
    Problem,
    SeqRef,
    Snapshot,
    StoreDiff,
)

_ACTIVE = CaseFilter()
_ALL = CaseFilter(states=("active", "archived", "deleted"))


class CaseStore:
    """Cases in one SQLite file inside `folder`, shared by threads and by processes.

    Modes: `rw` makes the store if there is none; `ro` follows what others write; `frozen` reads a
    file that nobody writes and leaves every byte of its folder alone. With a `snapshot`, cases and
    utilities are those of that state; only `ro` and `frozen` stores can look back.

    Every method is all-or-nothing, and what it has returned from survives a kill and a power cut.
    Close it, or use it in `with`. Raises the errors of `memory.errors`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        mode: Mode = "rw",
        snapshot: str | None = None,
        patience: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if snapshot is not None and mode == "rw":
            raise SnapshotError("The past cannot be written; open a snapshot for reading only.")
        self.folder = folder
        self.mode: Mode = mode
        self._database = Database(folder, mode, patience)
        self._clock = clock
        self._state: StoreState | None = None
        self.retrievals = RetrievalLog(self._database, clock)
        self.vectors = VectorTable(self._database, clock)
        if snapshot is not None:
            try:
                self._state = self.at(snapshot)
            except BaseException:
                self.close()
                raise

    # Reading

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything that is read inside is of one state; nothing may be written inside."""
        with self._database.read():
            yield

    def get(self, case_id: int) -> Case:
        if self._state is not None:
            if case_id not in self._state.cases:
                raise CaseNotFound(f"The snapshot has no case {case_id}; list its cases.")
            return self._state.cases[case_id]
        with self._database.read() as connection:
            return rows.read_case(connection, case_id)

    def cases(
        self, wanted: CaseFilter = _ACTIVE, *, after: int = 0, limit: int | None = None
    ) -> list[Case]:
        """Matching cases by id, those above `after` only, at most `limit`."""
        if self._state is not None:
            found = (c for c in self._state.cases.values() if c.id > after)
            return [c for c in found if rows.matches(c, wanted)][:limit]
        with self._database.read() as connection:
            return rows.read_cases(connection, wanted, after, limit)

    def marks(self) -> list[Mark]:
        """Of the cases that can be found by likeness, by id: far quicker than the cases."""
        if self._state is not None:
            return marks_of(retrievable(self._state.cases.values()))
        with self._database.read() as connection:
            return read_marks(connection)

    def keyword_search(
        self, text: str, wanted: CaseFilter = _ACTIVE, limit: int = 10
    ) -> list[tuple[Case, float]]:
        """Matching cases that hold some word of `text`, best first, see `sqlite.keywords`."""
        if self._state is not None:
            return keywords.search_cases(self._state.cases.values(), text, wanted, limit)
        with self._database.read() as connection:
            return keywords.search(connection, text, wanted, limit)

    def utilities(self) -> dict[int, Utility]:
        """What was credited, for the cases that ever were credited."""
        if self._state is not None:
            return dict(self._state.utilities)
        with self._database.read() as connection:
            return read_utilities(connection)

    def namespaces(self) -> dict[str, int]:
        """How many active cases each namespace has."""
        counts: dict[str, int] = {}
        for case in self.cases():
            counts[case.ns] = counts.get(case.ns, 0) + 1
        return dict(sorted(counts.items()))

    @property
    def seq(self) -> int:
        """The number of the last event, or of the snapshot that is being read."""
        if self._state is not None:
            return self._state.seq
        with self._database.read() as connection:
            return history.last_seq(connection)

    @property
    def digest(self) -> str:
        """Hash of all cases and utilities: a report names by it what was read."""
        if self._state is not None:
            return self._state.digest
        with self._database.read() as connection:
            return snapshots.current_digest(connection)

    # Changing

    def add(self, case: CaseIn, *, actor: str, reason: str = "") -> AddResult:
        return self.add_many([case], actor=actor, reason=reason)[0]

    def add_many(self, cases: Iterable[CaseIn], *, actor: str, reason: str = "") -> list[AddResult]:
        given = list(cases)
        with self._database.write() as connection:
            return [
                changes.add_case(connection, self._stamp(actor, reason, case.run_id), case)
                for case in given
            ]

    def update(
        self,
        case_id: int,
        fields: Mapping[str, Any],
        *,
        expected_version: int,
        actor: str,
        reason: str = "",
    ) -> Case:
        """Set content fields; raises VersionConflict if the case changed since it was read."""
        with self._database.write() as connection:
            stamp = self._stamp(actor, reason)
            return changes.update_case(connection, stamp, case_id, fields, expected_version)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything that is done inside is on the disk when this is left, or nothing of it."""
        with self._database.write():
            yield

    def last_step(self, run_id: str) -> int:
        """The last step of a run that was ingested, see `memory.ingest`; -1 before any."""
        with self._database.read() as connection:
            query = "SELECT value FROM meta WHERE key = ?"
            found = connection.execute(query, (f"step:{run_id}",)).fetchone()
        return -1 if found is None else int(found[0])

    def mark_step(self, run_id: str, step: int) -> None:
        with self._database.write() as connection:
            row = (f"step:{run_id}", str(step))
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)

    def link(self, child: int, parent: Parent, *, actor: str, reason: str = "") -> ChangeSet:
        with self._database.write() as connection:
            return changes.link_case(connection, self._stamp(actor, reason), child, parent)

    def archive(self, ids: Iterable[int], *, actor: str, reason: str = "") -> ChangeSet:
        """Keep, but no longer list; nothing is forgotten."""
        with self._database.write() as connection:
            stamp = self._stamp(actor, reason)
            return changes.set_state(connection, stamp, "archive", ids, "archived")

    def delete(self, ids: Iterable[int], *, actor: str, reason: str = "") -> ChangeSet:
        """Mark as deleted: can be restored, and exact copies are rejected from now on."""
        with self._database.write() as connection:
            stamp = self._stamp(actor, reason)
            return changes.set_state(connection, stamp, "delete", ids, "deleted")

    def restore(self, ids: Iterable[int], *, actor: str, reason: str = "") -> ChangeSet:
        with self._database.write() as connection:
            stamp = self._stamp(actor, reason)
            return changes.set_state(connection, stamp, "restore", ids, "active")

    def pin(self, ids: Iterable[int], *, actor: str, pinned: bool = True) -> ChangeSet:
        """Protect from being archived, deleted or purged."""
        with self._database.write() as connection:
            return changes.set_pinned(connection, self._stamp(actor), ids, pinned)

    def purge(
        self, ids: Iterable[int], *, confirm: bool, actor: str, reason: str = ""
    ) -> ChangeSet:
        """Erase for ever, also from the history. Files of backups and exports are not touched.

        Raises StoreError after the purge if another process kept the freed space from being
        overwritten; `purge([])` then does that part.
        """
        if not confirm:
            raise StoreError("A purge cannot be undone; delete instead, or confirm it.")
        with self._database.write() as connection:
            done = changes.purge_cases(connection, self._stamp(actor, reason), ids)
            keywords.rebuild(connection)
            due = connection.execute("SELECT 1 FROM meta WHERE key = 'erase'").fetchone()
        if due:
            self._erase()
        return done

    def _erase(self) -> None:
        self._drop_indexes()
        if not self._database.erase_freed():
            raise StoreError(
                "The cases are purged, but other processes still read the file and its freed "
                "space may hold their text; close those, then purge with no ids."
            )
        with self._database.write() as connection:
            connection.execute("DELETE FROM meta WHERE key = 'erase'")

    def _drop_indexes(self) -> None:
        """Indexes are copies of vectors, from which a text can be guessed; they are made again."""
        folder = self.folder / "index"
        try:
            if folder.exists():
                shutil.rmtree(folder)
        except OSError as error:
            raise StoreError(
                f"The cases are purged, but {folder} still holds their vectors ({error}); "
                "remove that folder, then purge with no ids."
            ) from error

    # History

    def history(self, case_id: int | None = None, *, since: int = 0) -> list[Event]:
        """Events after `since`, oldest first."""
        with self._database.read() as connection:
            return history.events(connection, case_id, since)

    def at(self, ref: SeqRef) -> StoreState:
        """The store as it was after an event, or when a snapshot was taken."""
        with self._database.read() as connection:
            return snapshots.read_state(connection, ref)

    def snapshot(self, name: str) -> Snapshot:
        """Name the present state."""
        with self._database.write() as connection:
            return snapshots.take_snapshot(connection, name, self._clock())

    def snapshots(self) -> list[Snapshot]:
        with self._database.read() as connection:
            return snapshots.all_snapshots(connection)

    def diff(self, a: SeqRef, b: SeqRef) -> StoreDiff:
        with self._database.read() as connection:
            return snapshots.difference(
                snapshots.read_state(connection, a), snapshots.read_state(connection, b)
            )

    def revert(self, ref: SeqRef, *, dry_run: bool = True, actor: str = "user") -> ChangeSet:
        """Make all cases what they were, by new events; the dry run only tells what would change.

        Utilities stay, because what was observed stays observed.
        """
        with self._database.read() if dry_run else self._database.write() as connection:
            seq = snapshots.seq_of(connection, ref)
            stamp = self._stamp(actor, f"revert to {ref}")
            return changes.revert_to(connection, stamp, seq, dry_run)

    # Files

    def export(self, path: Path) -> int:
        """Write all cases as lines of JSON, see `memory.files.exchange`; returns how many."""
        cases = self.cases(_ALL)
        exchange.write_file(path, "".join(f"{line}\n" for line in exchange.export_lines(cases)))
        return len(cases)

    def import_(self, path: Path, *, actor: str, on_conflict: OnConflict = "skip") -> ImportReport:
        """Add what an export holds and this store does not."""
        lines = exchange.read_lines(path)
        return self.import_lines(lines, source=path.name, actor=actor, on_conflict=on_conflict)

    def import_lines(
        self, lines: Iterable[str], *, source: str, actor: str, on_conflict: OnConflict = "skip"
    ) -> ImportReport:
        """The same for the lines of an export that come from `source` rather than from a file."""
        with self._database.write() as connection:
            stamp = self._stamp(actor, f"import of {source}")
            return exchange.import_lines(connection, stamp, lines, on_conflict)

    def stats(self) -> Stats:
        """What the store holds and what was read in it; of the present, whatever is read."""
        with self._database.read() as connection:
            return read_stats(connection, self.folder)

    def backup(self, path: Path) -> None:
        """Copy everything into a new file, while others may read and write."""
        self._database.backup(path)

    def verify(self) -> list[Problem]:
        """Everything wrong with the store; an empty list if it is sound."""
        with self._database.read() as connection:
            return list(verify.problems(connection))

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> CaseStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stamp(self, actor: str, reason: str = "", run_id: str | None = None) -> Stamp:
        return Stamp(actor, self._clock(), reason, run_id)
