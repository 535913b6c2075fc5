"""What the page of an experience library tells, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfgrpo.report.pages.parts import State
from tfgrpo.types import Estimate

Fate = Literal["accepted", "no change", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One experience. `effect` is None where nothing was measured, which is not 0.

    `sources` holds (key of a group, what it gave); `parents` are ids of experiences.
    `shown` counts the rollouts that saw it, None where the run does not say.
    """

    id: str
    text: str
    status: str
    support: int
    version: int
    created_step: int
    shown: int | None = None
    effect: Estimate | None = None
    sources: tuple[tuple[str, str], ...] = ()
    parents: tuple[str, ...] = ()
    model: str = ""
    prompt_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryEdit:
    """One proposed operation and what became of it; `entries` are those it names or changed.

    `evidence` holds keys of groups.
    """

    number: int
    step: int
    origin: str
    op: str
    fate: Fate
    code: str
    entries: tuple[str, ...]
    text: str | None
    detail: str = ""
    reason: str = ""
    evidence: tuple[str, ...] = ()
    support: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryStep:
    """One learning step. `groups` counts them by kind."""

    step: int
    epoch: int
    reward_mean: float
    groups: str
    failures: int
    entries: int | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtBy:
    """A group of rollouts of one problem; `proposed` is what their comparison taught, in words."""

    key: str
    step: int
    dataset: str
    prompt: str
    reward_mean: float | None
    right: int
    size: int
    failures: int = 0
    proposed: str = ""
    problems: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One rollout of a group; `shown` are the ids of the experiences that it saw."""

    key: str
    group: str
    correct: bool
    reward: float
    answer: str | None
    text: str
    summary: str = ""
    mode: str | None = None
    tokens: int | None = None
    finish: str = ""
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """All that the page tells. `prompt` is the library as prompts show it, of length `tokens`."""

    title: str
    fingerprint: str
    prompt: str
    tokens: int
    lessons: tuple[Lesson, ...]
    edits: tuple[LibraryEdit, ...]
    states: tuple[State, ...]
    steps: tuple[LibraryStep, ...] = ()
    groups: tuple[TaughtBy, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    note: str = ""
