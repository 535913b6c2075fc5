"""How far apart the views of diversity of two arms are, problem by problem."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TypeAlias

import numpy as np

from tfgrpo.metrics.panel import VIEWS, Matching, Of, Panel
from tfgrpo.metrics.seeds import seeded_columns
from tfgrpo.types import Comparison
from tfgrpo.verdict.details import PanelDifference

Panels: TypeAlias = Mapping[int | None, Panel]
"""One arm's panels by training seed."""

Pairs: TypeAlias = Mapping[str, tuple[float, float]]
"""Values of two arms by problem."""


def panel_differences(
    a: tuple[str, Panels],
    b: tuple[str, Panels],
    matching: Matching,
    of: Of,
    seed: int,
    resamples: int = 10_000,
) -> tuple[PanelDifference, ...]:
    """b - a of each view that some problem has in both arms, in the order of `VIEWS`.

    All views are taken problem by problem; only the threshold of forking tokens is one for
    all. Problems that lack a view in one arm are left out of it in both: with `of` "correct" those
    that either arm has too rarely right. Intervals are as those of other paired differences.
    """
    paired = _paired(a[1], b[1])
    views = {name: pairs for name in VIEWS if (pairs := _pairs(paired, name))}
    ceilings = _ceilings(matching.samples if of == "all" else matching.correct)
    found: dict[str, Comparison] = {}
    for problems, names in _alike(views).items():
        table = np.array([[views[name][i] for name in names] for i in problems], dtype=np.float64)
        first, second = np.moveaxis(table[None], -1, 0)  # (P, M, 2) to (1 seed, P, M) of each arm
        (row,) = seeded_columns(
            names, [(first, second)], seed, resamples, [ceilings.get(name) for name in names]
        )
        found |= {name: difference.problems for name, difference in row.items()}
    return tuple(
        PanelDifference(a[0], b[0], name, of, found[name].a, found[name].b, found[name].difference)
        for name in views
    )


def _alike(views: Mapping[str, Pairs]) -> Mapping[tuple[str, ...], Sequence[str]]:
    """Names of the views that rest on the same problems, which share their draws."""
    names: dict[tuple[str, ...], list[str]] = {}
    for name, pairs in views.items():
        names.setdefault(tuple(sorted(pairs)), []).append(name)
    return names


def _paired(a: Panels, b: Panels) -> list[tuple[Panel, Panel]]:
    """By seed where both arms were trained, over the seeds that they share."""
    if len(a) > 1 and len(b) > 1:
        return [(a[seed], b[seed]) for seed in a if seed in b]
    return [(x, y) for x in a.values() for y in b.values()]


def _pairs(paired: Sequence[tuple[Panel, Panel]], name: str) -> Pairs:
    """Each problem's values in both arms, averaged over the seeds that have it in both."""
    found: dict[str, list[tuple[float, float]]] = {}
    for x, y in paired:
        for problem in x.get(name, {}).keys() & y.get(name, {}).keys():
            found.setdefault(problem, []).append((x[name][problem], y[name][problem]))
    return {
        problem: (fmean(x for x, _ in values), fmean(y for _, y in values))
        for problem, values in found.items()
    }


def _ceilings(samples: int) -> Mapping[str, float]:
    """How far one problem can move, for the views of which that is known."""
    return {
        "answer_entropy": math.log(samples),
        "distinct_correct": samples,
        "effective_modes": samples - 1,
        "vendi": samples - 1,
        "meanings": samples - 1,
        "forking_share": 1.0,
    }
