"""What an episode did, step by step and call by call, and how it is told in few tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from memory.sqlite.codec import canonical_json
from memory.types import Verdict

StepState = Literal["pending", "running", "done", "failed", "dropped"]
TokenCounter = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Subtask:
    """A step of the plan. Positions count from 1, dropped steps included."""

    id: int
    position: int
    text: str
    state: StepState = "pending"
    result: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call, with its cost in whatever the caller counts and its duration in seconds.

    `subtask` is the position of the step that it was made for. None stands for what is not known.
    """

    id: int
    position: int
    name: str
    arguments: Mapping[str, Any]
    outcome: Verdict = "unknown"
    result: str | None = None
    cost: float | None = None
    seconds: float | None = None
    subtask: int | None = None


def render_plan(
    goal: str | None, steps: Sequence[Subtask], budget: int, count: TokenCounter
) -> str:
    """Goal and steps in at most `budget` tokens: the goal first, then the last steps."""
    lines = [] if goal is None else [f"Goal: {_line(goal)}"]
    for step in steps:
        result = "" if step.result is None else f" -> {_line(step.result)}"
        lines.append(f"{step.position}. [{step.state}] {_line(step.text)}{result}")
    return within(lines, budget, count, first=int(goal is not None))


def render_calls(calls: Sequence[ToolCall], budget: int, count: TokenCounter) -> str:
    """Calls in at most `budget` tokens, the last ones first to stay."""
    lines = []
    for call in calls:
        result = "" if call.result is None else f": {_line(call.result)}"
        told = f"{_line(call.name)} {_line(canonical_json(call.arguments))}"
        lines.append(f"{call.position}. {told} -> {call.outcome}{result}")
    return within(lines, budget, count)


def within(lines: Sequence[str], budget: int, count: TokenCounter, first: int = 0) -> str:
    """The first lines, then the last ones, as many as fit, in order, and how many do not.

    The text never counts more than `budget`, be it empty.
    """
    whole = "\n".join(lines)
    if count(whole) <= budget:
        return whole
    kept: list[int] = []
    for number in [*range(first), *range(len(lines) - 1, first - 1, -1)]:
        trial = sorted([*kept, number])
        if count(_told(lines, trial)) <= budget:
            kept = trial
    text = _told(lines, kept)
    return text if count(text) <= budget else ""


def _told(lines: Sequence[str], kept: Sequence[int]) -> str:
    missing = len(lines) - len(kept)
    note = [f"({missing} left out)"] if missing else []
    return "\n".join([*(lines[number] for number in kept), *note])


def _line(text: str) -> str:
    """On one line, so that no text can pass for another record."""
    return " ".join(text.split())
