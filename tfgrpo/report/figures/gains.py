"""The difference of pass@k from the base, arm by arm: where it leads and where it is overtaken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfgrpo.report.figures.k_star import k_star
from tfgrpo.report.figures.sketch import Sketch, basis, percent
from tfgrpo.report.figures.style import (
    INK,
    SOFT,
    Look,
    canvas,
    columns_for,
    line_style,
    looks_of,
    powers,
)
from tfgrpo.verdict.record import Judgement, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gains(verdict: Verdict) -> Sketch | None:
    """One small panel for each arm, all on one scale; None if there is only pass@1."""
    found = [j for j in verdict.judgements if len(j.curve) > 1]
    if not found:
        return None
    looks = looks_of(verdict.arms)
    columns = columns_for(len(found))
    rows = -(-len(found) // columns)
    figure = canvas(1.75 * rows + 0.2 if rows > 1 else 2.8)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, judgement in zip(grid, found, strict=False):
        _panel(axes, verdict, judgement, looks[judgement.b])
    for n, axes in enumerate(grid):
        if n >= len(found):
            axes.set_axis_off()
        elif n >= len(found) - columns:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("k (samples)")
    grid[0].set_ylim(*_reach(found))
    for axes in grid[::columns]:
        axes.set_ylabel("points")
    base = looks[verdict.question.base].label
    return Sketch(
        name="gains",
        title=f"pass@k minus that of {base}",
        caption="Paired differences in percentage points with pointwise "
        f"{percent(verdict.question.level)} bands over problems. Crosses and k*: where {base} "
        "overtakes, with an interval over draws of the problems. Dotted: the margin within which "
        f"coverage counts as kept. {basis(verdict)}",
        alt="; ".join(_spoken(j, verdict.question.level) for j in found),
        figure=figure,
    )


def _panel(axes: Axes, verdict: Verdict, judgement: Judgement, look: Look) -> None:
    ks = sorted(judgement.curve)
    curve = [judgement.curve[k] for k in ks]
    axes.axhline(0, color=INK, lw=0.8)
    axes.axhline(-100 * verdict.question.margin, color=SOFT, lw=0.8, ls=":")
    axes.fill_between(
        ks, [100 * e.low for e in curve], [100 * e.high for e in curve], color=look.colour,
        alpha=0.2, lw=0,
    )  # fmt: skip
    style = line_style(look, 1.6)
    axes.plot(ks, [100 * e.value for e in curve], marker=look.marker, ms=3, **style)
    axes.set_title(look.label, color=look.ink, fontsize=8.5, fontweight="bold")
    powers(axes, ks)
    law = judgement.crossover
    if law is not None and law.estimate.interpolated is not None:
        axes.plot([law.estimate.interpolated], [0], "x", color=INK, ms=6, mew=1.6, zorder=5)
    told = k_star(law, verdict.question.level)
    axes.annotate(told, (1, 1), xycoords="axes fraction", xytext=(-2, -2), va="top", ha="right",
                  textcoords="offset points", fontsize=7, color=SOFT)  # fmt: skip


def _reach(found: list[Judgement]) -> tuple[float, float]:
    ends = [100 * x for j in found for e in j.curve.values() for x in (e.value, e.low, e.high)]
    known = [0.0, *(x for x in ends if x == x)]
    room = 0.08 * (max(known) - min(known)) or 1.0
    return min(known) - room, max(known) + 2.2 * room


def _spoken(judgement: Judgement, level: float) -> str:
    first, last = min(judgement.curve), max(judgement.curve)
    ends = (f"{100 * judgement.curve[k].value:+.1f} at {k}" for k in (first, last))
    star = k_star(judgement.crossover, level)
    return f"{judgement.b}: {', '.join(ends)}{f', {star}' if star else ''}"
