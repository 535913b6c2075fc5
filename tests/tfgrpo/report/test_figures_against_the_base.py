"""Figures of what sets arms apart from the base: by problem, and by view of diversity."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.tfgrpo.report.simulated import FEW, SAMPLES, Sort, sampled
from tests.tfgrpo.report.verdicts import small, verdict
from tfgrpo.report.figures.diversity_gains import diversity_gains
from tfgrpo.report.figures.shares import SHADES, TURNS, in_order, shares
from tfgrpo.report.figures.sketch import Sketch, rendered
from tfgrpo.report.figures.style import contrast, rules
from tfgrpo.verdict.details import ProblemShares
from tfgrpo.verdict.record import Verdict

NAMES = [sort.name for sort in FEW]


def sketched(found: Verdict) -> Sketch:
    with rules():
        sketch = shares(found)
    assert sketch is not None
    return sketch


def test_each_cell_is_the_share_of_one_arm_on_one_problem_and_below_what_it_gains() -> None:
    counts = {sort.name: sampled(sort, 40).counts.mean(axis=0) for sort in FEW}
    family = np.arange(40) >= 20  # countdown first, then sums
    order = np.lexsort((-sum(counts.values()), -counts["base"], family))
    expected = np.array([counts[sort.name][order] for sort in FEW]) / SAMPLES
    top, bottom = sketched(small()).figure.axes
    assert np.allclose(top.images[0].get_array(), expected)
    assert np.allclose(bottom.images[0].get_array(), expected[1:] - expected[0])
    assert [tick.get_text() for tick in top.get_yticklabels()] == ["base", "library", "grpo"]
    assert [tick.get_text() for tick in bottom.get_yticklabels()] == ["library", "grpo"]
    assert [tick.get_text() for tick in top.get_xticklabels()] == ["countdown", "sums"]
    told = [text.get_text() for text in top.texts]
    assert told == [f"{100 * row.mean():.0f}" for row in expected]


def test_the_base_is_on_top_wherever_it_stands_among_the_arms() -> None:
    found = small()
    moved = replace(found, arms=tuple(reversed(found.arms)))
    names = [tick.get_text() for tick in sketched(moved).figure.axes[0].get_yticklabels()]
    assert names == ["base", "grpo", "library"]
    assert [p.task_id for p in in_order(moved)] == [p.task_id for p in in_order(found)]


def test_the_words_count_the_problems_that_the_map_shows_gained_and_lost() -> None:
    found = small()
    gaps = [p.shares["grpo"] - p.shares["base"] for p in found.problems_by_arm]
    told = sketched(found).alt.split("; grpo: ")[1]
    assert told == (
        f"{100 * np.mean(gaps):+.1f} points; 10 or more gained on {sum(g >= 0.1 for g in gaps)} "
        f"problems, lost on {sum(g <= -0.1 for g in gaps)}"
    )


def lightness(colour: str) -> float:
    """CIE L*, of 100 for white; `contrast` with white is 1.05 / (Y + 0.05)."""
    return 116 * float(np.cbrt(1.05 / contrast(colour) - 0.05)) - 16


def test_shades_are_told_apart_in_grey_and_change_evenly() -> None:
    steps = [a - b for a, b in pairwise(map(lightness, SHADES))]
    assert min(steps) > 16
    assert max(steps) < 20
    middle = len(TURNS) // 2
    for half in (TURNS[: middle + 1][::-1], TURNS[middle:]):
        assert all(a > b + 8 for a, b in pairwise(map(lightness, half)))
    assert lightness(TURNS[middle]) > 97
    assert abs(lightness(TURNS[0]) - lightness(TURNS[-1])) < 10


def test_thousands_of_problems_share_columns_of_one_family() -> None:
    rng = np.random.default_rng(0)
    problems = tuple(
        ProblemShares(f"t{i}", f"family {i % 3}", dict(zip(NAMES, rng.random(3), strict=True)))
        for i in range(2000)
    )
    found = replace(small(), problems_by_arm=problems)
    with rules():
        sketch = shares(found)
        assert sketch is not None
        drawing = rendered(sketch, ())
    shown = np.asarray(sketch.figure.axes[0].images[0].get_array())
    # 667, 667 and 666 problems, five of which share a column
    assert shown.shape == (3, 3 * 134)
    ordered = [p.shares["base"] for p in in_order(found)]
    assert shown[0, 0] == pytest.approx(np.mean(ordered[:5]))
    assert shown[0, 133] == pytest.approx(np.mean(ordered[665:667]))
    assert shown[0, 134] == pytest.approx(np.mean(ordered[667:672]))
    assert "the mean of up to 5 problems" in drawing.caption
    assert len(drawing.svg) < 60_000


@pytest.mark.parametrize("families", [1, 3, 60])
def test_names_of_families_never_run_into_each_other(families: int) -> None:
    problems = tuple(
        replace(p, dataset=f"family of problems {i * families // 40:02d}")
        for i, p in enumerate(small().problems_by_arm)
    )
    sketch = sketched(replace(small(), problems_by_arm=problems))
    axes = sketch.figure.axes[0]
    sketch.figure.draw_without_rendering()
    boxes = [tick.get_window_extent() for tick in axes.get_xticklabels() if tick.get_text()]
    assert len(boxes) == (families if families < 40 else 0)
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_views_are_marked_at_their_differences_and_few_problems_stretch_no_panel() -> None:
    found = small()
    wide = tuple(
        replace(d, difference=replace(d.difference, low=-50.0, high=50.0))
        if d.of == "correct" else d
        for d in found.diversity
    )  # fmt: skip
    with rules():
        sketch = diversity_gains(replace(found, diversity=wide))
    assert sketch is not None
    panels = sketch.figure.axes
    titles = [axes.get_title(loc="left") for axes in panels]
    assert len(set(titles)) == 8
    gaps = [sort.entropy - FEW[0].entropy for sort in FEW[1:]]
    for axes, name in zip(panels, titles, strict=True):
        by = 100 if name == "share of forking tokens" else 1
        points = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
        views = 1 if by == 100 else 2  # forking is not told of correct samples
        assert sorted(points) == pytest.approx(sorted(by * gap for gap in gaps * views))
        low, high = axes.get_xlim()
        assert -1 < low / by < min(gaps)
        assert max(gaps) < high / by < 1


def test_a_single_arm_has_nothing_to_be_compared_with() -> None:
    alone = verdict((Sort("base", "base"),), 20, replies=0)
    with rules():
        assert shares(alone) is None
        assert diversity_gains(alone) is None
