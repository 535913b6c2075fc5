"""Files that survive a kill at any instant."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path

from tfgrpo.errors import RunError


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a reader, or a kill, meets the old file or the new, whole.

    The bytes and the directory entry are both flushed to the disk before this returns. Raises
    RunError if the system refuses, and leaves the old file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error
    sync_folder(path.parent)


def append_line(path: Path, line: bytes) -> int:
    """Add one line in one write, flush it to the disk, and return where it starts.

    A write that the system cuts short (a full disk) is taken back before the error is raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        start = os.fstat(handle).st_size
        data = line + b"\n"
        try:
            if os.write(handle, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        except OSError as error:
            os.ftruncate(handle, start)
            raise _unwritable(path, error) from error
    finally:
        os.close(handle)
    if is_new:
        sync_folder(path.parent)
    return start


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(f"{path} cannot be written ({error.strerror}); mend that, then resume.")


def whole_length(path: Path) -> int:
    """Bytes of `path` up to the end of its last whole row; a kill or a power cut tears only that.

    A row is whole if it ends in a newline and parses: a power cut may leave a block of zeros.
    """
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    start = data.rfind(b"\n", 0, max(end - 1, 0)) + 1
    return end if end == 0 or is_json(data[start:end]) else start


def is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def take_lock(path: Path) -> int | None:
    """Lock `path` for this process: a handle that holds the lock until closed, or None if taken.

    The system drops the lock when its holder dies, however it dies, so no lock is ever stale.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle
