"""Evaluations made by hand, for the tests of claims."""

from __future__ import annotations

from collections.abc import Sequence

from tfgrpo.types import TaskOutcome


def outcome(
    task: str,
    right: int,
    n: int = 4,
    answers: Sequence[str | None] | None = None,
    modes: Sequence[str | None] | None = None,
    nats: float = 0.5,
) -> TaskOutcome:
    """`n` replies to a problem of which the first `right` are right."""
    return TaskOutcome(
        task,
        "sum",
        tuple(i < right for i in range(n)),
        tuple(answers or ("x",) * n),
        tuple(modes or ("once",) * n),
        (nats,) * n,
        (3,) * n,
    )


def evaluation(*right: int, n: int = 4) -> list[TaskOutcome]:
    """One problem for each number of right replies."""
    return [outcome(f"p{i:03}", c, n) for i, c in enumerate(right)]
