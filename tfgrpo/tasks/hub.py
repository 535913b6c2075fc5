r"""Tasks from a Hugging Face dataset, with the columns of the usual ones recognised.

GSM8K (`question`, `answer` ending in `#### n`), MATH (`problem`, `solution` with `\boxed{}`, or an
`answer` beside it), AIME (`Problem`, `Answer`), and DAPO (`prompt` as messages,
`reward_model.ground_truth`). Other columns are named in the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfgrpo.errors import ConfigError
from tfgrpo.tasks.jsonl import ANSWERS, QUESTIONS, Row, read_row, task_of
from tfgrpo.tasks.split import SHARES, select
from tfgrpo.types import Split, Task

Shares = tuple[float, float, float]

_ROLES: Mapping[str, Split] = {"test": "test", "validation": "dev", "valid": "dev", "dev": "dev"}
_MAX_UNREADABLE = 0.01


@dataclass(frozen=True, slots=True)
class HubSource:
    """What to load. `revision` should be a commit, because a name may change its content.

    `splits` are the hub's own names (empty: all of them); `question` and `answer` name columns
    (None: recognised). `data_files` are for the builders `json` and `parquet`.
    """

    dataset_id: str
    config: str | None = None
    revision: str | None = None
    splits: tuple[str, ...] = ()
    question: str | None = None
    answer: str | None = None
    data_files: Mapping[str, str] = field(default_factory=dict)


def convert_row(
    row: Mapping[str, Any], question: str | None = None, answer: str | None = None
) -> Row:
    """A dataset row as question and gold; raises ValueError with the reason."""
    fields = {key: v for key, v in row.items() if key.lower() not in ("metadata", "split")}
    prompt_key = question or "prompt"
    if isinstance(fields.get(prompt_key), Sequence) and not isinstance(fields[prompt_key], str):
        fields[prompt_key] = _last_user_message(fields[prompt_key])
    graded = fields.get("reward_model")
    if answer is None and isinstance(graded, Mapping) and "ground_truth" in graded:
        fields["ground_truth"] = graded["ground_truth"]
        answer = "ground_truth"
    return read_row(
        fields, (question,) if question else QUESTIONS, (answer,) if answer else ANSWERS
    )


def place(hub_split: str, available: Iterable[str]) -> tuple[Split | None, Shares]:
    """Where the rows of a hub split go: to a split of ours, or by hash with the given shares.

    `test` is test and `validation` is dev. Everything else is training data, of which a hash sets
    aside what the dataset does not bring itself: a tenth for dev, a tenth for test.
    """
    role = _ROLES.get(hub_split)
    brought = {_ROLES[name] for name in available if name in _ROLES}
    dev = 0.0 if "dev" in brought else SHARES[1]
    test = 0.0 if "test" in brought else SHARES[2]
    return role, (1.0 - dev - test, dev, test)


class HubTasks:
    """The tasks of one dataset, loaded on construction through `datasets`.

    Equal prompts are one task even across hub splits, where test wins over dev and dev over train;
    `duplicates` counts the rows so merged. `unreadable` rows are dropped up to one in a hundred.
    Raises ConfigError where `datasets` is missing, the dataset cannot be had, or has other columns.
    """

    def __init__(self, source: HubSource, salt: str = "") -> None:
        self.source = source
        self.name = f"hub:{source.dataset_id}" + (f"/{source.config}" if source.config else "")
        self.duplicates = 0
        self.unreadable = 0
        self._tasks: dict[str, Task] = {}
        loaded = load(source)
        names = source.splits or tuple(loaded)
        if unknown := [name for name in names if name not in loaded]:
            raise ConfigError(
                f"The dataset {source.dataset_id} has no split {unknown[0]!r}; "
                f"choose among: {', '.join(loaded)}."
            )
        # Held-out rows come first, so that a question which training repeats stays held out.
        for name in sorted(names, key=lambda n: ("test", "dev", None).index(_ROLES.get(n))):
            self._add(loaded[name], *place(name, names), salt)

    def tasks(self, split: Split, limit: int, seed: int) -> Sequence[Task]:
        return select((t for t in self._tasks.values() if t.split == split), limit, seed)

    def _add(
        self, rows: Iterable[Mapping[str, Any]], role: Split | None, shares: Shares, salt: str
    ) -> None:
        seen = unreadable = 0
        reason = ""
        for row in rows:
            seen += 1
            try:
                read = convert_row(row, self.source.question, self.source.answer)
            except ValueError as error:
                unreadable += 1
                reason = f"{error} (its columns are {', '.join(row)})"
                continue
            task = task_of(
                Row(read.prompt, read.answer, role, read.metadata), self.name, salt, shares
            )
            self.duplicates += task.task_id in self._tasks
            self._tasks.setdefault(task.task_id, task)
        self.unreadable += unreadable
        if unreadable > _MAX_UNREADABLE * seen:
            raise ConfigError(
                f"{unreadable} rows of the dataset {self.source.dataset_id} cannot be used; "
                f"the last {reason}. Name the question and the answer column."
            )


def load(
    source: HubSource, instead: str = "jsonl:PATH"
) -> Mapping[str, Iterable[Mapping[str, Any]]]:
    """The rows of each hub split; raises ConfigError, which names what can be used `instead`."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ConfigError(
            "Tasks from the Hugging Face hub need the package datasets, which is not installed; "
            f"run: pip install 'tfgrpo[hub]', or use {instead}."
        ) from error
    try:
        loaded = load_dataset(
            source.dataset_id,
            source.config,
            revision=source.revision,
            data_files=dict(source.data_files) or None,
        )
    except Exception as error:  # offline, unknown id, gated, bad config: each its own class
        raise ConfigError(
            f"The dataset {source.dataset_id} cannot be loaded ({_first_line(error)}); check its "
            f"name and the connection, or download it and use {instead}."
        ) from error
    return {str(name): rows for name, rows in loaded.items()}


def _last_user_message(messages: Iterable[Any]) -> str:
    contents = [
        str(message["content"])
        for message in messages
        if isinstance(message, Mapping) and message.get("role") == "user"
    ]
    return contents[-1] if contents else ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
