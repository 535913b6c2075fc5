"""Accuracy against entropy: what each way of learning pays for what it gains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tfgrpo.report.figures.labels import Named, point_labels
from tfgrpo.report.figures.measures import title
from tfgrpo.report.figures.paths import drawn, windows
from tfgrpo.report.figures.paths import looks as looks_of_runs
from tfgrpo.report.figures.sketch import Sketch, basis, percent
from tfgrpo.report.figures.style import Look, canvas, label, line_style
from tfgrpo.types import Estimate
from tfgrpo.verdict.record import ArmFigures, Trajectory, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOTS = 24  # of one run: each is a mean of neighbouring steps


def accuracy_and_entropy(verdict: Verdict) -> Sketch | None:
    """None if no arm's entropy is known and there is no learning run."""
    measure = _measure(verdict)
    arms = [arm for arm in verdict.arms if 1 in arm.curve and measure in arm.figures]
    runs = drawn(verdict)
    if not arms and not runs:
        return None
    from matplotlib.ticker import PercentFormatter

    looks = looks_of_runs(verdict)
    figure = canvas(5.6)
    axes = figure.subplots()
    for run in runs:
        _steps(axes, run, looks[run.name])
    for run in runs:
        _fitted(axes, run, looks[run.name])
    for arm in arms:
        _arm(axes, arm.figures[measure], arm.curve[1], looks[arm.name])
    axes.set_xlabel(f"{title(measure)} (nats per token)")
    axes.set_ylabel("accuracy (pass@1)")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.margins(x=0.06, y=0.08)
    axes.autoscale_view()
    axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
    axes.set_autoscale_on(False)
    strong = _strong(verdict, arms)
    named = [
        _named(arm.figures[measure], arm.curve[1], looks[arm.name], arm.name in strong)
        for arm in arms
    ]
    alone = {run.name: run for run in runs if run.name not in {arm.name for arm in verdict.arms}}
    point_labels(axes, [*named, *(_last(run, looks[run.name]) for run in alone.values())])
    return Sketch(
        name="accuracy_and_entropy",
        title="Accuracy against entropy",
        caption=_caption(verdict, runs),
        alt="; ".join(_spoken(arm, arm.figures[measure]) for arm in arms)
        or f"{len(runs)} learning runs",
        figure=figure,
    )


def _measure(verdict: Verdict) -> str:
    """What is comparable with training runs, which count every reply alike; else by tokens."""
    known = any("reply_entropy" in arm.figures for arm in verdict.arms)
    return "reply_entropy" if known else "token_entropy"


def _last(run: Trajectory, look: Look) -> Named:
    """Where a run that is no arm ended."""
    return Named(windows(run.entropy, DOTS)[-1], windows(run.accuracy, DOTS)[-1], look)


def _named(x: Estimate, y: Estimate, look: Look, strong: bool) -> Named:
    return Named(x.value, y.value, look, strong, (x.low, x.high, y.low, y.high))


def _arm(axes: Axes, x: Estimate, y: Estimate, look: Look) -> None:
    for across, along in (((x.low, x.high), (y.value,) * 2), ((x.value,) * 2, (y.low, y.high))):
        if all(map(math.isfinite, (*across, *along))):
            axes.plot(across, along, color=look.ink, lw=1.2, zorder=4)
    axes.plot([x.value], [y.value], look.marker, color=look.colour, ms=8, mec="white", mew=1,
              zorder=5)  # fmt: skip


def _steps(axes: Axes, run: Trajectory, look: Look) -> None:
    entropy, accuracy = windows(run.entropy, DOTS), windows(run.accuracy, DOTS)
    axes.plot(entropy, accuracy, look.marker, color=look.colour, ms=2.4, mew=0, alpha=0.35)


def _fitted(axes: Axes, run: Trajectory, look: Look) -> None:
    """The law where the run has been, and thinly on to the ceiling that it names at H = 0."""
    if run.law is None:
        return
    a, b, _ = run.law
    low, high = min(run.entropy), max(run.entropy)
    for start, end, width in ((low, high, 1.3), (0.0, low, 0.6)):
        across = [start + (end - start) * i / 20 for i in range(21)]
        axes.plot(across, [b - a * math.exp(h) for h in across], alpha=0.7,
                  **line_style(look, width))  # fmt: skip


def _strong(verdict: Verdict, arms: Sequence[ArmFigures]) -> set[str]:
    best = max(arms, key=lambda arm: arm.curve[1].value).name if arms else ""
    return {verdict.question.base, best}


def _caption(verdict: Verdict, runs: Sequence[Trajectory]) -> str:
    told = (
        "Large marks: every arm on the evaluation's problems, with "
        f"{percent(verdict.question.level)} intervals over problems. {basis(verdict)}"
    )
    if not runs:
        return told
    told += (
        " Small marks: learning runs, each a mean of neighbouring steps, on the problems learnt "
        "from, which are others."
    )
    fits = _fits(runs)
    if fits:
        many = ", ".join(f"{label(name)} {_span(*ends)}" for name, ends in fits.items())
        told += (
            " Lines: R = -a exp(H) + b, fitted to each run's steps and drawn on to H = 0; "
            f"R² by arm: {many}."
        )
    return told


def _fits(runs: Sequence[Trajectory]) -> Mapping[str, tuple[float, float]]:
    """Smallest and largest R² of an arm's runs."""
    found: dict[str, list[float]] = {}
    for run in runs:
        if run.law is not None:
            found.setdefault(run.name, []).append(run.law[2])
    return {name: (min(values), max(values)) for name, values in found.items()}


def _span(low: float, high: float) -> str:
    ends = dict.fromkeys(f"{x:.2f}" for x in (low, high))
    return " to ".join(ends)


def _spoken(arm: ArmFigures, entropy: Estimate) -> str:
    return f"{arm.name}: {100 * arm.curve[1].value:.1f}% at {entropy.value:.2f} nats"
