"""A page as JSON values, with what cannot be seen written out and what is too long cut."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from tfgrpo.report.pages.findings import Figure, Finding, Findings
from tfgrpo.report.pages.parts import (
    Bars,
    Block,
    Cell,
    Column,
    Compare,
    Facts,
    Listing,
    Page,
    Prose,
    Scatter,
    Table,
)
from tfgrpo.types import Estimate

# Controls, invisible and direction-changing characters, halves of surrogate pairs. Joiners and the
# two direction marks stay: scripts and emoji need them, and they move nothing else.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)

FEW = 100
"""Different characters that are replaced one after another, which is faster while they are few."""

# What the script reads of a column as it is.
_SAME = (
    "label", "kind", "to", "back", "where", "choice", "signed", "digits", "absent", "hint",
)  # fmt: skip


def visible(text: str) -> str:
    """The text with one kind of line break, and what cannot be seen written out: ⟨U+202E⟩."""
    joined = text.replace("\r\n", "\n").replace("\r", "\n")
    written = {char: f"⟨U+{ord(char):04X}⟩" for char in set(joined) if _UNSEEN.match(char)}
    if len(written) > FEW:
        return _UNSEEN.sub(lambda found: written[found.group()], joined)
    for char, shown in written.items():
        joined = joined.replace(char, shown)
    return joined


class Encoder:
    """One page as JSON values. Every string of a cell is kept once and named by its number.

    Texts are cut at `limit` characters; `cut` tells of which numbers, and how long they were.
    """

    def __init__(self, page: Page, limit: int) -> None:
        self._page = page
        self._limit = limit
        self._strings: dict[str, int] = {}
        self._cut: dict[int, int] = {}
        self._rows = {t.key: {key for key, _ in t.rows} for t in page.tables}

    def data(self) -> dict[str, Any]:
        page = self._page
        told = {
            "title": self._short(page.title),
            "note": self._short(page.note),
            "tables": {table.key: self._table(table) for table in page.tables},
            "views": [
                {
                    "key": view.key,
                    "title": view.title,
                    "blocks": [self._block(block) for block in view.blocks],
                }
                for view in page.views
            ],
            "stamps": [self._short(stamp) for stamp in page.stamps],
            "whole": page.whole_print,
        }
        return told | {"strings": list(self._strings), "cut": self._cut, "limit": self._limit}

    def _short(self, text: str) -> str:
        """A text that is no cell: a label, a heading."""
        return visible(text[: self._limit])

    def _put(self, text: str) -> int:
        kept = visible(text[: self._limit])
        if len(text) > self._limit:
            kept = f"{kept} …"
        number = self._strings.setdefault(kept, len(self._strings))
        if len(text) > self._limit:
            self._cut[number] = max(len(text), self._cut.get(number, 0))
        return number

    def _table(self, table: Table) -> dict[str, Any]:
        return {
            "noun": table.noun,
            "title": table.title,
            "columns": [self._column(column, table) for column in table.columns],
            "rows": [
                [self._put(key), *map(self._cell, table.columns, cells)]
                for key, cells in table.rows
            ],
        }

    def _column(self, column: Column[Any], table: Table) -> dict[str, Any]:
        if column.kind == "links":
            self._known(column.to)
        labels = [other.label for other in table.columns]
        scale = labels.index(column.scale) if column.scale else None
        told = {name: getattr(column, name) for name in _SAME}
        return told | {"tones": dict(column.tones), "scale": scale}

    def _cell(self, column: Column[Any], cell: Cell) -> Any:
        match cell:
            case None:
                return None
            case str():
                return self._put(cell)
            case Estimate():
                return _interval(cell)
            case tuple():
                return [
                    [self._put(link.key), *([self._put(link.note)] if link.note else [])]
                    for link in cell
                ]
            case _:
                return int(cell) if column.kind == "time" else _number(cell)

    def _block(self, block: Block) -> dict[str, Any]:
        match block:
            case Facts(items):
                rows = [[f.label, self._short(f.value), self._short(f.note)] for f in items]
                return {"kind": "facts", "items": rows}
            case Prose(title, text, exact):
                return {"kind": "prose", "title": title, "text": self._put(text), "exact": exact}
            case Bars():
                return self._bars(block)
            case Listing(table, note):
                self._known(table)
                return {"kind": "listing", "table": table, "note": self._short(note)}
            case Scatter():
                return self._scatter(block)
            case Compare(table, states):
                self._known(table)
                told = [
                    [self._short(s.label), [[self._put(k), self._put(t)] for k, t in s.texts]]
                    for s in states
                ]
                return {"kind": "compare", "table": table, "states": told}
            case Figure(title, svg, alt, note):
                texts = {"title": title, "alt": alt, "note": note}
                return {"kind": "figure", "svg": svg} | {
                    name: self._short(text) for name, text in texts.items()
                }
            case Findings():
                return self._findings(block)

    def _findings(self, block: Findings) -> dict[str, Any]:
        if block.table:
            self._known(block.table)
        return {
            "kind": "findings",
            "title": self._short(block.title),
            "table": block.table,
            "items": [self._finding(finding) for finding in block.items],
            "note": self._short(block.note),
        }

    def _finding(self, finding: Finding) -> list[Any]:
        marks = [
            [self._short(m.label), _interval(m.estimate), m.word, m.tone, m.digits]
            for m in finding.marks
        ]
        row = self._put(finding.row) if finding.row else None
        return [self._short(finding.title), self._short(finding.text), row, marks]

    def _bars(self, bars: Bars) -> dict[str, Any]:
        series = [
            [self._short(name), bars.tones.get(name, ""), [_number(v) or 0 for v in values]]
            for name, values in bars.series.items()
        ]
        labels = [self._short(label) for label in bars.labels]
        told = {"kind": "bars", "title": bars.title, "labels": labels, "series": series}
        return told | {"most": bars.most, "note": self._short(bars.note)}

    def _scatter(self, scatter: Scatter) -> dict[str, Any]:
        table = self._known(scatter.table)
        colour = [column.label for column in table.columns].index(scatter.colour)
        points = [
            [self._put(key), round(1000 * x), round(1000 * y)] for key, x, y in scatter.points
        ]
        if unknown := {key for key, _, _ in scatter.points} - self._rows[table.key]:
            raise ValueError(f"the map shows {min(unknown)!r}, which is no row of {table.key}.")
        told = {"kind": "scatter", "table": table.key, "colour": colour, "points": points}
        return told | {"note": self._short(scatter.note)}

    def _known(self, key: str) -> Table:
        found: Mapping[str, Table] = {table.key: table for table in self._page.tables}
        if key not in found:
            raise ValueError(f"the page has no table {key!r}; add it to its tables.")
        return found[key]


def _interval(estimate: Estimate) -> list[float | int | None]:
    ends = (estimate.value, estimate.low, estimate.high)
    return [*map(_number, ends), estimate.n]


def _number(value: float) -> float | None:
    """Six digits are more than is shown; what is not finite is undefined."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() else short
