"""What became of a store of cases: its events, its named states, and the way back."""

from __future__ import annotations

import json as jsons
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from cli.cases_options import (
    ACTOR,
    STORE,
    Store,
    Yes,
    excerpt,
    listing,
    opened,
    preview,
    reference,
    said,
    when,
)

if TYPE_CHECKING:
    from rich.table import Table

    from memory.sqlite.history import StoreState
    from memory.store import CaseStore
    from memory.types import Case, Event

Ref = Annotated[str, typer.Argument(help="The name of a snapshot, or the number of an event.")]


def history(
    case: Annotated[
        int | None, typer.Argument(metavar="[ID]", help="Of this case only.", show_default=False)
    ] = None,
    since: Annotated[int, typer.Option(help="Only events after this one.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="How many, the last ones.")] = 50,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Who changed what, when and why."""
    with opened(store) as bank:
        events = bank.history(case, since=since)
    last, earlier = events[-limit:], max(0, len(events) - limit)
    if json:
        console.print_json({"events": [event_row(e) for e in last], "earlier": earlier})
        return
    console.show(event_table(last))
    if earlier:
        console.note(f"{earlier:,} earlier events; raise --limit to see them.")


def event_row(event: Event) -> dict[str, Any]:
    """An event with its cases as objects, and what differs between them."""
    before, after = _case(event.before), _case(event.after)
    return {**asdict(event), "before": before, "after": after, "fields": _differing(before, after)}


def _case(text: str | None) -> dict[str, Any] | None:
    return None if text is None else dict(jsons.loads(text))


def _differing(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[str]:
    if before is None or after is None:
        return []
    return [k for k in sorted(after) if before.get(k) != after[k] and k != "version"]


def event_table(events: Iterable[Event]) -> Table:
    rows = []
    for event in events:
        row = event_row(event)
        why = "; ".join(part for part in (", ".join(row["fields"]), event.reason) if part)
        who, op = console.safe(event.actor), console.safe(event.op)
        case = "" if event.case_id is None else event.case_id
        rows.append((event.seq, when(event.ts), who, op, case, console.safe(why)))
    return listing(("event", "when (UTC)", "by", "did", "case", "what, why"), rows)


def diff(
    a: Ref,
    b: Annotated[
        str | None, typer.Argument(help="Another one; by default now.", show_default=False)
    ] = None,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """What differs from one state of the store to another."""
    with opened(store) as bank, bank.reading():
        old = bank.at(reference(a))
        new = bank.at(bank.seq if b is None else reference(b))
    told = difference(old, new)
    if json:
        console.print_json(told)
        return
    for sign, cases, colour in (("-", told["removed"], "red"), ("+", told["added"], "green")):
        for case in cases:
            console.show(f"[{colour}]{sign} {case.id} {case.outcome}: {excerpt(said(case))}[/]")
    for row in told["changed"]:
        for name, (before, after) in row["fields"].items():
            console.show(f"[red]- {row['id']} {name}: {console.safe(before)}[/]")
            console.show(f"[green]+ {row['id']} {name}: {console.safe(after)}[/]")
    for move in told["utility"]:
        before, after = move.before, move.after
        console.show(
            f"  {move.case_id} credits: {before.n} of mean {before.mean:+.2f}, then {after.n} of "
            f"mean {after.mean:+.2f}"
        )


def difference(old: StoreState, new: StoreState) -> dict[str, Any]:
    """The same as `CaseStore.diff`, with what the cases say."""
    from memory.sqlite.snapshots import difference as compare

    found = compare(old, new)
    changed = [
        {"id": c.id, "fields": {n: _both(old.cases[c.id], new.cases[c.id], n) for n in c.fields}}
        for c in found.changed
    ]
    return {
        "a": found.a,
        "b": found.b,
        "added": [new.cases[number] for number in found.added],
        "removed": [old.cases[number] for number in found.removed],
        "changed": changed,
        "utility": found.utility,
    }


def _both(before: Case, after: Case, name: str) -> tuple[Any, Any]:
    return getattr(before, name), getattr(after, name)


def snapshot(
    name: Annotated[str, typer.Argument(help="A name with a letter in it.")],
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Name the present state, so that it can be read, compared and gone back to."""
    with opened(store, "rw") as bank:
        made = bank.snapshot(name)
    if json:
        console.print_json(made)
        return
    console.show(f"{console.safe(made.name)} is the state after event {made.seq}: {made.digest}")


def snapshots(store: Store = STORE, json: options.Json = False) -> None:
    """List the named states."""
    with opened(store) as bank:
        found = bank.snapshots()
    if json:
        console.print_json(found)
        return
    rows = [
        (s.seq, when(s.created), console.safe(s.digest[:12]), console.safe(s.name)) for s in found
    ]
    console.show(listing(("event", "when (UTC)", "digest", "name"), rows))


def revert(to: Ref, yes: Yes = False, store: Store = STORE, json: options.Json = False) -> None:
    """Make all cases what they were, by new events. What was credited stays credited."""
    with opened(store, "rw" if yes else "ro") as bank:
        changes = bank.revert(reference(to), dry_run=not yes, actor=ACTOR)
        told = _told(bank, [change.id for change in changes.changes])
    if json:
        console.print_json({"done": yes, "changes": changes.changes, "seq": changes.seq})
        return
    rows = [(c.id, ", ".join(c.fields), excerpt(told[c.id])) for c in changes.changes]
    console.show(listing(("id", "fields", "what"), rows, texts=2))
    preview(yes, rows)


def _told(bank: CaseStore, ids: Iterable[int]) -> dict[int, str]:
    return {number: said(bank.get(number)) for number in ids}
