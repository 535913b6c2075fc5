"""Every problem and every arm: how often it was right, and what that is against the base."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfgrpo.report.figures.rows import ROW, name_rows
from tfgrpo.report.figures.sketch import Sketch, basis
from tfgrpo.report.figures.style import canvas, label, looks_of
from tfgrpo.verdict.details import ProblemShares
from tfgrpo.verdict.record import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = NDArray[np.float64]

SHADES = ("#faf7ef", "#abcae2", "#6598c5", "#2e68a0", "#0b3a6e")
"""From never to always right: one hue, evenly darker, for any eye and for a grey print."""

TURNS = ("#7f2704", "#d45f0e", "#fdb47c", "#fbfaf7", "#94c4e2", "#2f7ab8", "#08306b")
"""From lost to gained, lighter towards no change."""

MOST = 480  # columns, about one point wide each: more could not be told apart
LETTER = 4.6  # points that a letter of a family's name is wide
WORTH = 0.1  # a change that is counted in words


def shares(verdict: Verdict) -> Sketch | None:
    """Problems in columns by family, the base's easy ones first; None with nothing to compare."""
    problems, names = in_order(verdict), _names(verdict)
    if not problems or len(names) < 2:
        return None
    looks = looks_of(verdict.arms)
    base = looks[verdict.question.base].label
    table = np.array([[p.shares[name] for p in problems] for name in names])
    gaps = table[1:] - table[0]
    starts = _columns(problems)
    each = "a problem" if (n := _width(problems)) == 1 else f"the mean of up to {n} problems"
    figure = canvas(ROW * (2 * len(names) - 1) + 1.5)
    top, bottom = figure.subplots(2, 1, height_ratios=(len(names), len(names) - 1))
    _map(top, table, starts, SHADES, (0.0, 1.0))
    _map(bottom, gaps, starts, TURNS, (-1.0, 1.0))
    name_rows((top,), [looks[name] for name in names], base)
    name_rows((bottom,), [looks[name] for name in names[1:]])
    for axes, values in ((top, table), (bottom, gaps)):
        axes.set_ylim(len(values) - 0.5, -0.5)
        _families(axes, [problems[start].dataset for start in starts])
    top.set_title("share of right samples, %")
    bottom.set_title(f"against {base}, points")
    return Sketch(
        name="shares",
        title="Share right, problem by problem",
        caption=f"Each column is {each}, the same in both halves; "
        f"within a family those that {base} is right on most often come first. At the right: means "
        f"over problems. {basis(verdict)}",
        alt="; ".join(_spoken(name, row) for name, row in zip(names[1:], gaps, strict=True)),
        figure=figure,
    )


def in_order(verdict: Verdict) -> tuple[ProblemShares, ...]:
    """By family, then from the base's easiest on; equal ones by all arms together."""
    base = verdict.question.base
    return tuple(
        sorted(
            verdict.problems_by_arm,
            key=lambda p: (p.dataset, -p.shares[base], -fmean(p.shares.values()), p.task_id),
        )
    )


def _names(verdict: Verdict) -> list[str]:
    """The base first."""
    return sorted(
        (arm.name for arm in verdict.arms), key=lambda name: name != verdict.question.base
    )


def _columns(problems: Sequence[ProblemShares]) -> list[int]:
    """Where each column starts: at every problem, or at every few of one family."""
    starts: list[int] = []
    first = 0
    for _, members in groupby(problems, key=lambda p: p.dataset):
        end = first + len(list(members))
        starts += range(first, end, _width(problems))
        first = end
    return starts


def _width(problems: Sequence[ProblemShares]) -> int:
    """How many problems a column stands for at most."""
    return -(-len(problems) // MOST)


def _map(
    axes: Axes, table: Values, starts: Sequence[int], shades: Sequence[str],
    ends: tuple[float, float],
) -> None:  # fmt: skip
    """Rows of `table`, with the shades' meanings above and the rows' means beside."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Patch

    low, high = ends
    colours = LinearSegmentedColormap.from_list("shades", list(shades))
    widths = np.diff([*starts, table.shape[1]])
    means = np.add.reduceat(table, starts, axis=1) / widths
    axes.imshow(means, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    axes.grid(visible=False)
    for row in range(1, len(table)):
        axes.axhline(row - 0.5, color="white", lw=1.2)
    for row, mean in enumerate(table.mean(axis=1)):
        axes.annotate(
            _percent(mean, low), (1, row), xycoords=("axes fraction", "data"), xytext=(24, 0),
            textcoords="offset points", va="center", ha="right", fontsize=7, annotation_clip=False,
        )  # fmt: skip
    steps = np.linspace(low, high, 5)
    axes.legend(
        [Patch(fc=colours((x - low) / (high - low)), ec="#b9bbbe", lw=0.5) for x in steps],
        [_percent(x, low) for x in steps],
        loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=5, fontsize=7.5,
        handlelength=1.2, handletextpad=0.4, columnspacing=1.0,
    )  # fmt: skip


def _percent(value: float, low: float) -> str:
    """With a sign where there are values below 0."""
    told = f"{abs(100 * value):.0f}"
    sign = "" if low == 0 or told == "0" else "+" if value > 0 else "−"
    return f"{sign}{told}"


def _families(axes: Axes, names: Sequence[str]) -> None:
    """Each column's family: told below the map, as far as there is room, with lines between."""
    ticks, told, start = [], [], 0
    families = [(name, len(list(members))) for name, members in groupby(names)]
    for name, count in families:
        if start:
            axes.axvline(start - 0.5, color="white", lw=min(3.0, 0.2 * MOST / len(families)))
        letters = int(count / len(names) * MOST / LETTER)
        if letters > 2:
            ticks.append(start + (count - 1) / 2)
            told.append(label(name, letters))
        start += count
    axes.set_xticks(ticks, told)
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_visible(False)


def _spoken(name: str, gaps: Values) -> str:
    up, down = int(np.sum(gaps >= WORTH)), int(np.sum(gaps <= -WORTH))
    return (
        f"{name}: {100 * gaps.mean():+.1f} points; 10 or more gained on {up} problems, lost on "
        f"{down}"
    )
