"""Changing cases by hand, and taking them away for now or for ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from cli.cases_add import Answer, Outcome, Plan, Question, Reason, Reward, Tag
from cli.cases_options import (
    ACTOR,
    STORE,
    Id,
    Ids,
    Note,
    Store,
    Yes,
    case_table,
    opened,
    preview,
)
from tfgrpo.errors import ConfigError

if TYPE_CHECKING:
    from memory.store import CaseStore
    from memory.types import Case, ChangeSet


def edit(
    case: Id,
    question: Question = None,
    plan: Plan = None,
    answer: Answer = None,
    reward: Reward = None,
    outcome: Outcome = None,
    reason: Reason = None,
    tag: Tag = None,
    version: Annotated[
        int | None,
        typer.Option(
            help="The version that you read; a later change is refused then.", show_default=False
        ),
    ] = None,
    note: Note = "",
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Change what a case says. Tags are replaced all together."""
    said = {
        "question": question, "plan": plan, "answer": answer, "reward": reward,
        "outcome": outcome, "reason": reason, "tags": None if tag is None else tuple(tag),
    }  # fmt: skip
    fields = {name: value for name, value in said.items() if value is not None}
    if not fields:
        raise ConfigError("Nothing to change; give what it is to say, such as --plan TEXT.")
    with opened(store, "rw") as bank:
        before = bank.get(case)
        expected = before.version if version is None else version
        after = bank.update(case, fields, expected_version=expected, actor=ACTOR, reason=note)
    if json:
        console.print_json(after)
        return
    changed = [name for name in fields if getattr(before, name) != getattr(after, name)]
    what = f"changed {', '.join(changed)}" if changed else "it said this already"
    console.show(f"case {case} is at version {after.version}: {what}.")


def pin(ids: Ids, store: Store = STORE, json: options.Json = False) -> None:
    """Protect cases from being archived, deleted, purged, forgotten or merged away."""
    with opened(store, "rw") as bank:
        _tell("pin", bank.pin(ids, actor=ACTOR), json)


def unpin(ids: Ids, store: Store = STORE, json: options.Json = False) -> None:
    """Take that protection back."""
    with opened(store, "rw") as bank:
        _tell("unpin", bank.pin(ids, actor=ACTOR, pinned=False), json)


def restore(ids: Ids, note: Note = "", store: Store = STORE, json: options.Json = False) -> None:
    """Bring back what was removed, archived or forgotten."""
    with opened(store, "rw") as bank:
        _tell("restore", bank.restore(ids, actor=ACTOR, reason=note), json)


def _tell(op: str, changes: ChangeSet, json: bool) -> None:
    ids = [change.id for change in changes.changes]
    if json:
        console.print_json({"op": op, "ids": ids, "seq": changes.seq})
        return
    console.show(f"{op}: {' '.join(map(str, ids)) or 'nothing to do'}")


def rm(
    ids: Ids,
    archive: Annotated[
        bool, typer.Option("--archive", help="Keep it unused; equal cases still count for it.")
    ] = False,
    note: Note = "",
    yes: Yes = False,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Remove cases; `restore` brings them back, and equal ones are rejected until then."""

    def remove(bank: CaseStore) -> ChangeSet:
        act = bank.archive if archive else bank.delete
        return act(ids, actor=ACTOR, reason=note)

    _destroyed("archived" if archive else "deleted", ids, remove, store, yes, json)


def purge(
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="[ID...]", help="None: finish a purge.", show_default=False),
    ] = None,
    note: Note = "",
    yes: Yes = False,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Erase cases for ever, also from the history; exports and backups are not touched."""

    def erase(bank: CaseStore) -> ChangeSet:
        return bank.purge(ids or [], confirm=True, actor=ACTOR, reason=note)

    _destroyed("purged", ids or [], erase, store, yes, json)


def _destroyed(
    what: str,
    ids: Sequence[int],
    act: Callable[[CaseStore], ChangeSet],
    store: Path,
    yes: bool,
    json: bool,
) -> None:
    """Show the cases, refuse pinned ones, and go on only if that was asked for."""
    with opened(store, "rw" if yes else "ro") as bank:
        cases = [bank.get(number) for number in dict.fromkeys(ids)]
        _refuse_pinned(cases)
        if yes:
            act(bank)
    if json:
        told: dict[str, Any] = {"what": what, "done": yes, "ids": [case.id for case in cases]}
        console.print_json(told)
        return
    console.show(f"{what}:" if yes else f"to be {what}:")
    console.show(case_table(cases))
    if ids:
        preview(yes, cases)
    else:
        console.note("A purge was finished." if yes else "To finish a purge, add --yes.")


def _refuse_pinned(cases: Sequence[Case]) -> None:
    pinned = " ".join(str(case.id) for case in cases if case.pinned)
    if pinned:
        raise ConfigError(f"Pinned: {pinned}. Unpin first: tfgrpo memory unpin {pinned}.")
