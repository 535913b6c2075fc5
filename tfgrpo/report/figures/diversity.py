"""The views of diversity side by side, because no single number will do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfgrpo.metrics.panel import VIEWS
from tfgrpo.report.figures.measures import scale, title, unit
from tfgrpo.report.figures.rows import ROW, few_ticks, interval_mark, name_rows
from tfgrpo.report.figures.sketch import Sketch, basis, percent
from tfgrpo.report.figures.style import LINE, SOFT, canvas, columns_for, looks_of
from tfgrpo.verdict.record import ArmFigures, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def diversity(verdict: Verdict) -> Sketch | None:
    """One small panel for each view that some arm has; None if none has any."""
    arms = [arm for arm in verdict.arms if arm.panel or arm.panel_correct]
    names = [n for n in VIEWS if any(n in a.panel or n in a.panel_correct for a in arms)]
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
        name_rows(row, [looks[arm.name] for arm in arms], looks[verdict.question.base].label)
    for axes in grid.ravel()[len(names) :]:
        axes.set_axis_off()
    return Sketch(
        name="diversity",
        title="Diversity",
        caption="Filled: all samples; hollow: correct ones only; at equal numbers of samples in "
        f"every arm, with {percent(verdict.question.level)} intervals over the problems that have "
        "enough. Lines mark the base, dashed for correct samples; the band is its interval. "
        + basis(verdict),
        alt="; ".join(_spoken(arm, names) for arm in arms),
        figure=figure,
    )


def _panel(axes: Axes, verdict: Verdict, arms: Sequence[ArmFigures], name: str) -> None:
    looks = looks_of(verdict.arms)
    by = scale(name)
    for row, arm in enumerate(arms):
        estimates = ((arm.panel.get(name), -0.17, True), (arm.panel_correct.get(name), 0.17, False))
        for estimate, shift, filled in estimates:
            if estimate is None:
                continue
            interval_mark(axes, row + shift, estimate, looks[arm.name], filled=filled, by=by)
            if arm.name == verdict.question.base:
                axes.axvline(by * estimate.value, color=SOFT, lw=0.8, ls="-" if filled else "--",
                             zorder=1)  # fmt: skip
                if filled and math.isfinite(estimate.low + estimate.high):
                    axes.axvspan(by * estimate.low, by * estimate.high, color=LINE, alpha=0.5,
                                 lw=0, zorder=0)  # fmt: skip
    axes.set_title(title(name))
    axes.set_xlabel(unit(name))
    axes.margins(x=0.08)
    few_ticks(axes)


def _spoken(arm: ArmFigures, names: Sequence[str]) -> str:
    told = [f"{title(n)} {arm.panel[n].value:.3g}" for n in names if n in arm.panel]
    return f"{arm.name}: {', '.join(told)}"
