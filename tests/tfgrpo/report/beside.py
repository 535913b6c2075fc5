"""What a verdict of simulated arms tells besides: diversity, each problem, and all samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

from tests.tfgrpo.report.simulated import SAMPLES, Sampled, Sort
from tfgrpo.llm.faults import FaultCount, FaultKind
from tfgrpo.metrics.panel import PANEL, Of
from tfgrpo.types import Estimate, Usage
from tfgrpo.verdict.details import Fate, PanelDifference, ProblemShares


def panel_differences(a: Sort, b: Sort, problems: int) -> tuple[PanelDifference, ...]:
    """Of all views on all samples, and of all but the last on correct ones."""
    gap = b.entropy - a.entropy
    return tuple(
        PanelDifference(
            a.name, b.name, name, of, 1.0, 1.0 + gap,
            Estimate(gap, gap - 0.05, gap + 0.06, problems if of == "all" else 3, "paired x"),
        )
        for of in get_args(Of)
        for name in (PANEL if of == "all" else PANEL[:-1])
    )  # fmt: skip


def problem_shares(arms: Mapping[str, Sampled], text: str) -> tuple[ProblemShares, ...]:
    """Seeds averaged; the first half of the problems are of another family than the others."""
    shares = {name: arm.counts.mean(axis=0) / SAMPLES for name, arm in arms.items()}
    problems = len(next(iter(shares.values())))
    return tuple(
        ProblemShares(
            f"t{i:04d}", f"countdown{text}" if i < problems // 2 else "sums",
            {name: float(found[i]) for name, found in shares.items()},
        )
        for i in range(problems)
    )  # fmt: skip


def fate(arm: Sampled, text: str) -> Fate:
    """Arms of the context were sampled at an endpoint that failed."""
    right = int(arm.counts.sum())
    wrong = arm.counts.size * SAMPLES - right
    kind = cast(FaultKind, f"rate limit{text}")
    faults: dict[FaultKind, FaultCount] = {
        kind: FaultCount(12),
        "refusal": FaultCount(3, 3, Usage(3, 300, 0, 21, 0, 0.5)),
    }
    failing = arm.sort.family == "context"
    return Fate(
        arm.sort.name, right, wrong - 5, 5, {f"refused{text}": 3} if failing else {},
        faults if failing else {},
    )  # fmt: skip
