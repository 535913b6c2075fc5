"""A table of one row per sample: what any tool can write, and what `verdict.export` writes.

    problem  (problem_id, task_id)      which problem; without it a hash of prompt (question)
    sample   (sample_idx, sample_index) its number, from 0 or 1, once for each problem and arm
    correct  (is_correct)               0 or 1, true or false; empty for what was not graded
    answer   (answer_canon)             what the reply answers, empty for no answer
    tokens   (completion_tokens)        generated tokens; 0 where they are not known
    arm, seed (train_seed), dataset (task), mode (mode_key), entropy (mean_entropy, in nats)
    finish_reason                       "length" where a reply met the token limit; or
    problem_truncated                   how many graded samples of this problem met it

The first three are needed. Names in parentheses are as good, and case does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfgrpo.errors import ConfigError
from tfgrpo.verdict.sources.collect import UNNAMED, ArmKey, Collector, prompt_id
from tfgrpo.verdict.sources.grading import Grading, shown
from tfgrpo.verdict.sources.rows import FORMULA, Table

ALIASES: Mapping[str, tuple[str, ...]] = {
    "problem": ("problem", "problem_id", "task_id"),
    "prompt": ("prompt", "question"),
    "sample": ("sample", "sample_idx", "sample_index"),
    "correct": ("correct", "is_correct"),
    "answer": ("answer", "answer_canon"),
    "tokens": ("tokens", "completion_tokens"),
    "mode": ("mode", "mode_key"),
    "entropy": ("entropy", "mean_entropy"),
    "finish_reason": ("finish_reason",),
    "problem_truncated": ("problem_truncated",),
    "dataset": ("dataset", "task"),
    "arm": ("arm",),
    "seed": ("seed", "train_seed"),
}
MAX_WHOLE = 1 << 53

Parse = Callable[[Any], Any]


def columns_of(names: Sequence[str], score: str | None) -> dict[str, str]:
    """What is there of `ALIASES`, under the file's own names; `score` stands in for correct."""
    own = {name.strip().lower(): name for name in reversed(names)}
    found = {}
    for column, aliases in ALIASES.items():
        at = next((own[alias] for alias in aliases if alias in own), None)
        if at is not None:
            found[column] = at
    if score is not None:
        found.pop("correct", None)
        if score in names:
            found["correct"] = score
    return found


def is_table(names: Sequence[str], score: str | None) -> bool:
    found = columns_of(names, score)
    return {"sample", "correct"} <= found.keys() and bool({"problem", "prompt"} & found.keys())


def read_table(path: Path, table: Table, collector: Collector, grading: Grading) -> None:
    """Feed all samples of `table`, which `is_table`, to `collector`.

    Raises:
        ConfigError: for a repeated column or a cell that cannot be read, with its line.
    """
    columns = columns_of(table.names, grading.score)
    for name in columns.values():
        if table.names.count(name) > 1:
            raise ConfigError(f"{path} has the column {name!r} twice; remove one of them.")
    cells_of = _cell_reader(table, columns, grading)
    arms: dict[tuple[str | None, int | None], ArmKey] = {}
    collector.begin(path)
    for line, row in table.rows:
        try:
            problem, hashed, index, correct, answer, length, mode, *rest = cells_of(row)
            which = problem or hashed
            if which is None or index is None:
                raise ValueError("problem and sample must not be empty; fill them in")
        except ValueError as error:
            raise ConfigError(f"{path}, line {line}: {error}.") from None
        entropy, finish, cut, dataset, arm, seed = rest
        key = arms.get((arm, seed)) or arms.setdefault((arm, seed), ArmKey((arm or "",), seed))
        collector.add(
            key, dataset or UNNAMED, which, line, correct, index, answer, length or 0, mode,
            entropy, finish == "length", cut or 0,
        )  # fmt: skip
    if grading.score is not None or grading.threshold is not None:
        for key in arms.values():
            collector.declare(key, "", {"reward": grading.verifier(columns["correct"])})


def _cell_reader(
    table: Table, columns: Mapping[str, str], grading: Grading
) -> Callable[[Sequence[Any]], list[Any]]:
    """The cells of a row in the order of `ALIASES`; those of a column that is missing are None."""
    text = _unescaped if table.written else _text
    whole = {"sample", "tokens", "seed", "problem_truncated"}
    parsers: dict[str, Parse] = {name: _whole if name in whole else text for name in ALIASES}
    parsers |= {"correct": grading.verdict, "entropy": _nats, "prompt": _hashed}
    if "problem" in columns:
        columns = {name: own for name, own in columns.items() if name != "prompt"}
    at = [
        (slot, table.names.index(columns[name]), _parser(name, parsers[name], table.written))
        for slot, name in enumerate(ALIASES)
        if name in columns
    ]
    blank = [None] * len(ALIASES)

    def cells(row: Sequence[Any]) -> list[Any]:
        found: list[Any] = blank.copy()
        for slot, place, parse in at:
            found[slot] = parse(row[place])
        return found

    return cells


class _Known(dict[str, Any]):
    """What `parse` makes of each different text: a column of text says few things often."""

    def __init__(self, parse: Parse) -> None:
        self._parse = parse

    def __missing__(self, cell: str) -> Any:
        value = self[cell] = self._parse(cell)
        return value


def _parser(name: str, parse: Parse, written: bool) -> Parse:
    """Numbers are not remembered: 1 and True are one key, and entropies are all different."""
    return _Known(parse).__getitem__ if written and name != "entropy" else parse


def _unescaped(cell: str) -> str | None:
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA) else cell or None


def _text(cell: object) -> str | None:
    """Text, None if it is empty; whole numbers are taken for text."""
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    if cell is None or cell == "":
        return None
    if not isinstance(cell, str):
        raise ValueError(f"{shown(cell)} is no text; write it in quotes")
    return cell


def _hashed(cell: object) -> str | None:
    return None if cell is None or cell == "" else prompt_id(cell)


def _whole(cell: object) -> int | None:
    if cell is None or cell == "":
        return None
    try:
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            raise ValueError
        number = float(cell)  # data frames make 3.0 of a 3 beside an empty cell
        if not number.is_integer() or not 0 <= number <= MAX_WHOLE:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(
            f"{shown(cell)} is no number of the kind 0, 1, 2, ...; correct it"
        ) from None
    return int(number)


def _nats(cell: object) -> float | None:
    if cell is None or cell == "":
        return None
    try:
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            raise ValueError
        number = float(cell)
        if not math.isfinite(number) or number < 0:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"{shown(cell)} is no entropy; give nats, or leave it empty") from None
    return number
