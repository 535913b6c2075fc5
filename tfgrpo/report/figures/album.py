"""All figures of a verdict, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable

from tfgrpo.report.figures.costs import costs
from tfgrpo.report.figures.curves import curves
from tfgrpo.report.figures.diversity import diversity
from tfgrpo.report.figures.diversity_gains import diversity_gains
from tfgrpo.report.figures.endpoints import endpoints
from tfgrpo.report.figures.gains import gains
from tfgrpo.report.figures.law import accuracy_and_entropy
from tfgrpo.report.figures.shares import shares
from tfgrpo.report.figures.sketch import Drawing, Sketch, rendered
from tfgrpo.report.figures.solved import solved
from tfgrpo.report.figures.solved_map import solved_map
from tfgrpo.report.figures.strategies import strategies
from tfgrpo.report.figures.style import rules
from tfgrpo.report.figures.training import training
from tfgrpo.verdict.record import Verdict

FIGURES: tuple[Callable[[Verdict], Sketch | None], ...] = (
    endpoints, curves, gains, accuracy_and_entropy, training, diversity, diversity_gains,
    strategies, solved, shares, solved_map, costs,
)  # fmt: skip


def drawings(verdict: Verdict) -> tuple[Drawing, ...]:
    """Every figure that the verdict has the data for. Equal verdicts give equal bytes."""
    with rules():
        sketches = (draw(verdict) for draw in FIGURES)
        return tuple(rendered(sketch, verdict.stamps) for sketch in sketches if sketch)
