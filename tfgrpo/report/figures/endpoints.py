"""The declared endpoints of every arm against the base: what is judged, at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfgrpo.metrics.claims import Claim
from tfgrpo.report.figures.measures import scale, title, unit
from tfgrpo.report.figures.rows import ROW, few_ticks, interval_mark, name_rows
from tfgrpo.report.figures.sketch import Sketch, basis, percent
from tfgrpo.report.figures.style import BAD, GOOD, INK, SOFT, canvas, looks_of
from tfgrpo.verdict.record import Judgement, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TONES: Mapping[str, str] = {"better": GOOD, "worse": BAD}


def endpoints(verdict: Verdict) -> Sketch | None:
    """One column for each endpoint, one row for each arm; None if nothing is judged."""
    names = [
        n for n in verdict.question.endpoints if any(_claims(j, n) for j in verdict.judgements)
    ]
    if not names:
        return None
    figure = canvas(ROW * len(verdict.judgements) + 0.75)
    columns = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(columns, names, strict=True):
        _column(axes, verdict, name)
    looks = looks_of(verdict.arms)
    name_rows(columns, [looks[j.b] for j in verdict.judgements])
    question = verdict.question
    return Sketch(
        name="endpoints",
        title=f"Declared endpoints against {looks[question.base].label}",
        caption=f"Differences with {percent(question.level)} intervals over problems; small ticks "
        "are training seeds. Filled: better or worse after Holm's correction over all arms and "
        "endpoints; hollow: not told apart. The dotted line is the margin within which coverage "
        f"counts as kept. {basis(verdict)}",
        alt="; ".join(_spoken(j) for j in verdict.judgements),
        figure=figure,
    )


def _column(axes: Axes, verdict: Verdict, name: str) -> None:
    by = scale(name)
    looks = looks_of(verdict.arms)
    axes.axvline(0, color=INK, lw=0.8)
    if name == f"pass@{verdict.question.k_max}" and verdict.question.k_max > 1:
        axes.axvline(-by * verdict.question.margin, color=SOFT, lw=1, ls=":")
    for row, judgement in enumerate(verdict.judgements):
        for claim in _claims(judgement, name):
            look = looks[judgement.b]
            found = claim.comparison.difference
            told = claim.verdict in TONES
            interval_mark(axes, row, found, look, filled=told, by=by)
            seeds = judgement.differences[name].by_seed if name in judgement.differences else ()
            if len(seeds) > 1:
                axes.plot([by * s for s in seeds], [row + 0.3] * len(seeds), "|", color=look.colour,
                          ms=4, mew=0.9)  # fmt: skip
            axes.annotate(
                claim.verdict, (1.0, row), xycoords=("axes fraction", "data"), xytext=(3, 0),
                textcoords="offset points", va="center", fontsize=7, annotation_clip=False,
                color=TONES.get(claim.verdict, SOFT),
                fontweight="bold" if told else "normal",
            )  # fmt: skip
    axes.set_title(title(name))
    axes.set_xlabel(f"difference in {unit(name, difference=True)}")
    axes.margins(x=0.08)
    few_ticks(axes)


def _claims(judgement: Judgement, name: str) -> tuple[Claim, ...]:
    return tuple(claim for claim in judgement.claims if claim.comparison.name == name)


def _spoken(judgement: Judgement) -> str:
    told = ", ".join(f"{c.comparison.name} {c.verdict}" for c in judgement.claims)
    return f"{judgement.b}: {told}"
