"""Making a store, and adding cases to it: one by its options, many as lines of JSON."""

from __future__ import annotations

import json as jsons
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from cli.cases_options import ACTOR, STORE, Note, Store, everything, opened
from memory.errors import InvalidCase
from memory.sqlite.codec import CONTENT_FIELDS, check_content, content_of, parents_of
from memory.types import CaseIn, Kind, Verdict
from tfgrpo.errors import ConfigError

if TYPE_CHECKING:
    from memory.types import AddResult

FIELDS = (*CONTENT_FIELDS, "uid")

Question = Annotated[str | None, typer.Option(help="The problem.", show_default=False)]
Plan = Annotated[str | None, typer.Option(help="How it was solved.", show_default=False)]
Answer = Annotated[str | None, typer.Option(show_default=False)]
Reward = Annotated[float | None, typer.Option(show_default=False)]
Outcome = Annotated[Verdict | None, typer.Option(show_default=False)]
Reason = Annotated[str | None, typer.Option(help="Why it went so.", show_default=False)]
Tag = Annotated[list[str] | None, typer.Option(help="May be repeated.", show_default=False)]


def init(store: Store = STORE, json: options.Json = False) -> None:
    """Make a store; one that is there is brought up to date, and its log is put away."""
    from memory.sqlite.database import FILE_NAME
    from memory.store import CaseStore

    fresh = not (store / FILE_NAME).exists()
    with CaseStore(store) as bank:
        cases = len(everything(bank))
    if json:
        console.print_json({"store": store, "created": fresh, "cases": cases})
        return
    what = "is a new store" if fresh else f"is a store of {cases:,} cases"
    console.show(f"{console.safe(store)} {what}.")


def add(
    source: Annotated[
        typer.FileText | None,
        typer.Argument(
            metavar="[FILE|-]",
            help="JSON lines, one case each; - is the standard input.",
            show_default=False,
        ),
    ] = None,
    question: Question = None,
    plan: Plan = None,
    answer: Answer = None,
    reward: Reward = None,
    outcome: Outcome = None,
    reason: Reason = None,
    tag: Tag = None,
    kind: Annotated[Kind, typer.Option()] = "case",
    ns: Annotated[str, typer.Option("--ns", help="Its namespace.")] = "default",
    item: Annotated[
        str | None, typer.Option(help="The problem it comes from.", show_default=False)
    ] = None,
    note: Note = "",
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Add one case, or one for each line of JSON. A case that is there is counted once more."""
    said = {
        "question": question, "plan": plan, "answer": answer, "reward": reward,
        "outcome": outcome, "reason": reason, "item_id": item,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if source is None:
        cases = [CaseIn(**given, ns=ns, kind=kind, tags=tuple(tag or ()))]
    elif given or tag:
        raise ConfigError("A case stands in the lines or in the options; leave one of them out.")
    else:
        cases = read_cases(_lines(source), {"ns": ns, "kind": kind})
    with opened(store, "rw") as bank:
        results = bank.add_many(cases, actor=ACTOR, reason=note)
    _tell_added(results, json)


def _lines(source: typer.FileText) -> list[str]:
    try:
        return source.read().split("\n")
    except UnicodeDecodeError as error:
        raise InvalidCase(f"This is no UTF-8 text ({error.reason}); convert it.") from error


def _tell_added(results: Sequence[AddResult], json: bool) -> None:
    rejected = [result.id for result in results if result.status == "rejected"]
    if json:
        console.print_json(results)
    else:
        for result in results:
            console.show(f"{result.status} {result.id}")
    if rejected:
        ids = " ".join(map(str, rejected))
        console.note(
            f"Deleted cases say exactly this; bring them back: tfgrpo memory restore {ids}."
        )
        raise typer.Exit(1)


def read_cases(lines: Iterable[str], defaults: Mapping[str, Any]) -> list[CaseIn]:
    """One case for each line that is not blank; `defaults` hold where a line says nothing.

    Raises InvalidCase, which names the line, for what no case can say.
    """
    cases = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            cases.append(_case({**defaults, **_object(line)}))
        except (InvalidCase, TypeError, ValueError) as error:
            raise InvalidCase(f"Line {number}: {error} Nothing was added; correct it.") from error
    return cases


def _object(line: str) -> dict[str, Any]:
    try:
        row = jsons.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise InvalidCase("It is no JSON object.")
    if unknown := sorted(set(row) - set(FIELDS)):
        raise InvalidCase(f"A case has no {', '.join(unknown)}, but {', '.join(FIELDS)}.")
    return row


def _case(row: Mapping[str, Any]) -> CaseIn:
    tags, parents = row.get("tags", []), row.get("parents", [])
    if not isinstance(tags, list) or not isinstance(parents, list):
        raise InvalidCase("Its tags or parents are no list; parents are [[ID, RELATION], ...].")
    try:
        case = CaseIn(**{**row, "tags": tuple(tags), "parents": parents_of(parents)})
        check_content(content_of(case))
    except (TypeError, ValueError) as error:
        raise InvalidCase(f"A value is of no use here ({error}).") from error
    return case
