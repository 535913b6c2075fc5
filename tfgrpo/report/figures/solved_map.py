"""Every problem and every arm: never right, once, or more often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tfgrpo.report.figures.rows import ROW, name_rows
from tfgrpo.report.figures.sketch import Sketch, basis
from tfgrpo.report.figures.style import canvas, looks_of
from tfgrpo.verdict.record import Judgement, Verdict

SHADES = ("#f3f1ea", "#8fbfe0", "#08416e")
MEANINGS = ("never right", "right once", "right twice or more")


def solved_map(verdict: Verdict) -> Sketch | None:
    """Problems in columns, the base's easy ones first; None if nothing was compared."""
    if not verdict.judgements:
        return None
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    levels = levels_of(verdict)
    looks = looks_of(verdict.arms)
    table = _sorted(levels)
    figure = canvas(ROW * len(levels) + 0.95)
    axes = figure.subplots()
    axes.imshow(
        table, cmap=ListedColormap(list(SHADES)), vmin=0, vmax=2, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    name_rows((axes,), [looks[name] for name in levels], looks[verdict.question.base].label)
    axes.set_ylim(len(levels) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_xlabel(f"{table.shape[1]:,} problems, sorted by the base, then by all arms")
    for row in range(1, len(levels)):
        axes.axhline(row - 0.5, color="white", lw=1.5)
    patches = [Patch(fc=shade, ec="#b9bbbe", lw=0.5) for shade in SHADES]
    axes.legend(patches, MEANINGS, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=7.5)
    shares = {name: np.mean([row == 2 for row in found.values()]) for name, found in levels.items()}
    return Sketch(
        name="solved_map",
        title="Problems by arm",
        caption="Each column is a problem: how often it was solved by each arm, at equal numbers "
        f"of samples; first seed of each arm. White: samples do not match. {basis(verdict)}",
        alt="Right twice or more: "
        + ", ".join(f"{name} {100 * share:.0f}%" for name, share in shares.items()),
        figure=figure,
    )


def levels_of(verdict: Verdict) -> dict[str, dict[str, float]]:
    """For each arm, base first: problem to 0 (never right), 1 (once) or 2 (more often).

    Read off the solved sets; a problem without equal samples is missing for that arm.
    """
    found: dict[str, dict[str, float]] = {verdict.question.base: {}}
    for judgement in verdict.judgements:
        found[judgement.a].update(_levels(judgement, "a_only"))
        found[judgement.b] = _levels(judgement, "b_only")
    return found


def _levels(judgement: Judgement, alone: Literal["a_only", "b_only"]) -> dict[str, float]:
    once, twice = judgement.solved, judgement.solved_twice
    hits = [{*sets.both, *getattr(sets, alone)} for sets in (once, twice)]
    every = (*once.both, *once.a_only, *once.b_only, *once.neither)
    return {problem: float(sum(problem in solved for solved in hits)) for problem in every}


def _sorted(levels: Mapping[str, Mapping[str, float]]) -> NDArray[np.float64]:
    """Shape (arms, problems); NaN where an arm lacks a problem."""
    problems = sorted({p for row in levels.values() for p in row})
    table = np.array([[row.get(p, np.nan) for p in problems] for row in levels.values()])
    total = np.nan_to_num(table).sum(axis=0)
    order = np.lexsort((np.arange(len(problems)), -total, -np.nan_to_num(table[0])))
    return table[:, order]
