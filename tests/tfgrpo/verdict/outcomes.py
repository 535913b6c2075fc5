"""Evaluations made by hand: counts right, answers by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfgrpo.types import TaskOutcome
from tfgrpo.verdict.arms import Arm, Evaluation, Family, arms_of


def outcome(task_id: str, n: int, c: int, *, dataset: str = "d") -> TaskOutcome:
    """c right samples with one answer, the others wrong and all different."""
    answers = ["right"] * c + [f"wrong {i}" for i in range(n - c)]
    return TaskOutcome(
        task_id, dataset, (True,) * c + (False,) * (n - c), tuple(answers), (None,) * n,
        (0.5,) * n, (10,) * n,
    )  # fmt: skip


def evaluation(
    name: str,
    counts: Sequence[int],
    n: int = 4,
    seed: int | None = None,
    family: Family = "other",
    protocol: Mapping[str, Any] | None = None,
) -> Evaluation:
    found = tuple(outcome(f"p{i}", n, c) for i, c in enumerate(counts))
    return Evaluation(name, seed, found, protocol or {}, family)


def arms(*evaluations: Evaluation) -> tuple[Arm, ...]:
    return arms_of(evaluations)
