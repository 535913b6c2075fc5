"""One look at a whole store of cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from cli import console, options
from cli.cases_options import STORE, Store, counted, opened

if TYPE_CHECKING:
    from memory.care.stats import Stats

BARS = " ▁▂▃▄▅▆▇█"
DAYS_SHOWN = 7


def stats(store: Store = STORE, json: options.Json = False) -> None:
    """What the store holds, what was read in it, and what that was worth."""
    with opened(store) as bank:
        found = bank.stats()
    if json:
        told = {"coverage": found.coverage, "hit_rate": found.hit_rate}
        console.print_json({**asdict(found), **told})
        return
    console.show(console.table("", ("", "value"), _rows(found), text=True))


def _rows(found: Stats) -> Iterator[tuple[str, str]]:
    yield "last event", f"{found.seq:,}"
    yield "cases", counted(found.states)
    yield "active: kinds", counted(found.kinds)
    yield "active: outcomes", counted(found.outcomes)
    yield "active: namespaces", counted(found.namespaces)
    if found.hit_rate is not None:
        yield "reads", f"{found.reads:,}, of which {100 * found.hit_rate:.0f}% showed something"
    if found.coverage is not None:
        shown = found.retrievable - found.never_shown
        yield "ever shown", f"{shown:,} of {found.retrievable:,} ({100 * found.coverage:.0f}%)"
    if found.blocked:
        yield "withheld by the guard", counted(found.blocked)
    utility = found.utility
    if utility.mean is not None:
        low_high = "" if utility.low is None else f" [{utility.low:+.3f}, {utility.high:+.3f}]"
        yield "utility", f"mean {utility.mean:+.3f}{low_high} over {utility.credited:,} cases"
        yield "utility from -1 to 1", f"|{_bars(utility.histogram)}|"
    if found.effect is not None:
        e = found.effect
        harm = "; it does harm, switch it off" if e.harmful else ""
        yield (
            "reward with memory - without",
            f"{e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}] over {e.items} problems{harm}",
        )
    for view in found.views:
        searched = ", searched" if view.active else ""
        name = console.safe(view.name or view.fingerprint[:12])
        yield (
            f"vectors {name}",
            f"{view.view}: {view.vectors:,}, {view.pending:,} missing{searched}",
        )
    yield "new cases by day", counted(dict(list(found.growth.items())[-DAYS_SHOWN:]))
    yield "bytes", counted(dict(found.bytes))


def _bars(numbers: tuple[int, ...]) -> str:
    """A histogram on one line; whatever is there at all has a bar."""
    most, top = max(numbers), len(BARS) - 1
    return "".join(BARS[-(-number * top // most) if most else 0] for number in numbers)
