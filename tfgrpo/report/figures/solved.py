"""Which problems each arm gains and loses against the base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfgrpo.metrics.solved import SolvedSets
from tfgrpo.report.figures.rows import ROW, name_rows
from tfgrpo.report.figures.sketch import Sketch, basis
from tfgrpo.report.figures.style import BAD, BLUE, INK, SOFT, VERMILLION, canvas, looks_of
from tfgrpo.verdict.record import Judgement, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAINED, LOST = BLUE, VERMILLION
HEADINGS = ("both", "neither", "p")
APART = 33.0  # points between columns of counts


def solved(verdict: Verdict) -> Sketch | None:
    """None if there is nothing to compare with the base."""
    found = verdict.judgements
    if not found:
        return None
    looks = looks_of(verdict.arms)
    figure = canvas(1.25 * ROW * len(found) + 1.0)
    left, right = figure.subplots(1, 2)
    for axes, times in ((left, 1), (right, 2)):
        sets = [j.solved if times == 1 else j.solved_twice for j in found]
        _panel(axes, sets)
        axes.set_title(f"right {'once' if times == 1 else 'twice'} or more", pad=16)
    name_rows((left, right), [looks[j.b] for j in found])
    base = looks[verdict.question.base].label
    return Sketch(
        name="solved",
        title=f"Problems gained and lost against {base}",
        caption=f"Problems that only the arm solves (right of 0) and that only {base} solves "
        "(left), at equal numbers of samples; first seed of each arm. p: exact two-sided McNemar "
        "test of gained against lost. One lucky sample is noise, so trust the test or the right "
        f"half. {basis(verdict)}",
        alt="; ".join(_spoken(j) for j in found),
        figure=figure,
    )


def _panel(axes: Axes, sets: Sequence[SolvedSets]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    most = max(1, *(max(len(s.a_only), len(s.b_only)) for s in sets))
    for row, found in enumerate(sets):
        for count, sign, hue, hatch in (
            (len(found.b_only), 1, GAINED, ""), (len(found.a_only), -1, LOST, "////"),
        ):  # fmt: skip
            axes.barh(row, sign * count, 0.62, color=hue, hatch=hatch, edgecolor="white", lw=0)
            axes.annotate(
                f"{'+' if sign > 0 else '−'}{count}", (sign * count, row), xytext=(3 * sign, 0),
                textcoords="offset points", va="center", ha="left" if sign > 0 else "right",
                fontsize=7, color=INK,
            )  # fmt: skip
        _counts(axes, row, found)
    for i, heading in enumerate(HEADINGS):
        axes.annotate(heading, (1, 1), xycoords="axes fraction", xytext=(APART * (i + 1), 4),
                      textcoords="offset points", ha="right", fontsize=7, color=SOFT,
                      annotation_clip=False)  # fmt: skip
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_xlim(-1.45 * most, 1.45 * most)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{abs(x):g}"))
    axes.set_xlabel("← lost          problems          gained →")


def _counts(axes: Axes, row: int, found: SolvedSets) -> None:
    p = found.p_value
    told = (f"{len(found.both)}", f"{len(found.neither)}", "<0.001" if p < 0.001 else f"{p:.3f}")
    for i, text in enumerate(told):
        axes.annotate(
            text, (1, row), xycoords=("axes fraction", "data"), xytext=(APART * (i + 1), 0),
            textcoords="offset points", va="center", ha="right", fontsize=7, annotation_clip=False,
            color=BAD if i == 2 and p < 0.05 and len(found.a_only) > len(found.b_only) else INK,
        )  # fmt: skip


def _spoken(judgement: Judgement) -> str:
    found = judgement.solved
    return (
        f"{judgement.b}: {len(found.b_only)} gained, {len(found.a_only)} lost, "
        f"{len(found.both)} by both, {len(found.neither)} by neither, p = {found.p_value:.3g}"
    )
