"""Tasks from a Python function of your own: rows as in a JSON Lines file, tasks, or a task set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfgrpo.errors import ConfigError
from tfgrpo.plugins import load_function
from tfgrpo.protocols import TaskSet
from tfgrpo.tasks.jsonl import MAX_COMPLAINTS, read_row, task_of
from tfgrpo.tasks.split import SHARES, select
from tfgrpo.types import Split, Task


class CustomTasks:
    """The tasks that `rows` describe, each as in a JSON Lines file, or a `Task` as it stands.

    Rows without a split are split by the hash of their prompt. Equal prompts are one task, and
    `duplicates` counts those merged. Raises ConfigError with every row that is unusable.
    """

    def __init__(self, name: str, rows: Iterable[Mapping[str, Any] | Task]) -> None:
        self.name = name
        self.duplicates = 0
        self._tasks: dict[str, Task] = {}
        complaints: list[str] = []
        for number, row in enumerate(rows, start=1):
            try:
                task = row if isinstance(row, Task) else task_of(read_row(row), name, "", SHARES)
                known = self._tasks.setdefault(task.task_id, task)
                if (known.answer, known.split) != (task.answer, task.split):
                    raise ValueError("repeats an earlier question with another answer or split")
            except ValueError as error:
                complaints.append(f"row {number} {error}")
                continue
            self.duplicates += known is not task
        if complaints:
            told = "\n  ".join(complaints[:MAX_COMPLAINTS])
            more = len(complaints) - MAX_COMPLAINTS
            raise ConfigError(
                f"{name} gives rows that cannot be used:\n  {told}"
                + (f"\n  and {more} more" if more > 0 else "")
                + "\nCorrect or remove them; each row needs a question and an answer."
            )
        if not self._tasks:
            raise ConfigError(f"{name} gives no tasks; let it return at least one row.")

    def tasks(self, split: Split, limit: int, seed: int) -> Sequence[Task]:
        return select((t for t in self._tasks.values() if t.split == split), limit, seed)


def load_tasks(target: str, options: Mapping[str, Any]) -> TaskSet:
    """What the function `target` gives when it is called with `options`. Raises ConfigError."""
    loader = load_function(target, "tfgrpo.tasks")
    try:
        made = loader(**options)
        if isinstance(made, TaskSet):
            return made
        rows = list(made)
    except ConfigError:
        raise
    except Exception as error:  # whatever code of others raises
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise ConfigError(
            f"{target}({given}) failed with {type(error).__name__}: {error}; correct it, or set "
            "tasks.options."
        ) from error
    return CustomTasks(target, rows)
