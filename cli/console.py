"""What people see: results to stdout, progress to stderr, model-made text made harmless."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from tfgrpo.canonical import canonical_json
from tfgrpo.types import Comparison, Estimate

# Without `emoji=False` a ":key:" in a lesson or in a JSON document would become a picture.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

_CONTROLS = {code: None for code in (*range(32), 127) if code != ord("\n")}


def safe(text: object) -> str:
    """Text of models and of users for a terminal: no control codes, no markup, line breaks kept."""
    spaced = str(text).replace("\t", " ")
    if spaced.isascii():
        return escape(spaced.translate(_CONTROLS))
    gone = {c for c in set(spaced) if c != "\n" and unicodedata.category(c)[0] == "C"}
    kept = re.sub(f"[{re.escape(''.join(gone))}]+", "", spaced) if gone else spaced
    return escape(kept)


def print_json(value: object) -> None:
    """One JSON document on stdout, for programs."""
    out.print(json.dumps(json.loads(canonical_json(value)), indent=2), markup=False, soft_wrap=True)


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, text: bool = False
) -> Table:
    """A table whose first column is text, and whose others are numbers, or `text` as well."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        number = i > 0 and not text
        made.add_column(
            column,
            justify="right" if number else "left",
            no_wrap=number,
            overflow="ellipsis" if number else "fold",  # the end of a path is what tells it apart
        )
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    return made


def percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def plain(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def points(comparison: Comparison) -> str:
    """A paired difference of shares, in points, with its interval."""
    d = comparison.difference
    return f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def count(number: float) -> str:
    """1234567 as 1.2M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:g}"


def progress() -> Progress:
    """Live progress on stderr; silent where stderr is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def be_quiet() -> None:
    """For worker processes, whose live progress would run through their parent's."""
    err.quiet = True


def note(text: str) -> None:
    """A line about what is going on, for people; never broken, so that paths stay whole."""
    err.print(text, soft_wrap=True)


def show(renderable: Any) -> None:
    """A result. Text is never broken into lines: a prompt is shown as it is sent."""
    out.print(renderable, soft_wrap=isinstance(renderable, str))
