"""Learning as it went: accuracy and entropy of the rollouts, by steps and by tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from tfgrpo.report.figures.labels import Named, end_labels
from tfgrpo.report.figures.paths import drawn, smoothed, windows
from tfgrpo.report.figures.paths import looks as looks_of_runs
from tfgrpo.report.figures.sketch import Sketch
from tfgrpo.report.figures.style import Look, canvas, line_style
from tfgrpo.report.figures.ticks import counted
from tfgrpo.verdict.record import Trajectory, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 5.6
Across = Literal["step", "tokens"]


def training(verdict: Verdict) -> Sketch | None:
    """None without learning runs of two steps or more."""
    runs = drawn(verdict)
    if not runs:
        return None
    across: list[Across] = ["step"]
    if all(len(t.tokens) == len(t.accuracy) and t.tokens[-1] > 0 for t in runs):
        across.append("tokens")
    from matplotlib.ticker import MaxNLocator

    looks = looks_of_runs(verdict)
    figure = canvas(HEIGHT)
    grid = figure.subplots(2, len(across), sharex="col", sharey="row", squeeze=False)
    for column, kind in zip(grid.T, across, strict=True):
        for axes, of in zip(column, ("accuracy", "entropy"), strict=True):
            _panel(axes, runs, of, kind, looks)
        column[1].set_xlabel("step" if kind == "step" else "generated tokens")
        if kind == "tokens":
            counted(column[1].xaxis)
        else:
            column[1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
    for axes, of in zip(grid[:, -1], ("accuracy", "entropy"), strict=True):
        axes.autoscale_view()
        end_labels(axes, _ends(runs, of, across[-1], looks), 0.38 * HEIGHT)
    grid[0][0].set_ylabel("accuracy of rollouts")
    grid[1][0].set_ylabel("entropy (nats per token)")
    return Sketch(
        name="training",
        title="Learning: accuracy and entropy",
        caption="Rollouts of the problems of each step, which differ in difficulty from step to "
        "step and from the problems of the evaluation. Thin lines: training seeds, smoothed "
        "over 5 points; thick: their mean. Tokens are those that were generated so far.",
        alt="; ".join(_spoken(t) for t in runs),
        figure=figure,
    )


def _panel(
    axes: Axes,
    runs: Sequence[Trajectory],
    of: str,
    across: Across,
    looks: Mapping[str, Look],
) -> None:
    for name in dict.fromkeys(run.name for run in runs):
        lines = [_line(run, of, across) for run in runs if run.name == name]
        alike = len({len(values) for _, values in lines}) == 1
        for line in lines if len(lines) > 1 else ():
            axes.plot(*line, color=looks[name].colour, lw=0.7, alpha=0.35 if alike else 0.9)
        if alike:
            mean = [[sum(parts) / len(parts) for parts in zip(*both, strict=True)]
                    for both in zip(*lines, strict=True)]  # fmt: skip
            axes.plot(*mean, **line_style(looks[name], 1.6))
    if of == "accuracy":
        from matplotlib.ticker import PercentFormatter

        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _line(run: Trajectory, of: str, across: Across) -> tuple[list[float], list[float]]:
    values = smoothed(windows(run.accuracy if of == "accuracy" else run.entropy))
    steps = range(1, len(run.accuracy) + 1)
    return windows(list(steps) if across == "step" else run.tokens), values


def _ends(
    runs: Sequence[Trajectory], of: str, across: Across, looks: Mapping[str, Look]
) -> list[Named]:
    """One label for each arm, at the mean of its seeds' ends."""
    ends: dict[str, list[float]] = {}
    for run in runs:
        ends.setdefault(run.name, []).append(_line(run, of, across)[1][-1])
    return [Named(0.0, sum(e) / len(e), looks[name]) for name, e in ends.items()]


def _spoken(run: Trajectory) -> str:
    seed = "" if run.seed is None else f" seed {run.seed}"
    return (
        f"{run.name}{seed}: accuracy {run.accuracy[0]:.2f} to {run.accuracy[-1]:.2f}, entropy "
        f"{run.entropy[0]:.2f} to {run.entropy[-1]:.2f} nats in {len(run.accuracy)} steps"
    )
