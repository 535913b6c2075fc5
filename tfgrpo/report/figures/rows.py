"""Figures with one row for each arm: names at the left, an interval on each line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfgrpo.report.figures.style import Look
from tfgrpo.types import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.21  # inches


def name_rows(columns: Sequence[Axes], looks: Sequence[Look], strong: str = "") -> None:
    """The first arm on top of every column; at the left their names, in the arms' colours."""
    for n, axes in enumerate(columns):
        axes.set_ylim(len(looks) - 0.4, -0.6)
        axes.set_yticks(range(len(looks)), [look.label if n == 0 else "" for look in looks])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
    for look, text in zip(looks, columns[0].get_yticklabels(), strict=True):
        text.set_color(look.ink)
        if look.label == strong:
            text.set_fontweight("bold")


def few_ticks(axes: Axes) -> None:
    """So few that their numbers do not run into each other in a narrow panel."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(4))


def interval_mark(
    axes: Axes, row: float, estimate: Estimate, look: Look, *, filled: bool = True, by: float = 1.0
) -> None:
    """A point with its interval, if it has one; `by` turns values into the axis' unit."""
    value, low, high = (by * x for x in (estimate.value, estimate.low, estimate.high))
    if math.isfinite(low + high):
        axes.plot([low, high], [row, row], color=look.colour, lw=1.4, solid_capstyle="butt")
    axes.plot(
        [value], [row], look.marker, color=look.colour, ms=5,
        mfc=look.colour if filled else "white", mew=1.2,
    )  # fmt: skip
