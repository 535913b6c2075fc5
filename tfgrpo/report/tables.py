"""A verdict as tables, one CSV file each: what every figure shows, in numbers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable

from tfgrpo.report.pages.encoding import visible
from tfgrpo.report.table_rows import TABLES, Row, Value
from tfgrpo.verdict.record import Verdict

FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the start of a formula."""


def tables(verdict: Verdict) -> dict[str, str]:
    """File name to CSV text; what has no rows is left out.

    Shares are in [0, 1]; empty cells are undefined, which is not 0; lists are JSON. Texts that a
    spreadsheet would take for a formula begin with an apostrophe. Every row carries the verdict's
    stamps.
    """
    stamps = " ".join(verdict.stamps)
    found = {name: list(rows(verdict)) for name, rows in TABLES.items()}
    return {name: _csv(rows, stamps) for name, rows in found.items() if rows}


def cell(value: Value) -> str:
    """One value as it stands in a file: numbers exactly, texts harmless."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str):
        return repr(value)
    text = visible(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _csv(rows: Iterable[Row], stamps: str) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for n, row in enumerate(rows):
        if n == 0:
            writer.writerow([*row, "stamps"])
        writer.writerow([*map(cell, row.values()), cell(stamps)])
    return buffer.getvalue()
