"""Samples for other programs: one table row per sample, as CSV or Parquet; `lm_eval_export` too.

What is written here `sources.detect` reads back as equal outcomes. CSV goes into spreadsheets: a
cell that one would run as a formula begins with an apostrophe instead, which reading removes, and
control characters become visible escapes.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tfgrpo.errors import ConfigError, RunError
from tfgrpo.types import TaskOutcome
from tfgrpo.verdict.arms import Evaluation
from tfgrpo.verdict.sources.rows import BATCH, FORMULA

COLUMNS = (
    "arm", "seed", "dataset", "problem", "sample", "correct", "answer", "mode", "entropy", "tokens",
    "problem_truncated",
)  # fmt: skip
"""`correct` is 0 or 1, empty for a sample that failed."""

TEXTS = ("prompt", "gold", "text")
"""Further columns where the texts are there."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Texts:
    """What stands behind an outcome: prompt, gold answer, and the graded replies in its order."""

    prompt: str
    gold: str | None
    replies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """An evaluation and, by task id, the texts behind it; other tools' files give none."""

    evaluation: Evaluation
    texts: Mapping[str, Texts] = field(default_factory=dict)


def write_csv(path: Path, exported: Sequence[Exported]) -> int:
    """Replace `path`, whole or not at all; returns the number of rows. Raises RunError."""
    names = _names(exported)
    count = 0
    with _replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(names)
        for row in sample_rows(exported):
            table.writerow([_cell(row.get(name)) for name in names])
            count += 1
    return count


def write_parquet(path: Path, exported: Sequence[Exported]) -> int:
    """The same as a table of Parquet, whose texts are exact.

    Raises:
        ConfigError: if pyarrow is missing.
        RunError: if the file cannot be written.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ConfigError(
            "Parquet needs the package pyarrow; run: pip install 'tfgrpo[parquet]'"
        ) from None
    whole = dict.fromkeys(("seed", "sample", "correct", "tokens", "problem_truncated"), "int64")
    types = dict.fromkeys(_names(exported), "string") | whole | {"entropy": "float64"}
    schema = pyarrow.schema([(n, pyarrow.type_for_alias(t)) for n, t in types.items()])
    rows, count = sample_rows(exported), 0
    with (
        _replacing(path) as partial,
        pyarrow.parquet.ParquetWriter(partial, schema, compression="snappy") as file,
    ):
        while batch := [_encodable(row) for row in islice(rows, BATCH)]:
            file.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def sample_rows(exported: Sequence[Exported]) -> Iterator[dict[str, Any]]:
    """One row of `COLUMNS` for each sample, graded ones before failed ones.

    Raises:
        ConfigError: if texts and outcomes of a problem do not match.
    """
    for one in exported:
        for outcome in one.evaluation.outcomes:
            texts = one.texts.get(outcome.task_id)
            if texts is not None and len(texts.replies) != outcome.n:
                raise ConfigError(
                    f"{one.evaluation.source} has {len(texts.replies)} texts for {outcome.n} "
                    f"samples of problem {outcome.task_id}; evaluate again."
                )
            yield from _rows_of(one.evaluation, outcome, texts)


def _rows_of(
    evaluation: Evaluation, outcome: TaskOutcome, texts: Texts | None
) -> Iterator[dict[str, Any]]:
    about = {
        "arm": evaluation.name,
        "seed": evaluation.seed,
        "dataset": outcome.dataset,
        "problem": outcome.task_id,
        "problem_truncated": outcome.truncated,
    }
    if texts is not None:
        about |= {"prompt": texts.prompt, "gold": texts.gold}
    for i in range(outcome.n):
        row = about | {
            "sample": i,
            "correct": int(outcome.correct[i]),
            "answer": outcome.answers[i],
            "mode": outcome.modes[i],
            "entropy": outcome.entropies[i],
            "tokens": outcome.lengths[i],
        }
        yield row if texts is None else row | {"text": texts.replies[i]}
    for i in range(outcome.n, outcome.n + outcome.failures):
        yield about | {"sample": i}


def _names(exported: Sequence[Exported]) -> tuple[str, ...]:
    return COLUMNS + TEXTS if any(one.texts for one in exported) else COLUMNS


def _cell(value: Any) -> Any:
    """A cell that no spreadsheet runs; numbers stay numbers, "-3/4" does not."""
    if not isinstance(value, str):
        return value
    plain = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
    if plain.startswith(FORMULA) and not _NUMBER.fullmatch(plain):
        return f"'{plain}"
    return plain


def _encodable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Lone surrogates, which models do emit, as escapes."""
    return {
        name: value.encode("utf-8", "backslashreplace").decode()
        if isinstance(value, str)
        else value
        for name, value in row.items()
    }


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place once it is whole and on the disk."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}); mend that.") from None
    finally:
        partial.unlink(missing_ok=True)
