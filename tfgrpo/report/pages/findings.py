"""What a page finds: sentences with the intervals behind them, and figures that were drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfgrpo.types import Estimate

if TYPE_CHECKING:
    from tfgrpo.report.pages.parts import Tone


@dataclass(frozen=True, slots=True)
class Mark:
    """One measured thing behind a finding: its interval, and what it comes to in a word.

    `estimate` is shown with a sign and `digits` behind the point; `label` names its unit.
    """

    label: str
    estimate: Estimate
    word: str = ""
    tone: Tone = "plain"
    digits: int = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence about `title`, and what it rests on; `row` of the block's table tells more."""

    title: str
    text: str
    marks: tuple[Mark, ...]
    row: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """Findings under a heading; their rows are of `table`, if they have any."""

    title: str
    items: tuple[Finding, ...]
    table: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing, an SVG document that needs nothing but itself; `alt` tells it in words."""

    title: str
    svg: str
    alt: str
    note: str = ""
