"""The lines of an export as a table of Parquet: for data frames, and for banks of many cases.

A table holds what `exchange` writes, one case per row, sorted by uid. Equal contents give
equal bytes under one version of pyarrow, which signs what it writes; across versions compare the
JSON lines. Needs the extra `parquet`.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory.errors import InvalidCase, StoreError
from memory.files.exchange import HEADER, export_lines
from memory.sqlite.codec import canonical_json
from memory.types import Case, CaseFilter, ImportReport, OnConflict

if TYPE_CHECKING:
    from memory.store import CaseStore

TEXTS = (
    "uid", "ns", "kind", "question", "plan", "answer", "outcome", "reason", "verifier", "item_id",
    "dataset", "split", "run_id", "rollout_id", "group_id", "model", "prompt_sha", "state",
)  # fmt: skip
INTEGERS = ("step", "tokens", "seen_count")
LISTS = ("tags", "also_items")
COLUMNS = (*TEXTS, "reward", *INTEGERS, "pinned", *LISTS, "parents")
"""`parents` is a list of {uid, relation}; all other columns hold what their names say."""

_FORMAT = {b"format": str(HEADER["format"]).encode(), b"version": str(HEADER["version"]).encode()}
_ALL = CaseFilter(states=("active", "archived", "deleted"))


def export_parquet(store: CaseStore, path: Path) -> int:
    """Write all cases of a store; returns how many. Raises StoreError if that cannot be done."""
    cases = store.cases(_ALL)
    write_parquet(path, cases)
    return len(cases)


def import_parquet(
    store: CaseStore, path: Path, *, actor: str, on_conflict: OnConflict = "skip"
) -> ImportReport:
    """Add what a table holds and the store does not, as `CaseStore.import_` does for lines."""
    lines = read_parquet(path)
    return store.import_lines(lines, source=path.name, actor=actor, on_conflict=on_conflict)


def write_parquet(path: Path, cases: Iterable[Case]) -> None:
    """Replace `path` by a table of these cases, whole or not at all.

    Raises:
        StoreError: if pyarrow is missing or the file cannot be written.
    """
    arrow, parquet = _pyarrow()
    rows = to_rows(export_lines(cases))
    table = arrow.Table.from_pylist(rows, schema=_schema(arrow))
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, version="2.6", compression="snappy")
    _replace(path, buffer.getvalue())


def read_parquet(path: Path) -> list[str]:
    """A table as the lines that `memory.files.exchange` reads.

    Raises:
        StoreError: if pyarrow is missing or the file cannot be read.
        InvalidCase: if it is no table of cases.
    """
    arrow, parquet = _pyarrow()
    try:
        with path.open("rb") as file:
            table = parquet.ParquetFile(file).read()
    except (OSError, arrow.ArrowException) as error:
        raise StoreError(f"{path} cannot be read ({error}); check the file's name.") from error
    metadata = table.schema.metadata or {}
    if any(metadata.get(key) != value for key, value in _FORMAT.items()):
        raise InvalidCase(f"{path} is no table of cases known here; export it again.")
    if sorted(table.column_names) != sorted(COLUMNS):
        raise InvalidCase(f"{path} has other columns than a table of cases; export it again.")
    return to_lines(table.to_pylist())


def to_rows(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The cases of an export's lines as rows, with parents as objects."""
    rows = [json.loads(line) for line in lines][1:]
    for row in rows:
        row["parents"] = [{"uid": uid, "relation": relation} for uid, relation in row["parents"]]
    return rows


def to_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The inverse of `to_rows`. Raises InvalidCase for a row that JSON cannot hold."""
    lines = [canonical_json(HEADER)]
    for number, row in enumerate(rows, start=1):
        try:
            pairs = [[parent["uid"], parent["relation"]] for parent in row["parents"]]
            lines.append(canonical_json({**row, "parents": pairs}))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidCase(f"Row {number} is no case ({error}); correct that row.") from error
    return lines


def _schema(arrow: Any) -> Any:
    text = arrow.string()
    types = {
        **dict.fromkeys(TEXTS, text),
        "reward": arrow.float64(),
        **dict.fromkeys(INTEGERS, arrow.int64()),
        "pinned": arrow.bool_(),
        **dict.fromkeys(LISTS, arrow.list_(text)),
        "parents": arrow.list_(arrow.struct([("uid", text), ("relation", text)])),
    }
    return arrow.schema([(name, types[name]) for name in COLUMNS], metadata=_FORMAT)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise StoreError(
            "Parquet needs the package pyarrow; run: pip install 'tfgrpo[parquet]'"
        ) from error
    return pyarrow, pyarrow.parquet


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written ({error.strerror}); mend that.") from error
