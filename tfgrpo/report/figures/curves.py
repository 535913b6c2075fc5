"""pass@k against k: how often one of k samples is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tfgrpo.report.figures.k_star import k_star
from tfgrpo.report.figures.labels import Named, end_labels
from tfgrpo.report.figures.sketch import Sketch, basis, percent
from tfgrpo.report.figures.style import (
    FAINT,
    LINE,
    SOFT,
    Look,
    canvas,
    families,
    line_style,
    looks_of,
    powers,
)
from tfgrpo.types import Estimate
from tfgrpo.verdict.arms import FAMILIES
from tfgrpo.verdict.record import ArmFigures, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ONE_PANEL = 6  # arms that one panel holds before each family gets its own, or several

Curve = Mapping[int, Estimate]
Panels = Sequence[tuple[str, Sequence[ArmFigures]]]


def curves(verdict: Verdict) -> Sketch | None:
    """One panel, or one for each family with the base in all; None if there is only pass@1."""
    arms = [arm for arm in verdict.arms if len(arm.curve) > 1]
    if not arms:
        return None
    panels = _panels(arms, verdict.question.base)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    height = 2.9 if rows > 1 else 3.9
    figure = canvas(rows * height)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, members) in zip(grid, panels, strict=False):
        _panel(axes, verdict, arms, members, 0.8 * height)
        axes.set_title(name)
        axes.tick_params(labelbottom=True)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[::columns]:
        axes.set_ylabel("pass@k")
    best = _best(arms)
    return Sketch(
        name="pass_at_k",
        title="pass@k",
        caption=f"Unbiased pass@k; bands are pointwise {percent(verdict.question.level)} intervals "
        "over problems. Bold: the base, and the best arm at one sample. Crosses are k*, where the "
        "base overtakes, with an interval over draws of the problems. "
        + ("Dashed grey: guessing frequent training answers. " if verdict.floor else "")
        + basis(verdict),
        alt=f"At one sample {best.name} is best with {100 * best.curve[1].value:.1f}%. "
        + "; ".join(_spoken(arm) for arm in arms),
        figure=figure,
    )


def _panels(arms: Sequence[ArmFigures], base: str) -> Panels:
    if len(arms) <= ONE_PANEL:
        return [("", arms)]
    reference = [arm for arm in arms if arm.name == base]
    others = dict(families([arm for arm in arms if arm.name != base]))
    if "base" in others:
        others["control"] = others.pop("base") + others.get("control", ())
    ordered = {family: others[family] for family in FAMILIES if family in others}
    parts = [(family, part) for family, members in ordered.items() for part in _parts(members)]
    return [(family, [*reference, *part]) for family, part in parts]


def _parts(members: Sequence[ArmFigures]) -> list[Sequence[ArmFigures]]:
    """As many parts as ONE_PANEL asks for, of sizes as equal as can be."""
    size = -(-len(members) // -(-len(members) // ONE_PANEL))
    return [members[i : i + size] for i in range(0, len(members), size)]


def _panel(
    axes: Axes,
    verdict: Verdict,
    arms: Sequence[ArmFigures],
    members: Sequence[ArmFigures],
    height: float,
) -> None:
    looks = looks_of(verdict.arms)
    strong = {verdict.question.base, _best(arms).name}
    ks = sorted({k for arm in arms for k in arm.curve})
    for arm in arms:
        if arm not in members:
            _line(axes, arm.curve, color=LINE, lw=0.8, zorder=1)
    for arm in members:
        look = looks[arm.name]
        points = sorted(arm.curve)
        axes.fill_between(
            points, [arm.curve[k].low for k in points], [arm.curve[k].high for k in points],
            color=look.colour, alpha=0.11, lw=0,
        )  # fmt: skip
        style = line_style(look, 2.2 if arm.name in strong else 1.3)
        _line(axes, arm.curve, marker=look.marker, ms=3.2, **style)
    powers(axes, ks)
    _limits(axes, arms, verdict.floor)
    _guessing(axes, verdict.floor)
    _crossings(axes, verdict, {arm.name for arm in members}, looks)
    ends = [
        Named(max(arm.curve), arm.curve[max(arm.curve)].value, looks[arm.name], arm.name in strong)
        for arm in members
    ]
    end_labels(axes, ends, height)
    axes.set_xlabel("k (samples)")


def _line(axes: Axes, curve: Curve, **style: object) -> None:
    ks = sorted(curve)
    axes.plot(ks, [curve[k].value for k in ks], **style)  # type: ignore[arg-type]


def _limits(axes: Axes, arms: Sequence[ArmFigures], floor: Mapping[int, float]) -> None:
    """The same in every panel: all bands and the floor, in steps of a tenth."""
    from matplotlib.ticker import PercentFormatter

    values = [x for arm in arms for e in arm.curve.values() for x in (e.value, e.low, e.high)]
    known = [x for x in (*values, *floor.values()) if x == x]
    low, high = int(10 * min(known)) / 10, -int(-10 * max(known) // 1) / 10
    axes.set_ylim(max(0.0, low), min(1.0, high) + 0.01)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _guessing(axes: Axes, floor: Mapping[int, float]) -> None:
    if floor:
        ks = sorted(floor)
        axes.plot(ks, [floor[k] for k in ks], color=FAINT, lw=1.2, ls="--")
        middle = ks[len(ks) // 2]
        axes.annotate("guessing", (middle, floor[middle]), xytext=(0, 3), fontsize=7, color=SOFT,
                      textcoords="offset points", ha="right")  # fmt: skip


def _crossings(axes: Axes, verdict: Verdict, members: set[str], looks: Mapping[str, Look]) -> None:
    """A cross where the base's curve meets an arm's."""
    for judgement in verdict.judgements:
        law = judgement.crossover
        if judgement.b not in members or law is None or law.estimate.interpolated is None:
            continue
        x, look = law.estimate.interpolated, looks[judgement.b]
        y = _at(verdict.arm(judgement.b).curve, x)
        axes.plot([x], [y], "x", color=look.ink, ms=7, mew=1.8, zorder=5)
        if len(members) <= ONE_PANEL:
            axes.annotate(
                k_star(law, verdict.question.level), (x, y), xytext=(4, -11), fontsize=7,
                textcoords="offset points", color=look.ink, zorder=5,
            )  # fmt: skip


def _at(curve: Curve, x: float) -> float:
    """The curve between its points, linear in log k."""
    import numpy as np

    ks = sorted(curve)
    return float(np.interp(np.log(x), np.log(ks), [curve[k].value for k in ks]))


def _best(arms: Sequence[ArmFigures]) -> ArmFigures:
    return max(arms, key=lambda arm: arm.curve[min(arm.curve)].value)


def _spoken(arm: ArmFigures) -> str:
    first, last = min(arm.curve), max(arm.curve)
    values = (100 * arm.curve[k].value for k in (first, last))
    return f"{arm.name}: " + " to ".join(f"{v:.1f}%" for v in values)
