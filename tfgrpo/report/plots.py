"""Figures. Byte-stable: no dates, fixed ids; one colour for each arm everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tfgrpo.types import Estimate

# Okabe and Ito's palette, which colour-blind readers can tell apart; lines also differ in dashes.
Style = tuple[str, tuple[float, float]]
STYLES: Mapping[str, Style] = {
    "base": ("#000000", (4, 2)),
    "placebo": ("#E69F00", (1, 1)),
    "learned": ("#0072B2", (1, 0)),
    "empty": ("#999999", (2, 2)),
    "fewshot": ("#009E73", (6, 2)),
}
OTHERS: tuple[Style, ...] = (
    ("#0072B2", (1, 0)),
    ("#D55E00", (5, 1)),
    ("#009E73", (3, 1)),
    ("#CC79A7", (1, 1)),
    ("#56B4E9", (6, 2)),
    ("#B59F00", (2, 2)),
)


def styles_of(names: Sequence[str]) -> dict[str, Style]:
    """Arms that are known look alike in every figure; the others take what is left, in order."""
    taken = {STYLES[name] for name in names if name in STYLES}
    free = [style for style in OTHERS if style not in taken]
    others = [name for name in names if name not in STYLES]
    drawn = {name: free[i % len(free)] for i, name in enumerate(others)}
    return {name: STYLES.get(name) or drawn[name] for name in names}


def pass_at_k_figure(
    curves: Mapping[str, Mapping[int, Estimate]], caption: str, paths: Sequence[Path]
) -> None:
    """pass@k against k (log scale) with pointwise 95% bands, one curve for each arm.

    Labels stand at the curves' ends, so that no legend has to be matched by colour.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

    with mpl.rc_context({"svg.hashsalt": "tfgrpo", "font.size": 10}):
        figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
        ends: list[tuple[float, float, str]] = []
        ks: list[int] = []
        styles = styles_of(list(curves))
        for name, curve in curves.items():
            ks = sorted(curve)
            colour, dashes = styles[name]
            axes.plot(
                ks, [curve[k].value for k in ks], color=colour, lw=2, marker="o", ms=3,
                dashes=dashes,
            )  # fmt: skip
            axes.fill_between(
                ks, [curve[k].low for k in ks], [curve[k].high for k in ks],
                color=colour, alpha=0.15, lw=0,
            )  # fmt: skip
            ends.append((curve[ks[-1]].value, curve[ks[0]].value, name))
        # Curves that end at one height are labelled in the order in which they begin.
        for height, name in _spread([(end, name) for end, _, name in sorted(ends)], 0.05):
            axes.annotate(
                name, (ks[-1], height), xytext=(6, 0), textcoords="offset points",
                color=styles[name][0], va="center", fontweight="bold",
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(ks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(k) for k in ks])
        axes.set_xlim(ks[0], ks[-1] * 1.6)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("k (samples)")
        axes.set_ylabel("pass@k (unbiased)")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(caption, loc="left", fontsize=9, color="#444444", wrap=True)
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
            figure.savefig(path, dpi=160, metadata=metadata)
        plt.close(figure)


def _spread(ends: Sequence[tuple[float, str]], gap: float) -> list[tuple[float, str]]:
    """Labels moved apart by at least `gap`; they are given and returned lowest first."""
    placed: list[tuple[float, str]] = []
    for height, name in ends:
        placed.append((max(height, placed[-1][0] + gap) if placed else height, name))
    over = placed[-1][0] - 1.0 if placed else 0.0
    return [(h - max(0.0, over), name) for h, name in placed]


def training_figure(
    rewards: Sequence[float], entropies: Sequence[float], caption: str, paths: Sequence[Path]
) -> None:
    """Accuracy and token entropy (nats) of the training rollouts against the step, one above the
    other, so that neither hides behind the other's axis.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    with mpl.rc_context({"svg.hashsalt": "tfgrpo", "font.size": 10}):
        figure, (top, bottom) = plt.subplots(
            2, 1, figsize=(7.2, 5.2), sharex=True, layout="constrained"
        )
        for axes, values, name, colour in (
            (top, rewards, "accuracy of rollouts", "#0072B2"),
            (bottom, entropies, "token entropy (nats)", "#D55E00"),
        ):
            axes.plot(range(len(values)), values, color=colour, lw=1, alpha=0.4)
            axes.plot(range(len(values)), _smoothed(values), color=colour, lw=2)
            axes.set_ylabel(name)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        bottom.set_xlabel("step")
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
        top.set_title(caption, loc="left", fontsize=9, color="#444444", wrap=True)
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
            figure.savefig(path, dpi=160, metadata=metadata)
        plt.close(figure)


def _smoothed(values: Sequence[float], width: int = 5) -> list[float]:
    """Means over the step and its neighbours, `width` in all and fewer at the ends."""
    half = width // 2
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]
