"""One SQLite file: how it is opened, read, written and shared between threads and processes."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memory.errors import (
    CorruptStore,
    DuplicateCase,
    NoStore,
    NotReady,
    ReadOnlyStore,
    StoreBusy,
    StoreError,
)
from memory.sqlite.schema import MIGRATIONS, format_of, migrate
from memory.types import Mode

FILE_NAME = "memory.sqlite"
_DAMAGE = {"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CORRUPT_INDEX", "SQLITE_FORMAT"}


class Database:
    """A connection whose transactions are all-or-nothing and, once left, survive a power cut.

    Readers see one state for the whole of a `read`. Writers queue, for at most `patience` seconds.
    Threads may share it; a forked child may not.
    """

    def __init__(self, folder: Path, mode: Mode, patience: float = 60.0) -> None:
        self.path = folder / FILE_NAME
        self.mode: Mode = mode
        self._patience = patience
        self._lock = threading.RLock()
        self._process = os.getpid()
        if mode not in ("rw", "ro", "frozen"):
            raise StoreError(f"There is no mode {mode!r}; use rw, ro or frozen.")
        with self._told():
            self._connection = self._connect(folder)
            self._identity = self._stat()
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent state of the store; inside a `write`, the state being written."""
        with self._exclusive() as connection:
            if connection.in_transaction:
                yield connection
                return
            if self.mode == "frozen" and self._stat() != self._identity:
                raise StoreError(
                    f"{self.path} was written since it was frozen; end its writer and begin again."
                )
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: everything on the disk when this is left, or nothing after an error."""
        if self.mode != "rw":
            raise ReadOnlyStore(
                f"{self.path} is open for reading only (mode {self.mode}); open it for writing."
            )
        with self._exclusive() as connection:
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.rollback()

    def erase_freed(self) -> bool:
        """Rewrite the file without the space that was freed, and empty the log beside it.

        Returns whether other readers allowed it.
        """
        with self._exclusive() as connection:
            try:
                connection.execute("VACUUM")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY":
                    raise
                return False
            return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]

    def backup(self, target: Path) -> None:
        """Copy the whole store into a new file, while others read and write."""
        if target.exists():
            raise StoreError(f"{target} exists; choose another file for the backup.")
        with self._exclusive() as connection:
            partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            partial.unlink(missing_ok=True)
            copy = sqlite3.connect(partial)
            try:
                connection.backup(copy)
            finally:
                copy.close()
            partial.replace(target)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def _exclusive(self) -> Iterator[sqlite3.Connection]:
        if os.getpid() != self._process:
            raise StoreError("This store was opened before a fork; open it again in the child.")
        with self._lock, self._told():
            yield self._connection

    def _stat(self) -> tuple[int, int, int]:
        """Changes whenever the file is written or replaced; zeros before there is one."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return 0, 0, 0
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _connect(self, folder: Path) -> sqlite3.Connection:
        if self.mode == "rw":
            folder.mkdir(parents=True, exist_ok=True)
            address = self.path.resolve().as_uri() + "?mode=rwc"
        elif not self.path.exists():
            raise NoStore(f"There is no store of cases in {folder}; check the folder's name.")
        elif self.mode == "ro":
            address = self.path.resolve().as_uri() + "?mode=ro"
        else:
            self._refuse_open_log()
            # Without locks and without a log: not even SQLite's own side files are made.
            address = self.path.resolve().as_uri() + "?mode=ro&immutable=1"
        return sqlite3.connect(
            address, uri=True, timeout=self._patience, isolation_level=None, check_same_thread=False
        )

    def _refuse_open_log(self) -> None:
        log = self.path.with_name(self.path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise NotReady(
                f"{self.path} is being written, or its writer was killed; end every writer, "
                "then open it for writing once."
            )

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA foreign_keys = ON")
        if self.mode != "rw":
            run("PRAGMA query_only = ON")
            if format_of(self._connection) < len(MIGRATIONS):
                raise NotReady(
                    f"{self.path} is empty or of an older format; open it for writing once."
                )
        else:
            # A purge must leave nothing behind, and freed pages would.
            run("PRAGMA secure_delete = ON")
            run("PRAGMA synchronous = FULL")
            self._begin_log()
            run("BEGIN IMMEDIATE")
            try:
                migrate(self._connection)
                run("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.rollback()
        # Vectors and logs are most of a large file; damage in them is told when they are read.
        found = run("PRAGMA quick_check(cases)").fetchone()[0]
        if found != "ok":
            raise CorruptStore(_damaged(self.path, found))

    def _begin_log(self) -> None:
        """Switch to write-ahead logging, for which SQLite does not wait by itself."""
        format_of(self._connection)
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of SQLite as sentences."""
        try:
            yield
        except sqlite3.Error as error:
            raise _sentence(self.path, error) from error
        except OSError as error:
            raise StoreError(f"{self.path} cannot be used ({error}); mend that.") from error
        except OverflowError as error:
            raise StoreError(f"No number in a store reaches 2^63 ({error}); give one.") from error


def _sentence(path: Path, error: sqlite3.Error) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    if name in _DAMAGE or name.startswith("SQLITE_CORRUPT"):
        return CorruptStore(_damaged(path, str(error)))
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreBusy(f"Another process keeps writing to {path}; wait for it or end it.")
    if name.startswith("SQLITE_READONLY"):
        return ReadOnlyStore(f"{path} may not be written; change its rights, or only read it.")
    if isinstance(error, sqlite3.IntegrityError):
        if "content_key" in str(error):
            return DuplicateCase("Another case says exactly this; change or delete one of them.")
        return StoreError(f"{path} refuses this ({error}); check that all ids in it exist.")
    return StoreError(f"{path} cannot be used ({error}); mend that, then try again.")


def _damaged(path: Path, detail: str) -> str:
    return f"{path} is damaged or no store ({detail}); restore it from a backup or an export."
