"""What a store of cases may do without."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from cli.cases_options import (
    ACTOR,
    STORE,
    EmbedderName,
    Store,
    Yes,
    embedder_of,
    everything,
    excerpt,
    listing,
    opened,
    preview,
    said,
)
from tfgrpo.errors import ConfigError

if TYPE_CHECKING:
    from memory.care.consolidation import ConsolidationPlan
    from memory.store import CaseStore
    from memory.types import Kind, View


def forget(
    least: Annotated[
        float | None,
        typer.Option(
            help="Credited cases whose utility is below this by all we know.", show_default=False
        ),
    ] = None,
    unshown: Annotated[
        float | None,
        typer.Option(help="Cases that were not shown once in so many days.", show_default=False),
    ] = None,
    age: Annotated[
        float | None,
        typer.Option(help="Cases that have not changed for so many days.", show_default=False),
    ] = None,
    capacity: Annotated[
        int | None,
        typer.Option(
            help="The least useful ones above so many in a namespace.", show_default=False
        ),
    ] = None,
    grace: Annotated[float, typer.Option(help="Days in which a case is safe.")] = 0.0,
    z: Annotated[float, typer.Option(help="Standard errors of doubt; below 0, in favour.")] = 1.0,
    yes: Yes = False,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Archive what is of no use by the rules that are given; `restore` brings it back."""
    from memory.care.upkeep import DAY, ForgetPolicy, forget_plan
    from memory.care.upkeep import forget as carry_out

    if (least, unshown, age, capacity) == (None,) * 4:
        raise ConfigError("Give a rule: --least, --unshown, --age or --capacity.")
    days = {"unshown": unshown, "age": age, "grace": grace}
    times: dict[str, Any] = {k: None if v is None else v * DAY for k, v in days.items()}
    try:
        policy = ForgetPolicy(least=least, capacity=capacity, z=z, **times)
    except ValueError as error:
        raise ConfigError(f"No rule can be like this: {error}") from error
    with opened(store, "rw" if yes else "ro") as bank:
        plan = forget_plan(bank, policy, time())
        if yes:
            carry_out(bank, plan, actor=ACTOR)
        texts = {case.case_id: said(bank.get(case.case_id)) for case in plan.archive}
    if json:
        console.print_json({"done": yes, "archive": plan.archive, "over": plan.over})
        return
    rows = [(c.case_id, c.reason, excerpt(texts[c.case_id])) for c in plan.archive]
    console.show(listing(("archive", "because", "what"), rows, texts=2))
    for ns, excess in plan.over.items():
        console.note(f"{console.safe(ns)} keeps {excess} too many, because they are protected.")
    preview(yes, rows)


def consolidate(
    threshold: Annotated[
        float, typer.Option(help="Least cosine of any two cases that count as one.")
    ] = 0.98,
    embedder: EmbedderName = None,
    yes: Yes = False,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Let one case stand for those that say the same; opposite outcomes are only told.

    Questions and plans must both be alike, and all numbers equal. The others are archived.
    """
    from memory.care.consolidation import consolidate as carry_out

    with opened(store, "rw" if yes else "ro") as bank:
        plan, before = consolidation(bank, embedder, threshold), bank.seq
        if yes:
            carry_out(bank, plan, actor=ACTOR)
        texts = {case.id: said(case) for case in everything(bank)}
    if json:
        told = {"merges": plan.merges, "contested": plan.contested, "before": before}
        console.print_json({"done": yes, **told})
        return
    rows = [(m.keep, " ".join(map(str, m.archive)), excerpt(texts[m.keep])) for m in plan.merges]
    console.show(listing(("keep", "archive", "what"), rows, texts=2))
    for group in plan.contested:
        numbers = " ".join(map(str, group))
        console.show(f"contested, left alone: {numbers}  {excerpt(texts[group[0]])}")
    if yes and rows:
        console.note(f"To undo this and all later changes: tfgrpo memory revert {before}.")
    preview(yes, rows)


def consolidation(bank: CaseStore, name: str | None, threshold: float) -> ConsolidationPlan:
    """Of cases with like questions and plans, and of insights with like texts."""
    from memory.care.consolidation import ConsolidationPlan, plan_consolidation
    from memory.search.reembed import attach, complete
    from memory.sqlite.vectors import retrievable

    embedder = embedder_of(bank, name)
    attach(bank, embedder)
    cases, utilities = everything(bank), bank.utilities()

    def plan(kind: Kind, *views: View) -> ConsolidationPlan:
        some = [case for case in retrievable(cases) if case.kind == kind]
        found = [complete(bank, embedder, view, some) for view in views]
        return plan_consolidation(cases, found, utilities, threshold=threshold)

    one, other = plan("case", "question", "plan"), plan("insight", "plan")
    return ConsolidationPlan(
        one.merges + other.merges,
        one.contested + other.contested,
        {**one.versions, **other.versions},
    )
