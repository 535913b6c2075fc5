"""The records of the experience library and its append-only log.

A log line is an `Outcome`: what was proposed, what became of it, and the entries it changed as they
were afterwards. A replay therefore judges nothing anew, and any prefix of a log is a library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tfgrpo.errors import RunError
from tfgrpo.experience.edits import Code, Operation, Status, from_row, to_row

Origin = Literal["model", "user", "limits"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a lesson comes from: the attempts of one task, backed by `support` groups."""

    task_id: str
    step: int
    attempts: tuple[str, ...] = ()
    support: int = 1


@dataclass(frozen=True, slots=True)
class Experience:
    """One lesson. `version` counts its texts; `model` and `prompt_version` wrote the last one."""

    id: str
    text: str
    status: Status
    version: int
    created_step: int
    parents: tuple[str, ...]
    sources: tuple[Source, ...]
    support: int
    model: str
    prompt_version: str

    @property
    def number(self) -> int:
        return int(self.id[1:])

    @property
    def in_prompt(self) -> bool:
        return self.status in ("active", "pinned")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one operation: a line of the log. `changes` are the entries afterwards."""

    operation: Operation
    code: Code
    detail: str
    changes: tuple[Experience, ...]
    step: int
    origin: Origin
    model: str
    prompt_version: str

    @property
    def accepted(self) -> bool:
        return not self.code.startswith("E_")


def shown(entries: Mapping[str, Experience]) -> tuple[Experience, ...]:
    return tuple(entry for entry in entries.values() if entry.in_prompt)


def render(entries: Iterable[Experience]) -> str:
    return "\n".join(f"[{entry.id}] {entry.text}" for entry in entries)


def fold(log: Iterable[Outcome]) -> dict[str, Experience]:
    """The entries after a log; ids are E1, E2, ... in order of creation, so none is reused."""
    entries: dict[str, Experience] = {}
    for outcome in log:
        for entry in outcome.changes:
            if entry.id not in entries and entry.id != f"E{len(entries) + 1}":
                raise RunError(
                    f"The experience log creates {entry.id} after E{len(entries)}, so lines of it "
                    "are missing; restore the file from a backup or learn the library again."
                )
            entries[entry.id] = entry
    return entries


def until(log: Sequence[Outcome], step: int) -> Sequence[Outcome]:
    """The log as it was when `step` was over: its latest pass, if a rollback had it repeated."""
    length = max((i + 1 for i, outcome in enumerate(log) if outcome.step <= step), default=0)
    return log[:length]


class _OutcomeRow(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    operation: dict[str, Any]
    code: Code
    detail: str
    changes: tuple[Experience, ...]
    step: int
    origin: Origin
    model: str
    prompt_version: str


def read_outcome(row: Mapping[str, Any]) -> Outcome:
    try:
        read = _OutcomeRow.model_validate(row)
        operation = from_row(read.operation)
    except ValueError as error:
        raise RunError(
            "The experience log has a line that cannot be read; restore the file from a backup or "
            "learn the library again."
        ) from error
    return Outcome(
        operation,
        read.code,
        read.detail,
        read.changes,
        read.step,
        read.origin,
        read.model,
        read.prompt_version,
    )


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    return {
        "operation": to_row(outcome.operation),
        "code": outcome.code,
        "detail": outcome.detail,
        "changes": [experience_row(entry) for entry in outcome.changes],
        "step": outcome.step,
        "origin": outcome.origin,
        "model": outcome.model,
        "prompt_version": outcome.prompt_version,
    }


def experience_row(entry: Experience) -> dict[str, Any]:
    sources = [{**asdict(source), "attempts": list(source.attempts)} for source in entry.sources]
    return {**asdict(entry), "parents": list(entry.parents), "sources": sources}
