"""What accuracy costs: once, to make a policy, and with every reply that it gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tfgrpo.report.figures.labels import Named, point_labels
from tfgrpo.report.figures.sketch import Sketch, basis, percent
from tfgrpo.report.figures.style import LINE, Look, canvas, label, looks_of
from tfgrpo.report.figures.ticks import decades, short
from tfgrpo.verdict.arms import Cost
from tfgrpo.verdict.record import ArmFigures, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Spent = Callable[[Cost], float | None]


def generated(cost: Cost) -> int:
    """Tokens that were generated to make the policy."""
    return sum(usage.completion_tokens for usage in cost.making.values())


def per_reply(cost: Cost) -> float | None:
    """Tokens read and generated for one reply; None if no reply was counted."""
    read = cost.serving.prompt_tokens + cost.serving.completion_tokens
    return read / cost.samples if cost.samples else None


def costs(verdict: Verdict) -> Sketch | None:
    """Making and serving beside each other; None if no arm's cost is known."""
    arms = [arm for arm in verdict.arms if arm.cost is not None and 1 in arm.curve]
    panels = [(name, of) for name, of in _panels(arms) if any(map(of, _costs(arms)))]
    if not panels:
        return None
    figure = canvas(4.4)
    columns = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (name, of) in zip(columns, panels, strict=True):
        _panel(axes, verdict, arms, of)
        axes.set_xlabel(name)
    columns[0].set_ylabel("accuracy (pass@1)")
    for axes, (_, of) in zip(columns, panels, strict=True):
        _names(axes, verdict, arms, of)
    return Sketch(
        name="costs",
        title="Cost and accuracy",
        caption=f"Accuracy with {percent(verdict.question.level)} intervals over problems. Making: "
        "learning and its rollouts, of one seed; arms at 0 were not made. Serving: "
        "tokens read and generated, with whatever the context carries. "
        f"{_missing(verdict)}{basis(verdict)}",
        alt="; ".join(_spoken(arm) for arm in arms),
        figure=figure,
    )


def _panels(arms: Sequence[ArmFigures]) -> list[tuple[str, Spent]]:
    """Work is what both kinds of learning share; tokens stand in where a model's size is open."""
    known = all(cost.flops is not None for cost in _costs(arms))
    making: tuple[str, Spent] = (
        ("making: FLOPs", lambda cost: cost.flops)
        if known and any(cost.flops for cost in _costs(arms))
        else ("making: generated tokens", generated)
    )
    return [making, ("serving: tokens per reply", per_reply)]


def _missing(verdict: Verdict) -> str:
    names = [label(arm.name) for arm in verdict.arms if arm.cost is None]
    return f"Not shown, since their cost is not known: {', '.join(names)}. " if names else ""


def _costs(arms: Sequence[ArmFigures]) -> list[Cost]:
    return [arm.cost for arm in arms if arm.cost is not None]


def _place(arm: ArmFigures, of: Spent, edge: float) -> tuple[float, float] | None:
    spent = of(arm.cost) if arm.cost is not None else None
    return None if spent is None else (max(float(spent), edge), arm.curve[1].value)


def _edge(arms: Sequence[ArmFigures], of: Spent) -> float:
    """Where nothing was spent, which a log axis has no place for."""
    spent = [float(s) for cost in _costs(arms) if (s := of(cost))]
    return min(spent) / 3


def _panel(axes: Axes, verdict: Verdict, arms: Sequence[ArmFigures], of: Spent) -> None:
    from matplotlib.ticker import PercentFormatter

    looks, edge = looks_of(verdict.arms), _edge(arms, of)
    axes.set_xscale("log")
    for arm in arms:
        place = _place(arm, of, edge)
        if place is not None:
            _mark(axes, place, arm, looks[arm.name])
    axes.margins(x=0.12, y=0.1)
    low, high = axes.get_xlim()
    nothing = [edge] if any(of(cost) == 0 for cost in _costs(arms)) else []
    ticks = decades(2 * edge if nothing else low, high)
    axes.set_xticks(nothing + ticks, ["0"] * len(nothing) + [short(tick) for tick in ticks])
    axes.minorticks_off()
    for _ in nothing:
        axes.axvline(1.7 * edge, color=LINE, lw=3)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _mark(axes: Axes, place: tuple[float, float], arm: ArmFigures, look: Look) -> None:
    x, y = place
    low, high = arm.curve[1].low, arm.curve[1].high
    if math.isfinite(low + high):
        axes.plot([x, x], [low, high], color=look.colour, lw=1, alpha=0.55)
    axes.plot([x], [y], look.marker, color=look.colour, ms=7, mec="white", mew=0.8)


def _names(axes: Axes, verdict: Verdict, arms: Sequence[ArmFigures], of: Spent) -> None:
    looks, edge = looks_of(verdict.arms), _edge(arms, of)
    best = max(arms, key=lambda arm: arm.curve[1].value).name
    strong = {verdict.question.base, best}
    axes.set_autoscale_on(False)
    named = []
    for arm in arms:
        place = _place(arm, of, edge)
        if place is not None:
            x, y = place
            reach = (x, x, arm.curve[1].low, arm.curve[1].high)
            named.append(Named(x, y, looks[arm.name], arm.name in strong, reach))
    point_labels(axes, named)


def _spoken(arm: ArmFigures) -> str:
    assert arm.cost is not None
    reply = per_reply(arm.cost)
    told = (
        f"{arm.name}: {100 * arm.curve[1].value:.1f}%, {short(generated(arm.cost))} tokens made it"
    )
    return told if reply is None else f"{told}, {short(reply)} per reply"
