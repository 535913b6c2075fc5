"""How figures look: one colour, marker and dash for each arm, the same in every figure.

The hues are Okabe and Ito's, which colour-blind readers can tell apart; a family shares its hue
and its marker, and its members differ in dashes, so that a grey print tells them apart too.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfgrpo.report.pages.encoding import visible
from tfgrpo.verdict.arms import FAMILIES, Family
from tfgrpo.verdict.record import ArmFigures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 8.4  # inches of every figure: 605 points, which pages show as they are
DPI = 160
LONGEST_NAME = 22  # characters of an arm's name; longer ones lose their middle

INK, SOFT, LINE, FAINT = "#1c1d1f", "#5c6066", "#d9d9d4", "#c4c6c9"
GOOD, BAD = "#00614a", "#a33f00"
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW = "#E69F00", "#56B4E9", "#F0E442"

Dashes = tuple[float, ...]
SOLID: Dashes = ()
# Seven, which no family's number of hues divides: looks come round late.
DASHES: tuple[Dashes, ...] = (
    SOLID, (5, 1.5), (1.2, 1.2), (6, 1.5, 1.2, 1.5), (9, 2), (2.5, 1), (9, 1.5, 1.2, 1.5, 1.2, 1.5),
)  # fmt: skip

FAMILY_HUES: Mapping[Family, tuple[tuple[str, ...], str]] = {
    "base": (("#000000",), "s"),
    "control": (("#7A7A7A",), "D"),
    "context": ((BLUE, SKY), "o"),
    "weights": ((VERMILLION, ORANGE), "^"),
    "both": ((PURPLE,), "P"),
    "other": ((GREEN,), "X"),
}

RULES: Mapping[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 8.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.dpi": DPI,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.hashsalt": "tfgrpo",
    "text.color": INK,
    "text.hinting": "no_hinting",
    "text.parse_math": False,
    "xtick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.color": SOFT,
    "ytick.labelsize": 8,
}


@dataclass(frozen=True, slots=True)
class Look:
    """One arm's colour, marker and dashes; `ink` is its colour, dark enough to be read as text."""

    label: str
    colour: str
    ink: str
    marker: str
    dashes: Dashes


@contextmanager
def rules() -> Iterator[None]:
    """Draw inside of it: whatever a user's own matplotlib settings are, figures look alike."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        # A name in letters that the font lacks is drawn as boxes; pages carry it as text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(RULES)
        yield


def canvas(height: float) -> Figure:
    """An empty figure of the common width; `height` in inches. It needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def columns_for(panels: int) -> int:
    """Up to 4 small panels in a row, in rows that are as full as can be."""
    return panels if panels <= 4 else min(4, -(-panels // 2))


def lay_out(figure: Figure) -> None:
    """Give the axes their places, as a drawing would."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)


def looks_of(arms: Sequence[ArmFigures], runs: Iterable[str] = ()) -> dict[str, Look]:
    """Each arm's look, which depends on its family and on the arms of it that come before.

    Training `runs` that are no arm look like further arms of the weights.
    """
    named: dict[str, Family] = {arm.name: arm.family for arm in arms}
    for name in runs:
        named.setdefault(name, "weights")
    before: Counter[Family] = Counter()
    found = {}
    for name, family in named.items():
        hues, marker = FAMILY_HUES[family]
        number = before[family]
        before[family] += 1
        hue = hues[number % len(hues)]
        dashes = DASHES[(number + (family == "base")) % len(DASHES)]
        found[name] = Look(label(name), hue, dark(hue), marker, dashes)
    return found


def families(arms: Sequence[ArmFigures]) -> dict[Family, tuple[ArmFigures, ...]]:
    """Arms by family, in the order of FAMILIES; families without an arm are left out."""
    grouped = {family: tuple(a for a in arms if a.family == family) for family in FAMILIES}
    return {family: members for family, members in grouped.items() if members}


def label(name: str, longest: int = LONGEST_NAME) -> str:
    """The name on one line, with what cannot be seen written out and the middle cut if long."""
    told = " ".join(visible(name).split())
    if len(told) <= longest:
        return told
    tail = (longest - 1) // 2
    return f"{told[: longest - 1 - tail]}…{told[-tail:]}"


def dark(colour: str) -> str:
    """The same hue with a contrast of 4.5 or more on white."""
    while contrast(colour) < 4.5:
        parts = (round(0.95 * int(colour[i : i + 2], 16)) for i in (1, 3, 5))
        colour = "#" + "".join(f"{part:02x}" for part in parts)
    return colour


def contrast(colour: str) -> float:
    """With white, from 1 to 21, by WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 1.05 / (luminance + 0.05)


def line_style(look: Look, width: float = 1.5) -> dict[str, Any]:
    dashes = {"dashes": look.dashes} if look.dashes else {}
    return {"color": look.colour, "lw": width, **dashes}


def powers(axes: Axes, ks: Sequence[int]) -> None:
    """The x axis counts samples: k on a scale of base 2."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(ks[0] / 1.08, ks[-1] * 1.08)
    axes.set_xticks(ks, [str(k) for k in ks], minor=False)
    axes.minorticks_off()
