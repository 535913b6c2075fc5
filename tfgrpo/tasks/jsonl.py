"""Tasks from a JSON Lines file: one object per line with a question and its gold answer."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfgrpo.errors import ConfigError
from tfgrpo.rewards.extract import extract_answer, last_boxed
from tfgrpo.tasks.split import SHARES, select, split_of, task_id_of
from tfgrpo.types import Split, Task

QUESTIONS = ("question", "problem", "prompt")
ANSWERS = ("answer", "gold", "solution")
MAX_COMPLAINTS = 10
MAX_BARE_SOLUTION = 100
"""Characters of a solution that may be the answer itself, without a slot for it."""

_SPLITS: Mapping[str, Split] = {
    "train": "train",
    "dev": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One instance as a file or a hub gave it; `split` is None where it leaves that to the hash."""

    prompt: str
    answer: str | None
    split: Split | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def canonical_prompt(prompt: str) -> str:
    """The key of an instance: NFC with white space collapsed."""
    return " ".join(unicodedata.normalize("NFC", prompt).split())


def read_row(
    row: object,
    questions: Sequence[str] = QUESTIONS,
    answers: Sequence[str] = ANSWERS,
) -> Row:
    """Read the first of `questions` and of `answers` that the row has, without regard to case.

    An answer of null is a gold withheld; a worked answer is reduced to its final answer. Raises
    ValueError with the reason.
    """
    if not isinstance(row, Mapping):
        raise ValueError("is no JSON object")
    fields = {str(key).lower(): value for key, value in row.items()}
    prompt = fields[_first(fields, questions)]
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError("has an empty question, or one that is no text")
    prompt.encode()  # an unpaired surrogate can be neither hashed nor sent
    answer_key = _first(fields, answers)
    split = fields.get("split")
    if split is not None and split not in _SPLITS:
        raise ValueError(f"has the split {split!r}, which is none of {', '.join(_SPLITS)}")
    metadata = fields.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise ValueError("has metadata that is no JSON object")
    if "id" in fields:
        metadata = {**metadata, "id": fields["id"]}
    answer = _gold(fields[answer_key], worked=answer_key.lower() == "solution")
    return Row(prompt.strip(), answer, _SPLITS[split] if split else None, metadata)


def task_of(row: Row, dataset: str, salt: str, shares: tuple[float, float, float]) -> Task:
    key = canonical_prompt(row.prompt)
    split = row.split or split_of(key, salt, shares)
    return Task(task_id_of(dataset, key), row.prompt, row.answer, dataset, split, row.metadata)


class JsonlTasks:
    """The tasks of one file.

    Keys: question (problem, prompt), answer (gold, solution), and optionally id, split, metadata.
    Rows without a split are split by the hash of their prompt. Equal prompts are one task, and
    `duplicates` counts the rows so merged. Raises ConfigError with every line that is unusable.
    """

    def __init__(
        self,
        path: str | Path,
        salt: str = "",
        shares: tuple[float, float, float] = SHARES,
    ) -> None:
        self.path = Path(path)
        self.name = f"jsonl:{self.path.stem}"
        self.duplicates = 0
        self._tasks: dict[str, Task] = {}
        complaints = self._load(salt, shares)
        if complaints:
            raise ConfigError(_complaint(self.path, complaints))
        if not self._tasks:
            raise ConfigError(f"The file {self.path} has no tasks; write one JSON object per line.")

    def tasks(self, split: Split, limit: int, seed: int) -> Sequence[Task]:
        return select((t for t in self._tasks.values() if t.split == split), limit, seed)

    def _load(self, salt: str, shares: tuple[float, float, float]) -> list[str]:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except OSError as error:
            raise ConfigError(
                f"The task file {self.path} cannot be read ({error.strerror}); check the path."
            ) from error
        complaints: list[str] = []
        first_lines: dict[str, int] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = read_row(json.loads(line))
                task = task_of(row, self.name, salt, shares)
                known = self._tasks.get(task.task_id)
                if known is not None:
                    _check_equal(known, task, first_lines[task.task_id])
                    self.duplicates += 1
                    continue
            except (ValueError, RecursionError) as error:
                complaints.append(f"line {number} {_reason(error)}")
                continue
            self._tasks[task.task_id] = task
            first_lines[task.task_id] = number
        return complaints


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    for name in names:
        if name.lower() in fields:
            return name.lower()
    raise ValueError(f"has none of the keys {', '.join(names)}")


def _gold(value: object, worked: bool) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("has an answer that is neither text nor a number")
    text = str(value).strip()
    final = last_boxed(text) or extract_answer(text).answer
    if final is not None:
        return final
    if worked and len(text) > MAX_BARE_SOLUTION:
        raise ValueError(r"has a solution without a final answer (\boxed{...}, or '#### ...')")
    if not text:
        raise ValueError("has an empty answer")
    return text


def _check_equal(known: Task, task: Task, line: int) -> None:
    if task.answer != known.answer:
        raise ValueError(f"repeats the question of line {line} with another answer")
    if task.split != known.split:
        raise ValueError(f"repeats the question of line {line} in another split")


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON ({error.msg} at column {error.colno})"
    if isinstance(error, UnicodeError):
        return "is not valid Unicode"
    return "is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _complaint(path: Path, complaints: Iterable[str]) -> str:
    listed = list(complaints)
    more = len(listed) - MAX_COMPLAINTS
    tail = f"\n  and {more} more" if more > 0 else ""
    return (
        f"The task file {path} has lines that cannot be used:\n  "
        + "\n  ".join(listed[:MAX_COMPLAINTS])
        + f"{tail}\nCorrect or remove them; each line needs a question and an answer."
    )
