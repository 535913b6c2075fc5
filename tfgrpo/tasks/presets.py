"""Standard sets by name, as presets.toml describes them, from the hub or from files.

The test rows of a set are its test, all of them. Of the training rows a hash of the question holds
a tenth back as dev.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tfgrpo.errors import ConfigError
from tfgrpo.tasks.hub import HubSource, load
from tfgrpo.tasks.jsonl import Row, task_of
from tfgrpo.tasks.set_files import read_files
from tfgrpo.tasks.set_rows import FORMATS
from tfgrpo.tasks.split import select
from tfgrpo.types import Split, Task

HELD_BACK = 0.1
_MAX_UNREADABLE = 0.01


@dataclass(frozen=True, slots=True)
class Preset:
    """A standard set; presets.toml says what the fields are."""

    name: str
    title: str
    dataset: str
    revision: str | None
    licence: str
    question: str
    answer: str
    format: str
    reward: str
    subset: str | None = None
    train: str | None = None
    train_rows: int = 0
    test_rows: int = 0

    def read(self, row: Mapping[str, Any]) -> Row:
        """Question and gold of a row. Raises ValueError with the reason."""
        try:
            return FORMATS[self.format](row, self.question, self.answer)
        except KeyError as error:
            raise ValueError(f"has no {error}, only {', '.join(map(str, row))}") from error
        except (TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"has other values ({error})") from error


def _described() -> Mapping[str, Preset]:
    text = files("tfgrpo.tasks").joinpath("presets.toml").read_text(encoding="utf-8")
    return {name: Preset(name, **fields) for name, fields in tomllib.loads(text).items()}


PRESETS: Mapping[str, Preset] = _described()


class SetTasks:
    """The tasks of a standard set, from the rows of each of its splits.

    Equal questions are one task, and the test keeps it; `duplicates` counts the rows so merged, and
    `rows` all (training, test) rows. Rows of another format are dropped up to one in a hundred, and
    counted in `unreadable`. Raises ConfigError beyond that.
    """

    def __init__(self, preset: Preset, parts: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
        self.name = f"set:{preset.name}"
        self.preset = preset
        self.duplicates = 0
        self.unreadable = 0
        self._tasks: dict[str, Task] = {}
        tests = [self._add(rows, "test") for name, rows in parts.items() if name != preset.train]
        trains = [self._add(rows, None) for name, rows in parts.items() if name == preset.train]
        self.rows = (sum(trains), sum(tests))

    def tasks(self, split: Split, limit: int, seed: int) -> Sequence[Task]:
        return select((t for t in self._tasks.values() if t.split == split), limit, seed)

    def _add(self, rows: Iterable[Mapping[str, Any]], role: Split | None) -> int:
        seen = 0
        reasons: list[str] = []
        for row in rows:
            seen += 1
            try:
                read = self.preset.read(row)
            except ValueError as error:
                reasons.append(str(error))
                continue
            own = Row(read.prompt, read.answer, role, read.metadata)
            task = task_of(own, self.name, "", (1 - HELD_BACK, HELD_BACK, 0.0))
            self.duplicates += task.task_id in self._tasks
            self._tasks.setdefault(task.task_id, task)
        self.unreadable += len(reasons)
        if len(reasons) > _MAX_UNREADABLE * seen:
            raise ConfigError(
                f"{len(reasons)} of {seen} rows for {self.name} are in another format than those "
                f"of {self.preset.dataset}: the last {reasons[-1]}. Correct them, or use "
                "jsonl:PATH for rows of your own."
            )
        return seen


def load_set(name: str, path: Path | None = None, revision: str | None = None) -> SetTasks:
    """The standard set `name`, from a file or folder, or from the hub. Raises ConfigError."""
    preset = find_preset(name)
    if path is not None:
        only = "test" if preset.train is None else None if preset.test_rows else preset.train
        return SetTasks(preset, read_files(path, only, preset.subset))
    source = HubSource(preset.dataset, preset.subset, revision or preset.revision)
    made = SetTasks(preset, load(source, f"set:{name}@PATH"))
    if revision is None:
        must_be_whole(made)
    return made


def must_be_whole(tasks: SetTasks) -> None:
    """Raise ConfigError unless a set has as many rows as it had when it was frozen."""
    preset = tasks.preset
    if tasks.rows != (preset.train_rows, preset.test_rows):
        raise ConfigError(
            f"{preset.dataset} has {tasks.rows[0]} training and {tasks.rows[1]} test rows, not "
            f"{preset.train_rows} and {preset.test_rows} as it had; set tasks.revision to the "
            "commit that you mean."
        )


def find_preset(name: str) -> Preset:
    """Raises ConfigError if there is no such set."""
    if name not in PRESETS:
        raise ConfigError(
            f"There is no set {name!r}; choose one of {', '.join(PRESETS)}, or a task of "
            "reasoning-gym (see tfgrpo tasks list)."
        )
    return PRESETS[name]
