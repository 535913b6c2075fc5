"""Members of an Inspect log, which is a zip file; since 2025 its members are in Zstandard.

Python reads those from 3.14 on. Here pyarrow does, which the extra `parquet` brings.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfgrpo.errors import ConfigError

HEADERS = ("header.json", "_journal/start.json", "start.json")
"""Of a log that is over, of one that is not, and of the format's first version."""

MAX_MEMBER = 1 << 30
ZSTANDARD = 93


class LogFile:
    """An open log. Raises ConfigError for members that cannot be read."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._archive = archive
        self._members = {info.filename: info for info in archive.infolist()}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._members)

    def read_json(self, name: str) -> Any:
        info = self._members[name]
        try:
            if info.file_size > MAX_MEMBER:
                raise ValueError("it is larger than 1 GiB")
            if info.compress_type == ZSTANDARD:
                return json.loads(self._unpacked(info))
            return json.loads(self._archive.read(info))
        except (ValueError, OSError, NotImplementedError, RuntimeError, EOFError) as error:
            raise self._damaged(name, error) from None
        except (zipfile.BadZipFile, zlib.error, RecursionError, struct.error) as error:
            raise self._damaged(name, error) from None

    def _unpacked(self, info: zipfile.ZipInfo) -> bytes:
        try:
            import pyarrow
        except ModuleNotFoundError:
            raise ConfigError(
                f"{self.path} is packed with Zstandard, which needs the package pyarrow; run: "
                "pip install 'tfgrpo[parquet]' (or: inspect log convert --to json)"
            ) from None
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            name, extra = struct.unpack("<26xHH", file.read(30))
            file.seek(name + extra, 1)
            packed = file.read(info.compress_size)
        with pyarrow.CompressedInputStream(pyarrow.BufferReader(packed), "zstd") as stream:
            data: bytes = stream.read(info.file_size + 1)
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            raise ValueError("its checksum is wrong")
        return data

    def _damaged(self, name: str, error: Exception) -> ConfigError:
        return ConfigError(f"{self.path}: {name} cannot be read ({error}); restore the log.")


@contextmanager
def opened_log(path: Path) -> Iterator[LogFile]:
    """Raises ConfigError if `path` is no zip file that can be read."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ConfigError(f"{path} is no sound .eval log ({error}); restore it.") from None
    with archive:
        yield LogFile(path, archive)
