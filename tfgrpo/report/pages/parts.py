"""What a page is made of: tables whose rows link to each other, and views that show them.

Every row of every table has a page of its own, with all of its columns and, by back links, the
rows of other tables that point at it. A page is data alone; `shell` turns it into a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from tfgrpo.report.pages.findings import Figure, Findings
from tfgrpo.types import Estimate

Kind = Literal["text", "tag", "word", "number", "time", "estimate", "links"]
Tone = Literal["good", "bad", "plain"]
Where = Literal["everywhere", "table", "page"]
NO_TONES: Mapping[str, Tone] = MappingProxyType({})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Link:
    """To the row `key` of the table that the column names; `note` tells what the link is."""

    key: str
    note: str = ""


Cell: TypeAlias = str | float | Estimate | tuple[Link, ...] | None
"""None is absent, which is not 0 and not an empty text; an empty tuple links to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[T]):
    """One thing that a table tells of its items.

    Attributes:
        label: its heading.
        of: reads it off an item, in the type that belongs to `kind`: str for text (long), tag (one
            of few) and word (short); float for number and time (seconds since the epoch, shown in
            UTC); Estimate; a tuple of Link for links.
        kind: how it is shown and sorted.
        to: of links: the key of the table that they lead to.
        back: of links: heading of this table's rows on the page of the row that they lead to.
        where: `page` shows it on the row's own page alone, `table` in the table too, and
            `everywhere` also where the row is listed on the page of another one.
        choice: of tags: offered as a filter.
        tones: of tags: which are good and which are bad; others are plain.
        signed: of numbers and estimates: show the sign, and of estimates where 0 lies.
        digits: of numbers and estimates: how many stand behind the point; by default two, and
            none where a number is whole.
        scale: of signed estimates: label of the tag column whose values are drawn to scales of
            their own, such as a column of measures in different units.
        absent: what is shown in place of None.
        hint: explains the heading.
    """

    label: str
    of: Callable[[T], Cell]
    kind: Kind = "word"
    to: str = ""
    back: str = ""
    where: Where = "everywhere"
    choice: bool = False
    tones: Mapping[str, Tone] = field(default_factory=lambda: NO_TONES)
    signed: bool = False
    digits: int | None = None
    scale: str = ""
    absent: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with a key each. `noun` names one row; `title` is the column that speaks for it."""

    key: str
    noun: str
    title: int
    columns: tuple[Column[Any], ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def table(
    key: str,
    noun: str,
    columns: tuple[Column[T], ...],
    items: Iterable[T],
    key_of: Callable[[T], str],
    *,
    title: str,
) -> Table:
    """A table of `items`, one row each; `title` is the label of the column that speaks for a row.

    Raises ValueError if two items have the same key, or no column has that label.
    """
    rows = tuple((key_of(item), tuple(column.of(item) for column in columns)) for item in items)
    if len({name for name, _ in rows}) < len(rows):
        raise ValueError(f"two rows of the table {key} have the same key; give each its own.")
    return Table(key, noun, [c.label for c in columns].index(title), columns, rows)


def numbered(
    key: str, noun: str, columns: tuple[Column[T], ...], items: Iterable[T], *, title: str
) -> Table:
    """A table whose rows have nothing but their number for a key."""
    numbers = count(1)
    return table(key, noun, columns, items, lambda _: str(next(numbers)), title=title)


@dataclass(frozen=True, slots=True)
class Fact:
    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """A few numbers to know first."""

    items: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Prose:
    """A text under a heading; `exact` keeps its spaces and sets it as it was sent."""

    title: str
    text: str
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """Stacked bars: `series` maps each name to its value at every label; `most` is the top."""

    title: str
    labels: tuple[str, ...]
    series: Mapping[str, tuple[float, ...]]
    tones: Mapping[str, Tone] = field(default_factory=lambda: NO_TONES)
    most: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A table to search, filter and sort. `note` stands above it."""

    table: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Scatter:
    """Rows of a table as points; `colour` is the label of the tag column that colours them.

    `points` holds (key, x, y) with coordinates in [0, 1], y upward.
    """

    table: str
    colour: str
    points: tuple[tuple[str, float, float], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """Named texts as they stood at one time; `texts` holds (key, text)."""

    label: str
    texts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """What changed between any two of the states; keys lead to the rows of `table`."""

    table: str
    states: tuple[State, ...]


Block: TypeAlias = Facts | Prose | Bars | Listing | Scatter | Compare | Figure | Findings


@dataclass(frozen=True, slots=True)
class View:
    """One entry of the navigation."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """`note` stands under the title. Tables that no view lists are reached by links.

    `stamps` stand above every view. `whole_print` prints all views, not the one that is open.
    """

    title: str
    note: str
    tables: tuple[Table, ...]
    views: tuple[View, ...]
    stamps: tuple[str, ...] = ()
    whole_print: bool = False
