"""The subtasks and tool calls of episodes, which are read in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from cli.cases_options import ACTOR, STORE, Namespace, Store, excerpt, listing, opened
from tfgrpo.errors import ConfigError

if TYPE_CHECKING:
    from memory.store import CaseStore
    from memory.types import Kind

MARK = "/episodes/"
EVERYTHING = 2**31
"""Characters: no episode is told in part."""


def episodes(
    name: Annotated[
        str | None, typer.Argument(help="One episode, step by step.", show_default=False)
    ] = None,
    ns: Namespace = None,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """List what agents planned and called, or tell one episode in full."""
    with opened(store) as bank, bank.reading():
        known = [
            _told(bank, place, closed)
            for place, closed in places(bank, ns).items()
            if name is None or place.endswith(f"{MARK}{name}")
        ]
    if name is not None and len(known) != 1:
        raise ConfigError(
            f"{len(known)} episodes are named {name}; name the namespace of one with --ns, as in: "
            "tfgrpo memory episodes."
        )
    if json:
        console.print_json(known if name is None else known[0])
    elif name is None:
        _list(known)
    else:
        _tell(known[0])


def places(bank: CaseStore, ns: str | None) -> dict[str, bool]:
    """The namespaces of episodes, and whether all that is in them was put away."""
    from memory.types import CaseFilter

    kinds: tuple[Kind, ...] = ("subtask", "tool")
    found: dict[str, bool] = {}
    for kind in kinds:
        for case in bank.cases(CaseFilter(ns=ns, kind=kind, states=("active", "archived"))):
            if MARK in case.ns:
                found[case.ns] = found.get(case.ns, True) and case.state != "active"
    return dict(sorted(found.items()))


def _told(bank: CaseStore, place: str, closed: bool) -> dict[str, Any]:
    from memory.agent.episodes import Episode

    ns, _, name = place.rpartition(MARK)
    episode = Episode(bank, name, ns=ns, actor=ACTOR)
    told = {"goal": episode.goal, "steps": episode.subtasks(), "calls": episode.calls()}
    return {"name": name, "ns": ns, "closed": closed, **told}


def _list(known: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (console.safe(e["name"]), console.safe(e["ns"]), "closed" if e["closed"] else "open",
         f"{sum(step.state == 'done' for step in e['steps'])}/{len(e['steps'])}",
         len(e["calls"]), excerpt(e["goal"] or ""))
        for e in known
    ]  # fmt: skip
    columns = ("episode", "namespace", "", "steps done", "calls", "goal")
    console.show(listing(columns, rows))


def _tell(episode: Mapping[str, Any]) -> None:
    from memory.agent.transcript import render_calls, render_plan

    parts = [render_plan(episode["goal"], episode["steps"], EVERYTHING, len)]
    parts.append(render_calls(episode["calls"], EVERYTHING, len))
    console.show(console.safe("\n".join(part for part in parts if part)))
