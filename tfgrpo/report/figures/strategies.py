"""How each arm solves: shares of the strategies that its samples used, right or wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfgrpo.metrics.diversity import UNREAD
from tfgrpo.report.figures.rows import ROW, name_rows
from tfgrpo.report.figures.sketch import Sketch, basis
from tfgrpo.report.figures.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    LINE,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    canvas,
    contrast,
    label,
    looks_of,
)
from tfgrpo.verdict.record import ArmFigures, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Dark and light take turns, so that neighbours differ in a grey print.
HUES = (BLUE, ORANGE, VERMILLION, SKY, GREEN, YELLOW, PURPLE)
OTHERS = "all others"
LEGEND = 4  # strategies on a line above the bars
TOLD = 0.06  # shares from which the number stands in the bar
Shares = Mapping[str, Mapping[str, float]]


def strategies(verdict: Verdict) -> Sketch | None:
    """One panel for each dataset whose replies show a strategy; None if there is none."""
    arms = [arm for arm in verdict.arms if arm.modes]
    datasets = sorted({name for arm in arms for name in arm.modes})
    if not datasets:
        return None
    looks = looks_of(verdict.arms)
    columns = min(2, len(datasets))
    rows = -(-len(datasets) // columns)
    figure = canvas(rows * (ROW * len(arms) + 1.0))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, dataset in zip(grid.ravel(), datasets, strict=False):
        _panel(axes, {arm.name: arm.modes.get(dataset, {}) for arm in arms})
        axes.set_title(label(dataset, 60), pad=32)
    for row in grid:
        name_rows(row, [looks[arm.name] for arm in arms], looks[verdict.question.base].label)
    for axes in grid.ravel()[len(datasets) :]:
        axes.set_axis_off()
    return Sketch(
        name="strategies",
        title="Strategies",
        caption=f"Shares of all samples and seeds, right or wrong; the {len(HUES)} most used of "
        f"each dataset have colours, in the order of the bars. {basis(verdict)}",
        alt="; ".join(_spoken(arm) for arm in arms),
        figure=figure,
    )


def _panel(axes: Axes, shares: Shares) -> None:
    from matplotlib.patches import Patch
    from matplotlib.ticker import PercentFormatter

    colours = _colours(shares)
    before = [0.0] * len(shares)
    for name, colour in colours.items():
        widths = [_share(row, name, colours) for row in shares.values()]
        axes.barh(range(len(shares)), widths, 0.74, before, color=colour, ec="white", lw=0.6)
        for row, (start, width) in enumerate(zip(before, widths, strict=True)):
            if width >= TOLD:
                axes.text(start + width / 2, row, f"{100 * width:.0f}", ha="center", fontsize=6.5,
                          va="center_baseline", color=_readable(colour))  # fmt: skip
        before = [b + w for b, w in zip(before, widths, strict=True)]
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    named = [(Patch(fc=colour, ec="white"), label(name, 20)) for name, colour in colours.items()]
    # A legend is filled column by column, and read line by line.
    lines = [entry for first in range(LEGEND) for entry in named[first::LEGEND]]
    axes.legend(
        *zip(*lines, strict=True), ncols=LEGEND, loc="lower left",
        bbox_to_anchor=(0.0, 1.0), borderaxespad=0.1, fontsize=7, handlelength=1.2,
        columnspacing=1.2, handletextpad=0.4,
    )  # fmt: skip


def _colours(shares: Shares) -> dict[str, str]:
    """Strategies from the most used on; the rest, and what could not be read, are grey."""
    totals: Counter[str] = Counter()
    for row in shares.values():
        totals.update(row)
    ranked = sorted(set(totals) - {UNREAD}, key=lambda name: (-totals[name], name))
    colours = dict(zip(ranked, HUES, strict=False))
    if len(ranked) > len(HUES):
        colours[OTHERS] = FAINT
    return colours | ({UNREAD: LINE} if UNREAD in totals else {})


def _share(row: Mapping[str, float], name: str, colours: Mapping[str, str]) -> float:
    if name == OTHERS:
        return sum(value for other, value in row.items() if other not in colours)
    return row.get(name, 0.0)


def _readable(colour: str) -> str:
    return "white" if contrast(colour) > 3.5 else INK


def _spoken(arm: ArmFigures) -> str:
    told = []
    for dataset, row in sorted(arm.modes.items()):
        if row:
            most = max(row, key=lambda name: (row[name], name))
            told.append(f"{dataset} mostly {most}, {100 * row[most]:.0f}%")
    return f"{arm.name}: {', '.join(told)}"
