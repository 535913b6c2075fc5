"""Any file or folder of another tool as evaluations; a format is told by what a file holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfgrpo.errors import ConfigError
from tfgrpo.verdict.arms import Evaluation
from tfgrpo.verdict.sources import inspect_log
from tfgrpo.verdict.sources.collect import Collector
from tfgrpo.verdict.sources.grading import PLAIN, Grading
from tfgrpo.verdict.sources.inspect_zip import opened_log
from tfgrpo.verdict.sources.lm_eval import LmEvalReader, is_lm_eval
from tfgrpo.verdict.sources.rows import (
    Notice,
    Table,
    csv_table,
    json_table,
    parquet_names,
    parquet_table,
)
from tfgrpo.verdict.sources.tabular import columns_of, is_table, read_table
from tfgrpo.verdict.sources.trl import is_trl, needed_columns, read_trl
from tfgrpo.verdict.sources.verl import is_verl, read_verl

Carrier = Literal["csv", "jsonl", "json", "parquet", "zip"]
Format = Literal["table", "lm-eval", "inspect", "verl", "trl"]

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".eval")
"""What is looked at in a folder."""

_OWN = {"task_id", "dataset", "correct", "failures"}  # of outcomes.jsonl and samples.jsonl
_HEAD = 1 << 16


class UnknownFormat(ConfigError):
    """A file is of no format that is known here."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file's format, how it is written down, and the names of its columns, keys or members."""

    format: Format
    carrier: Carrier
    names: tuple[str, ...]


def read_evaluations(
    path: Path,
    name: str | None = None,
    grading: Grading = PLAIN,
    notice: Notice = lambda sentence: None,
) -> tuple[Evaluation, ...]:
    """All evaluations in a file of another tool, or in the files of a folder and those below.

    `name` names the arm, and comes before what tells several apart (arms, filters, steps). The
    protocol holds what the files say and nothing else. `notice` is told what was passed over.

    Raises:
        ConfigError: if something cannot be read, with file and line, or a sample is there twice.
    """
    collector = Collector()
    lm_eval = LmEvalReader(collector, grading, notice)
    for file, found in _found_below(path, grading, notice):
        match found.format:
            case "lm-eval":
                lm_eval.read(file)
            case "inspect" if found.carrier == "zip":
                inspect_log.read_zip(file, collector, grading, notice)
            case "inspect":
                inspect_log.read_json(file, collector, grading, notice)
            case "verl":
                read_verl(file, _table(file, found, grading, notice), collector, grading)
            case "trl":
                read_trl(file, _table(file, found, grading, notice), collector, grading)
            case "table":
                read_table(file, _table(file, found, grading, notice), collector, grading)
    return collector.evaluations(path, name)


def detect(path: Path, grading: Grading = PLAIN) -> Found:
    """What a file is.

    Raises:
        ConfigError: if it cannot be read; UnknownFormat if it is none of the formats known here.
    """
    carrier, names = _names(path)
    if is_lm_eval(names):
        return Found("lm-eval", carrier, names)
    if carrier in ("json", "zip", "jsonl") and inspect_log.is_inspect(names):
        return Found("inspect", "json" if carrier == "jsonl" else carrier, names)
    if carrier in ("csv", "jsonl", "parquet"):
        if is_verl(names):
            return Found("verl", carrier, names)
        if is_table(names, grading.score):
            return Found("table", carrier, names)
        if is_trl(names):
            return Found("trl", carrier, names)
    if grading.score is not None and is_table(names, None):
        raise ConfigError(
            f"{path} has no column {grading.score!r}; choose from {', '.join(names)}."
        )
    raise UnknownFormat(_unknown(path, names))


def _found_below(path: Path, grading: Grading, notice: Notice) -> Iterator[tuple[Path, Found]]:
    """The file itself, or all files of a folder that are of a known format, by name."""
    if not path.is_dir():
        yield path, detect(path, grading)
        return
    files = [p for p in sorted(path.rglob("*")) if p.suffix in SUFFIXES and p.is_file()]
    passed = []
    for file in files:
        try:
            yield file, detect(file, grading)
        except UnknownFormat:
            if not file.name.startswith("results_"):
                passed.append(file)
    if len(passed) == len(files):
        raise ConfigError(
            f"{path} holds no samples of a format known here (*{', *'.join(SUFFIXES)}); give the "
            "file itself."
        )
    if passed:
        more = f" and {len(passed) - 1} more" if len(passed) > 1 else ""
        notice(f"{passed[0]}{more} were passed over: no samples of a format known here.")


def _table(path: Path, found: Found, grading: Grading, notice: Notice) -> Table:
    if found.carrier == "csv":
        return csv_table(path)
    if found.carrier == "jsonl":
        return json_table(path, notice)
    if found.format == "trl":
        return parquet_table(path, needed_columns(path, found.names, grading))
    if found.format == "table":
        return parquet_table(path, tuple(columns_of(found.names, grading.score).values()))
    return parquet_table(path, found.names)


def _names(path: Path) -> tuple[Carrier, tuple[str, ...]]:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); check the path.") from None
    if head.startswith(b"PAR1"):
        return "parquet", parquet_names(path)
    if head.startswith(b"PK\x03\x04"):
        with opened_log(path) as log:
            return "zip", log.names
    if b"\0" in head:
        raise UnknownFormat(f"{path} is a binary file of no format known here; give samples.")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise UnknownFormat(f"{path} is empty; give a file with samples.")
    if text.startswith((b"{", b"[")):
        return _json_names(path, text)
    return "csv", csv_table(path).names


def _json_names(path: Path, head: bytes) -> tuple[Carrier, tuple[str, ...]]:
    """The keys of the first line; of an object over many lines those that tell a log of Inspect."""
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        keys = ("eval", "status")
        if head.startswith(b"{") and all(f'"{key}"'.encode() in head for key in keys):
            return "json", keys
        raise UnknownFormat(
            f"{path}, line 1, is no JSON object; write one object on each line."
        ) from None
    if not isinstance(value, dict):
        raise UnknownFormat(f"{path} holds a JSON array; write one object on each line.")
    return "jsonl", tuple(value)


def _unknown(path: Path, names: tuple[str, ...]) -> str:
    if {"results", "versions"} <= set(names):
        return f"{path} is lm-eval's summary; give the samples_*.jsonl that --log_samples writes."
    if set(names) >= _OWN:
        return f"{path} is part of a run of this program; give the folder of the run."
    told = ", ".join(names)
    told = told if len(told) <= 200 else told[:197] + "..."
    return (
        f"{path} ({told}) is of no format known here; give a table with the columns problem, "
        "sample and correct, samples of lm-eval, a log of Inspect, or a dump of verl or TRL."
    )
