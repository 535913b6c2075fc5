"""All that a store knows of one case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from cli.bank_page import estimate
from cli.cases_history import event_row, event_table
from cli.cases_options import STORE, Id, Store, everything, excerpt, opened, said
from memory.read.guard import NEAR

if TYPE_CHECKING:
    from memory.store import CaseStore
    from memory.types import Case

MOST_NEAR = 5
_ORIGIN = (
    "ns", "run_id", "step", "group_id", "rollout_id", "item_id", "also_items", "dataset", "split",
    "model", "verifier", "prompt_sha", "tokens", "tags", "uid",
)  # fmt: skip


def show(
    case: Id,
    near: Annotated[
        float, typer.Option(min=-1, max=1, help="Cosine from which questions count as alike.")
    ] = NEAR,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """One case: what it says, where it is from, what it was worth, its kin and its history."""
    with opened(store) as bank, bank.reading():
        found, known, events = bank.get(case), everything(bank), bank.history(case)
        told = {
            "case": found,
            **worth(bank, found, known),
            **last_read(bank, case),
            "children": [c.id for c in known if case in {parent.id for parent in c.parents}],
            "near": [{"id": i, "cosine": cosine} for i, cosine in alike(bank, found, near)],
            "history": [event_row(event) for event in events],
        }
    if json:
        console.print_json(told)
        return
    _print(found, told, {c.id: c for c in known})
    console.show(event_table(events))


def worth(bank: CaseStore, case: Case, known: Sequence[Case]) -> dict[str, Any]:
    """What was credited, and what is believed of it: shrunk to the prior, with 95%."""
    from memory.credit import Utility
    from memory.sqlite.utility import priors

    utility, prior = bank.utilities().get(case.id, Utility()), priors(known)[case.id]
    return {"utility": utility, "prior": prior, "estimate": estimate(utility, prior)}


def last_read(bank: CaseStore, case_id: int) -> dict[str, Any]:
    """How many reads showed a case, and the last of them."""
    reads = bank.retrievals.ids(case_id=case_id)
    if not reads:
        return {"shown": 0, "last_read": None}
    read = bank.retrievals.get(reads[-1])
    told = {"retrieval": reads[-1], "run_id": read.run_id, "rollout_id": read.rollout_id}
    return {"shown": len(reads), "last_read": told}


def alike(bank: CaseStore, case: Case, least: float) -> list[tuple[int, float]]:
    """Active cases whose questions are near by the stored vectors, nearest first."""
    import numpy as np

    from memory.sqlite.vectors import retrievable

    fingerprint = bank.vectors.active
    if fingerprint is None or not case.question.strip():
        return []
    own, _, pending = bank.vectors.get(fingerprint, "question", [case])
    others = [c for c in retrievable(bank.cases()) if c.id != case.id]
    matrix, found, _ = bank.vectors.get(fingerprint, "question", others)
    if pending or not found:
        return []
    cosines = matrix.astype(np.float64) @ own[0].astype(np.float64)
    near = [(c.id, float(x)) for c, x in zip(found, cosines, strict=True) if x >= least]
    return sorted(near, key=lambda pair: (-pair[1], pair[0]))[:MOST_NEAR]


def _print(case: Case, told: dict[str, Any], known: dict[int, Case]) -> None:
    pinned = ", pinned" if case.pinned else ""
    console.show(
        f"[bold]case {case.id}[/] {case.kind}, {case.outcome}, {case.state}{pinned}, version "
        f"{case.version}, met {case.seen_count} times"
    )
    for name in ("question", "plan", "answer", "reason"):
        if text := getattr(case, name):
            console.show(f"[bold]{name}[/]\n{console.safe(text)}")
    reward = "unknown" if case.reward is None else f"{case.reward:g}"
    console.show(f"[bold]reward[/] {reward}   [bold]utility[/] {_utility(told)}")
    console.show(f"[bold]shown[/] {_shown(told)}")
    origin = {name: getattr(case, name) for name in _ORIGIN}
    for name, value in origin.items():
        if value not in (None, "", ()):
            text = ", ".join(value) if isinstance(value, tuple) else value
            console.show(f"[bold]{name}[/] {console.safe(text)}")
    for parent in case.parents:
        console.show(f"{console.safe(parent.relation)} {_kin(parent.id, known)}")
    for child in told["children"]:
        console.show(f"parent of {_kin(child, known)}")
    for row in told["near"]:
        console.show(f"near ({row['cosine']:.3f}) {_kin(row['id'], known)}")


def _utility(told: dict[str, Any]) -> str:
    if told["estimate"] is None:
        return f"untested, prior {told['prior']:+.2f}"
    utility = told["utility"]
    return (
        f"{console.plain(told['estimate'])} from {utility.n} credits of mean {utility.mean:+.2f}, "
        f"prior {told['prior']:+.2f}"
    )


def _shown(told: dict[str, Any]) -> str:
    last = told["last_read"]
    if last is None:
        return "never"
    by = " ".join(console.safe(v) for v in (last["run_id"], last["rollout_id"]) if v)
    return f"{told['shown']} times, last in retrieval {last['retrieval']} {by}".rstrip()


def _kin(number: int, known: dict[int, Case]) -> str:
    return f"{number} {excerpt(said(known[number])) if number in known else '(purged)'}"
