"""How far each arm's diversity is from the base's, view by view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfgrpo.metrics.panel import VIEWS
from tfgrpo.report.figures.measures import scale, title, unit
from tfgrpo.report.figures.rows import ROW, few_ticks, interval_mark, name_rows
from tfgrpo.report.figures.sketch import Sketch, basis, percent
from tfgrpo.report.figures.style import INK, canvas, columns_for, looks_of
from tfgrpo.verdict.details import PanelDifference
from tfgrpo.verdict.record import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHIFTS = {"all": -0.17, "correct": 0.17}


def diversity_gains(verdict: Verdict) -> Sketch | None:
    """One small panel for each view that two arms share; None if there is none."""
    names = [name for name in VIEWS if any(d.name == name for d in verdict.diversity)]
    arms = list(dict.fromkeys(d.b for d in verdict.diversity))
    if not names:
        return None
    looks = looks_of(verdict.arms)
    columns = columns_for(len(names))
    rows = -(-len(names) // columns)
    figure = canvas(rows * (ROW * len(arms) + 0.65))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, name in zip(grid.ravel(), names, strict=False):
        _panel(axes, verdict, arms, name)
    for row in grid:
        name_rows(row, [looks[arm] for arm in arms])
    for axes in grid.ravel()[len(names) :]:
        axes.set_axis_off()
    base = looks[verdict.question.base].label
    return Sketch(
        name="diversity_gains",
        title=f"Diversity against {base}",
        caption=f"Differences from {base}, paired by problem, with "
        f"{percent(verdict.question.level)} intervals over problems. Filled: all samples; hollow: "
        "correct ones only, on the problems that both arms have enough of; their intervals may run "
        "past the edge. Every view is taken problem by problem; only the entropy above which a "
        "token forks, and the cosine from which on replies mean the same, are one for all, the "
        f"base's. Exploratory: nothing is tested. {basis(verdict)}",
        alt="; ".join(_spoken(verdict.diversity, arm) for arm in arms),
        figure=figure,
    )


def _panel(axes: Axes, verdict: Verdict, arms: Sequence[str], name: str) -> None:
    looks, by = looks_of(verdict.arms), scale(name)
    found = [d for d in verdict.diversity if d.name == name]
    axes.axvline(0, color=INK, lw=0.8)
    for d in found:
        row = arms.index(d.b) + SHIFTS[d.of]
        interval_mark(axes, row, d.difference, looks[d.b], filled=d.of == "all", by=by)
    axes.set_title(title(name))
    axes.set_xlabel(unit(name, difference=True))
    few_ticks(axes)
    # An interval over a handful of problems would leave no room for all others.
    told = [by * x for d in found for x in _ends(d) if math.isfinite(x)]
    room = 0.08 * (max(told) - min(told))
    if room > 0:
        axes.set_xlim(min(told) - room, max(told) + room)


def _ends(d: PanelDifference) -> tuple[float, ...]:
    """What a panel has room for, and 0."""
    e = d.difference
    return (0.0, e.value, e.low, e.high) if d.of == "all" else (0.0, e.value)


def _spoken(found: Sequence[PanelDifference], arm: str) -> str:
    told = [
        f"{title(d.name)} {scale(d.name) * d.difference.value:+.2g}"
        for d in found
        if d.b == arm and d.of == "all"
    ]
    return f"{arm}: {', '.join(told)}"
