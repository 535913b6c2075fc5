"""Figures of a verdict: complete, alike every time, readable without colour, safe from names."""

from __future__ import annotations

import io
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.tfgrpo.report.simulated import FEW, SORTS, Sort, sampled
from tests.tfgrpo.report.verdicts import bare, figures, small, small_drawings, verdict
from tfgrpo.metrics.crossover import Crossover, CrossoverLaw
from tfgrpo.report.figures import album
from tfgrpo.report.figures.curves import curves
from tfgrpo.report.figures.endpoints import endpoints
from tfgrpo.report.figures.k_star import k_star
from tfgrpo.report.figures.labels import spread
from tfgrpo.report.figures.law import accuracy_and_entropy
from tfgrpo.report.figures.measures import title, unit
from tfgrpo.report.figures.paths import smoothed, windows
from tfgrpo.report.figures.sketch import basis, rendered
from tfgrpo.report.figures.solved_map import levels_of
from tfgrpo.report.figures.style import LONGEST_NAME, WIDTH, contrast, label, looks_of, rules
from tfgrpo.report.figures.ticks import decades, short
from tfgrpo.report.figures.training import training
from tfgrpo.verdict.arms import FAMILIES

NAMES = (
    "endpoints", "pass_at_k", "gains", "accuracy_and_entropy", "training", "diversity",
    "diversity_gains", "strategies", "solved", "shares", "solved_map", "costs",
)  # fmt: skip
OUTSIDE = re.compile(r'href="(?!#|data:image/png;base64,)|url\((?!#)|<script|<!DOCTYPE|@import')
SVG = "{http://www.w3.org/2000/svg}"


def test_a_verdict_with_all_its_parts_has_every_figure() -> None:
    drawn = small_drawings()
    assert tuple(d.name for d in drawn) == NAMES
    for drawing in drawn:
        root = ET.fromstring(drawing.svg)
        assert root.findtext(f"{SVG}title") == drawing.title
        assert root.findtext(f"{SVG}desc") == drawing.caption
        assert OUTSIDE.search(drawing.svg.decode()) is None
        width = float(root.attrib["width"].removesuffix("pt"))
        assert width == pytest.approx(72 * WIDTH)
        assert all(name in drawing.alt for name in ("library", "grpo"))


def test_a_picture_is_the_drawing_with_its_title_and_caption(tmp_path) -> None:
    for drawing in small_drawings():
        (tmp_path / "figure.png").write_bytes(drawing.png)
        with Image.open(tmp_path / "figure.png") as picture:
            height = float(re.search(rb'height="([\d.]+)pt"', drawing.svg)[1]) / 72
            assert picture.width == round(160 * WIDTH)
            assert 0.3 < picture.height / 160 - height < 1.5


def test_captions_say_what_the_numbers_rest_on() -> None:
    told = basis(small())
    assert told == (
        "40 problems (countdown 20, sums 20), 64 samples of each, 3 training seeds averaged."
    )
    captions = {d.name: d.caption for d in small_drawings()}
    assert all(told in c for name, c in captions.items() if name != "training")
    for name in set(NAMES) - {"training", "strategies", "solved", "shares", "solved_map"}:
        assert "95%" in captions[name]


def test_letters_keep_their_size_when_coordinates_are_shortened() -> None:
    for drawing in small_drawings():
        text = drawing.svg.decode()
        assert "scale(0.015625)" in text
        assert re.search(r"[ML] ?\d+\.\d{3}", text) is None


def test_groups_that_say_nothing_are_left_out_and_no_other() -> None:
    with rules():
        sketch = endpoints(small())
        assert sketch is not None
        raw = io.StringIO()
        sketch.figure.savefig(raw, format="svg")
        drawing = rendered(sketch, ())

    def leaves(svg: str) -> Counter[tuple[str, ...]]:
        """What is drawn, each with the styles of the groups that it stands in."""
        found: Counter[tuple[str, ...]] = Counter()

        def walk(element: ET.Element, styles: tuple[str, ...]) -> None:
            own = element.get("style") if element.tag == f"{SVG}g" else None
            inner = (*styles, *([own] if own else []))
            if element.tag in (f"{SVG}path", f"{SVG}use"):
                found[element.tag, element.get("style", ""), *inner] += 1
            for child in element:
                walk(child, inner)

        walk(ET.fromstring(svg), ())
        return found

    assert b"<g>" not in drawing.svg
    assert "<g>" in raw.getvalue()
    assert leaves(drawing.svg.decode()) == leaves(raw.getvalue())


def test_without_the_data_for_a_figure_it_is_left_out() -> None:
    assert album.drawings(bare()) == ()
    full = small()
    with rules():
        for changed, gone in (
            (replace(full, trajectories=()), "training"),
            (replace(full, arms=tuple(replace(a, cost=None) for a in full.arms)), "costs"),
            (replace(full, arms=tuple(replace(a, modes={}) for a in full.arms)), "strategies"),
            (replace(full, arms=tuple(replace(a, panel={}, panel_correct={}) for a in full.arms)),
             "diversity"),
            (replace(full, judgements=()), "gains"),
            (replace(full, diversity=()), "diversity_gains"),
            (replace(full, problems_by_arm=()), "shares"),
        ):  # fmt: skip
            draw = next(f for f in album.FIGURES if f.__name__ == gone)
            assert draw(full) is not None
            assert draw(changed) is None


def test_numbers_without_an_interval_are_drawn_without_one() -> None:
    nan = math.nan
    full = small()
    arms = tuple(
        replace(
            arm,
            curve={k: replace(e, low=nan, high=nan) for k, e in arm.curve.items()},
            figures={k: replace(e, low=nan, high=nan) for k, e in arm.figures.items()},
            panel={k: replace(e, low=nan, high=nan) for k, e in arm.panel.items()},
        )
        for arm in full.arms
    )
    with rules():
        for draw in album.FIGURES:
            assert draw(replace(full, arms=arms)) is not None


HOSTILE = (
    r"$\frac{1}{", "_hidden", "--><script>alert(1)</script>", "名前 שלום", "a\nb\x1b[31m\ud800",
    "&amp;%s{0}" + 300 * "long",
)  # fmt: skip


def test_a_name_is_drawn_as_it_is_written_whatever_it_says() -> None:
    sorts = [
        replace(sort, name=f"{name}{i}")
        for i, (name, sort) in enumerate(zip(HOSTILE, (*FEW, *FEW[1:], SORTS[2]), strict=True))
    ]
    found = verdict(sorts, 30, replies=0, stamps=HOSTILE)
    with rules():
        sketch = endpoints(found)
        assert sketch is not None
        drawing = rendered(sketch, found.stamps)
    assert b"<script" not in drawing.svg
    assert ET.fromstring(drawing.svg).findtext(f"{SVG}title").startswith("Declared endpoints")


def test_arms_of_one_family_differ_without_colour_and_families_by_their_mark() -> None:
    arms = [
        figures(sampled(Sort(f"{family} {i}", family), 5))
        for family in FAMILIES
        for i in range(1 if family == "base" else 6)
    ]
    looks = looks_of(arms)
    for (a, x), (b, y) in combinations([(arm, looks[arm.name]) for arm in arms], 2):
        if a.family != b.family:
            assert x.marker != y.marker
        else:
            assert x.dashes != y.dashes
    assert all(contrast(look.ink) >= 4.5 for look in looks.values())
    assert contrast("#000000") == pytest.approx(21)
    assert contrast("#ffffff") == pytest.approx(1)


def test_many_arms_are_drawn_family_by_family_with_the_base_in_every_panel() -> None:
    sorts = [SORTS[0], *(Sort(f"arm {i}", "weights", 0.1 * i) for i in range(13)), SORTS[2]]
    arms = tuple(figures(sampled(sort, 9)) for sort in sorts)
    found = replace(small(), arms=arms, judgements=(), duels=(), trajectories=())
    with rules():
        sketch = curves(found)
    assert sketch is not None
    panels = sketch.figure.axes
    assert [axes.get_title(loc="left") for axes in panels] == ["control", *["weights"] * 3]
    names = [[text.get_text() for text in axes.texts] for axes in panels]
    assert all("base" in told for told in names)
    assert [sum(t.startswith("arm") for t in told) for told in names] == [0, 5, 5, 3]


def test_a_training_run_that_is_no_arm_is_drawn_and_named() -> None:
    full = small()
    arms = full.arms[:2]
    renamed = tuple(replace(t, name="kl-cov run") for t in full.trajectories if t.name == "grpo")
    found = replace(full, arms=arms, judgements=full.judgements[:1], trajectories=renamed)
    with rules():
        for draw in (accuracy_and_entropy, training):
            sketch = draw(found)
            assert sketch is not None
            told = {text.get_text() for axes in sketch.figure.axes for text in axes.texts}
            assert "kl-cov run" in told


def test_an_arm_looks_alike_in_every_figure_and_whoever_else_is_there() -> None:
    arms = [figures(sampled(sort, 5)) for sort in SORTS]
    alone = looks_of([arm for arm in arms if arm.family in ("base", "weights")])
    assert alone.items() <= looks_of(arms).items()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=16), st.floats(0.01, 0.2))
def test_labels_are_moved_apart_in_their_order_and_stay_inside(
    heights: list[float], gap: float
) -> None:
    placed = spread(heights, gap, 0.0, 1.0)
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    for low, high in pairwise(placed[i] for i in order):
        assert high - low >= gap - 1e-9
    if gap * (len(heights) - 1) <= 1:
        assert min(placed) >= -1e-9
        assert max(placed) <= 1 + 1e-9
    if all(b - a >= gap for a, b in pairwise(sorted(heights))):
        assert placed == pytest.approx(heights)
    free = spread(heights, gap, -9.0, 9.0)
    assert sum(free) == pytest.approx(sum(heights), abs=1e-6)


@given(st.floats(1e-3, 1e15), st.floats(1.05, 1e6))
def test_a_log_axis_has_a_few_round_ticks_within_its_ends(low: float, ratio: float) -> None:
    ticks = decades(low, low * ratio)
    assert len(ticks) <= 8
    assert all(low <= tick <= low * ratio for tick in ticks)
    assert ticks == sorted(set(ticks))
    if ratio >= 4:
        assert len(ticks) >= 2


def test_large_numbers_are_told_in_a_few_signs() -> None:
    told = {0.5: "0.5", 999: "999", 1500: "1.5k", 2e6: "2M", 3.21e12: "3.21T", 2e21: "2e21"}
    assert {number: short(number) for number in told} == told


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=500))
def test_thinned_runs_keep_their_range_and_short_ones_stay(values: list[float]) -> None:
    few = windows(values, 40)
    assert len(few) <= 40
    assert min(values) - 1e-9 <= min(few) <= max(few) <= max(values) + 1e-9
    if len(values) <= 40:
        assert few == values
    assert smoothed([2.0] * len(values)) == pytest.approx([2.0] * len(values))


@given(st.text(max_size=60))
def test_a_long_name_loses_its_middle_and_no_name_its_line(name: str) -> None:
    told = label(name)
    assert len(told) <= LONGEST_NAME
    assert "\n" not in told
    if name.isalnum() and len(name) > LONGEST_NAME:
        assert name.startswith(told.split("…")[0])
        assert name.endswith(told.split("…")[1])


def test_the_map_of_problems_says_how_often_each_arm_was_right() -> None:
    found = small()
    levels = levels_of(found)
    assert list(levels) == ["base", "library", "grpo"]
    for sort in FEW:
        counts = sampled(sort, 40).counts[0]
        assert levels[sort.name] == {f"t{i:04d}": min(c, 2) for i, c in enumerate(counts.tolist())}


def test_the_crossing_is_told_with_its_interval_or_not_at_all() -> None:
    crossed = Crossover(12, 11.3, 64, led=True, changes=1)
    law = CrossoverLaw(crossed, {5: 3, 12: 90, 40: 2}, censored=5, no_lead=0)
    assert k_star(law, 0.95) == "k* 12 [5, >64]"
    never = Crossover(None, None, 64, led=True, changes=0)
    assert k_star(CrossoverLaw(never, {}, censored=100, no_lead=0), 0.95) == "k* >64"
    behind = Crossover(None, None, 64, led=False, changes=0)
    assert k_star(CrossoverLaw(behind, {}, censored=0, no_lead=100), 0.95) == ""
    assert k_star(None, 0.95) == ""


def test_measures_have_names_and_units() -> None:
    told = {
        "pass@64": ("pass@64", "%"), "distinct_correct@8": ("distinct correct in 8", "answers"),
        "token_entropy": ("token entropy", "nats"), "new_metric@3": ("new_metric@3", ""),
        "cover@0.5": ("right in half or more", "%"), "vendi": ("Vendi score of texts", ""),
    }  # fmt: skip
    assert {name: (title(name), unit(name)) for name in told} == told
    assert unit("pass@1", difference=True) == "points"
