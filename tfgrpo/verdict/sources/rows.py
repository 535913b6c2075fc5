"""Rows of files as other tools leave them: JSON Lines, CSV and Parquet, streamed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tfgrpo.errors import ConfigError

Notice = Callable[[str], None]
"""Told a sentence for the user about what was passed over."""

BATCH = 65_536
MAX_CELL = 1 << 27
"""Characters of the longest cell of a CSV file; csv's own limit is shorter than long replies."""

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", "'")
"""How a cell begins that a spreadsheet would run, or that begins like a cell made harmless."""


@dataclass(frozen=True, slots=True)
class Table:
    """Named columns and numbered rows of cells in their order.

    `written` is set where all cells are text, as in CSV, in which a cell made harmless for
    spreadsheets begins with an apostrophe.
    """

    names: tuple[str, ...]
    rows: Iterable[tuple[int, Sequence[Any]]]
    written: bool = False


def json_lines(path: Path, notice: Notice) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line. A torn last line is passed over, with a notice.

    Raises:
        ConfigError: if any other line is no JSON object, or the file cannot be read.
    """
    with _opened(path), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                if not line.endswith(b"\n") and number > 1:
                    notice(f"{path}, line {number}, is cut short and was passed over.")
                    return
                raise ConfigError(
                    f"{path}, line {number}, is no JSON; correct or remove it."
                ) from None
            if not isinstance(row, dict):
                raise ConfigError(f"{path}, line {number}, is no JSON object; remove it.")
            yield number, row


def json_table(path: Path, notice: Notice) -> Table:
    """JSON Lines with the columns of the first line; a key that a later line lacks is empty.

    Raises:
        ConfigError: as `json_lines`, and where a line has a key that the first one lacks.
    """
    lines = json_lines(path, notice)
    first = next(lines, None)
    if first is None:
        raise ConfigError(f"{path} is empty; give a file with samples.")
    names = tuple(first[1])
    known = frozenset(names)

    def cells() -> Iterator[tuple[int, Sequence[Any]]]:
        for number, row in chain([first], lines):
            if not row.keys() <= known:
                raise ConfigError(
                    f"{path}, line {number}, has the key {min(row.keys() - known)!r}, which the "
                    "first line lacks; give all lines the same keys, with null for what is empty."
                )
            yield number, [row.get(name) for name in names]

    return Table(names, cells())


def csv_table(path: Path) -> Table:
    """Cells between commas, tabs or semicolons, whichever the header has most of.

    Raises:
        ConfigError: if the file is no such text, here or when a row is read.
    """
    rows = _csv_rows(path)
    _, names = next(rows, (0, None))
    if names is None:
        raise ConfigError(f"{path} is empty; give a file with samples.")
    return Table(tuple(name.strip() for name in names), rows, written=True)


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    limit = csv.field_size_limit(MAX_CELL)
    try:
        with _opened(path), path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            delimiter = max(",\t;", key=head.count)
            reader = csv.reader(
                chain([head] if head else [], file), delimiter=delimiter, strict=True
            )
            width = 0
            for row in reader:
                if len(row) != width:
                    if not row:
                        continue
                    if width:
                        raise ConfigError(
                            f"{path}, line {reader.line_num}, has {len(row)} cells where the "
                            f"header has {width}; correct that line."
                        )
                    width = len(row)
                yield reader.line_num, row
    except csv.Error as error:
        raise ConfigError(
            f"{path}, line {reader.line_num}, is no CSV ({error}); correct that line."
        ) from None
    finally:
        csv.field_size_limit(limit)


def parquet_names(path: Path) -> tuple[str, ...]:
    """The columns of a Parquet file. Raises ConfigError as `parquet_table` does."""
    with _parquet(path) as file:
        return tuple(file.schema_arrow.names)


def parquet_table(path: Path, names: Sequence[str]) -> Table:
    """Those columns of a Parquet file; rows are numbered from 1.

    Raises:
        ConfigError: if pyarrow is missing or the file cannot be read.
    """

    def rows() -> Iterator[tuple[int, Sequence[Any]]]:
        number = 0
        with _parquet(path) as file:
            for batch in file.iter_batches(BATCH, columns=list(names)):
                columns = batch.to_pydict()
                for cells in zip(*(columns[name] for name in names), strict=True):
                    number += 1
                    yield number, cells

    return Table(tuple(names), rows())


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ConfigError(
            f"{path} is Parquet, which needs the package pyarrow; run: pip install "
            "'tfgrpo[parquet]'"
        ) from None
    try:
        with _opened(path), path.open("rb") as file:
            yield pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise ConfigError(f"{path} is no sound Parquet ({error}); write it again.") from None


@contextmanager
def _opened(path: Path) -> Iterator[None]:
    """What the system or the encoding has against a file, as a sentence."""
    try:
        yield
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no UTF-8 text; save it as UTF-8.") from None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror or error}); check the path."
        ) from None
