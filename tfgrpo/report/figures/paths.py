"""Learning runs, thinned to what a figure can show."""

from __future__ import annotations

from collections.abc import Sequence

from tfgrpo.report.figures.style import Look, looks_of
from tfgrpo.verdict.record import Trajectory, Verdict

MOST_POINTS = 40


def windows(values: Sequence[float], most: int = MOST_POINTS) -> list[float]:
    """Means of neighbouring steps, `most` of them or fewer; short runs stay as they are."""
    width = max(1, -(-len(values) // most))
    parts = (values[i : i + width] for i in range(0, len(values), width))
    return [sum(part) / len(part) for part in parts]


def smoothed(values: Sequence[float], width: int = 5) -> list[float]:
    """Means over the step and its neighbours, `width` in all and fewer at the ends."""
    half = width // 2
    parts = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(part) / len(part) for part in parts]


def drawn(verdict: Verdict) -> tuple[Trajectory, ...]:
    """Runs with two steps or more."""
    return tuple(t for t in verdict.trajectories if len(t.accuracy) > 1)


def looks(verdict: Verdict) -> dict[str, Look]:
    """Of all arms and runs; a run that is named like an arm looks like it."""
    return looks_of(verdict.arms, (run.name for run in verdict.trajectories))
