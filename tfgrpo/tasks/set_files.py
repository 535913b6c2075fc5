"""Rows of a standard set from a file or a folder: JSON Lines or Parquet, by their split."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfgrpo.errors import ConfigError

ENDINGS = (".jsonl", ".parquet")
SPLITS = ("train", "test", "validation", "dev")


def read_files(
    path: Path, only: str | None = None, subset: str | None = None
) -> Mapping[str, list[Mapping[str, Any]]]:
    """The rows at `path` by their split: `only`, or what each file's name tells.

    In a folder, its sub-folder `subset` or `data` is read where there is one. Raises ConfigError.
    """
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for file in _files(path, subset):
        split = only or split_of_file(file)
        if split is None:
            raise ConfigError(
                f"The name of {file} does not tell whether it holds training or test rows; call it "
                f"train{file.suffix} or test{file.suffix}."
            )
        parts.setdefault(split, []).extend(read_rows(file))
    return parts


def split_of_file(path: Path) -> str | None:
    """The split whose name is a word of the file's name: `gsm8k_test.jsonl` is test."""
    words = re.split(r"[^a-z]+", path.stem.lower())
    return next((word for word in words if word in SPLITS), None)


def read_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of one file, in order. Raises ConfigError."""
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); check the path.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"Line {number} of {path} is not JSON; correct it.") from error
        if not isinstance(row, dict):
            raise ConfigError(f"Line {number} of {path} is no JSON object; correct it.")
        yield row


def _files(path: Path, subset: str | None) -> list[Path]:
    if path.is_dir():
        folders = [path / name for name in (subset, "data") if name and (path / name).is_dir()]
        folder = (folders or [path])[0]
        found = sorted(f for f in folder.iterdir() if f.suffix in ENDINGS)
        if not found:
            raise ConfigError(f"{folder} holds no .jsonl and no .parquet; check the path.")
        return found
    if path.suffix not in ENDINGS:
        raise ConfigError(f"{path} is neither .jsonl nor .parquet nor a folder; check the path.")
    return [path]


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{path} needs the package pyarrow; run: pip install 'tfgrpo[parquet]'"
        ) from error
    try:
        with path.open("rb") as file:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches():
                yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read ({error}); check the path.") from error
