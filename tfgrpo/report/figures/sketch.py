"""From a sketch to files: what stands under a figure, and equal bytes every time."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tfgrpo.report.figures.style import BAD, DPI, SOFT, label, lay_out
from tfgrpo.report.pages.encoding import visible
from tfgrpo.verdict.record import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTION_WIDTH = 132  # characters on a line of the caption
CAPTION_LINE = 0.145  # inches
LONGEST = 4_000  # characters of one text under a figure
_UNDRAWN = re.compile(r"<(!--.*?--|!DOCTYPE.*?|metadata>.*?</metadata)>\s*", re.DOTALL)
_LONG_PARTS = re.compile(r"(?<!\()(\d\.\d\d)\d+")  # not scale(0.015625) of a letter
_NUMBERED = re.compile(r' id="[a-zA-Z0-9.]+_\d+"|\n +')
_GROUP = re.compile(r"(<g(?: [^>]*)?>|</g>)")


@dataclass(frozen=True, slots=True)
class Sketch:
    """A figure that is drawn but not written. `alt` says in words what can be seen."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure as bytes: both kinds show the verdict's stamps, the PNG title and caption too.

    The SVG carries those in words alone, for pages and papers that set their own.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: bytes
    png: bytes


def rendered(sketch: Sketch, stamps: Sequence[str]) -> Drawing:
    """Must be called inside of `style.rules`, once for each sketch."""
    figure = sketch.figure
    lay_out(figure)
    figure.set_layout_engine("none")
    if stamps:
        _framed(figure, "", stamps, BAD)
    svg = _svg(sketch)
    _framed(figure, sketch.title, (sketch.caption,), SOFT)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return Drawing(sketch.name, sketch.title, sketch.caption, sketch.alt, svg, png.getvalue())


def _framed(figure: Figure, title: str, texts: Sequence[str], colour: str) -> None:
    """Room above for a title and below for texts; the axes keep their sizes."""
    lines = [line for text in texts for line in _wrapped(text)]
    width, height = figure.get_size_inches()
    below, above = CAPTION_LINE * len(lines) + 0.1, 0.32 if title else 0.0
    whole = below + height + above
    figure.set_size_inches(width, whole)
    for axes in figure.axes:
        box = axes.get_position()
        bottom = (box.y0 * height + below) / whole
        axes.set_position((box.x0, bottom, box.width, box.height * height / whole))
    for text in figure.texts:
        text.set_y((text.get_position()[1] * height + below) / whole)
    figure.text(0.012, 0.08 / whole, "\n".join(lines), va="bottom", fontsize=7.5, color=colour)
    figure.text(0.012, 1 - 0.1 / whole, title, va="top", fontsize=11, fontweight="bold")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(label(text, LONGEST), CAPTION_WIDTH, break_on_hyphens=False)


def _svg(sketch: Sketch) -> bytes:
    """Without comments, metadata and numbered groups, coordinates to a hundredth of a point."""
    buffer = io.StringIO()
    # Images inside of an SVG are resampled at this resolution.
    metadata = {"Date": None, "Creator": None}
    sketch.figure.savefig(buffer, format="svg", dpi=DPI, metadata=metadata)
    text = _LONG_PARTS.sub(r"\1", _UNDRAWN.sub("", buffer.getvalue()))
    text = _flat(_NUMBERED.sub("", text).replace(" \n", " ").replace("DejaVuSans-", "d"))
    told = f"<title>{escape(sketch.title)}</title><desc>{escape(visible(sketch.caption))}</desc>"
    return re.sub(r"(<svg [^>]*>)", lambda found: found[1] + told, text, count=1).encode()


def _flat(svg: str) -> str:
    """Without the groups that say nothing: a tenth of what a page would carry."""
    kept, says = [], []
    for part in _GROUP.split(svg):
        if part.startswith("<g") and _GROUP.fullmatch(part):
            says.append(part != "<g>")
        if part == "<g>" or (part == "</g>" and not says.pop()):
            continue
        kept.append(part)
    return "".join(kept)


def basis(verdict: Verdict) -> str:
    """What every number rests on: problems, samples, seeds."""
    told = ", ".join(f"{label(name)} {count:,}" for name, count in verdict.datasets.items())
    sets = f" ({told})" if len(verdict.datasets) > 1 else f" of {told}" if told else ""
    counts = sorted({len(arm.seeds) for arm in verdict.arms if arm.seeds != (None,)})
    seeds = f", {_span(counts)} training seeds averaged" if counts and counts[-1] > 1 else ""
    return f"{verdict.problems:,} problems{sets}, {verdict.samples:,} samples of each{seeds}."


def percent(level: float) -> str:
    return f"{100 * level:g}%"


def _span(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
