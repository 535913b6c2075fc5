"""One case for several that say the same, kept by a rule or written by a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from cli.cases_options import (
    ACTOR,
    STORE,
    EmbedderName,
    Store,
    Yes,
    attached,
    everything,
    excerpt,
    listing,
    opened,
    preview,
    said,
)

if TYPE_CHECKING:
    from cli.cases_merge import Written
    from memory.care.consolidation import ConsolidationPlan
    from memory.store import CaseStore
    from memory.types import Case, Kind, View

MOST = 12
"""Cases that a model is shown at once; of more it forgets some."""


def consolidate(
    threshold: Annotated[
        float, typer.Option(help="Least cosine of any two cases that count as one.")
    ] = 0.98,
    model: Annotated[
        str | None,
        typer.Option(
            help="Who writes one text for each group, as in learn; by default one case is kept.",
            show_default=False,
        ),
    ] = None,
    more: options.Set = None,
    embedder: EmbedderName = None,
    yes: Yes = False,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Let one case stand for those that say the same; opposite outcomes are only told.

    Questions and plans must both be alike, and all numbers equal. The others are archived. A model
    is shown groups whose numbers differ, too; it writes what replaces them, or keeps them apart.
    """
    with opened(store, "rw" if yes else "ro") as bank:
        plan, before = consolidation(bank, embedder, threshold, model is not None), bank.seq
        written = None if model is None else _written(bank, plan, model, more)
        if yes:
            _carry_out(bank, plan, written, ACTOR if model is None else f"{ACTOR} with {model}")
        texts = {case.id: said(case) for case in everything(bank)}
    told: Mapping[int, Written] = written or {}
    if json:
        merges = [asdict(m) | (asdict(told[m.keep]) if m.keep in told else {}) for m in plan.merges]
        both = {"merges": merges, "contested": plan.contested, "before": before}
        console.print_json({"done": yes, **both})
        return
    rows = [
        (m.keep, " ".join(map(str, m.archive)),
         _told(told[m.keep]) if m.keep in told else excerpt(texts[m.keep]))
        for m in plan.merges
    ]  # fmt: skip
    columns = ("keep" if model is None else "in place of", "archive" if model is None else "and")
    console.show(listing((*columns, "what"), rows, texts=2))
    for group in plan.contested:
        numbers = " ".join(map(str, group))
        console.show(f"contested, left alone: {numbers}  {excerpt(texts[group[0]])}")
    done = [m for m in plan.merges if written is None or written[m.keep].text]
    if yes and done:
        console.note(f"To undo this and all later changes: tfgrpo memory revert {before}.")
    preview(yes, done)


def _written(
    bank: CaseStore, plan: ConsolidationPlan, model: str, more: list[str] | None
) -> dict[int, Written]:
    from cli.cases_merge import MergeSpec, write_merges
    from tfgrpo.settings import load

    spec = load(MergeSpec, None, options.overrides({"model": model}, more))
    return write_merges(bank, plan, spec)


def _carry_out(
    bank: CaseStore, plan: ConsolidationPlan, written: Mapping[int, Written] | None, actor: str
) -> None:
    """All merges of a plan, or those for which a text was written."""
    from memory.care.consolidation import consolidate as carry_out

    if written is None:
        carry_out(bank, plan, actor=actor)
        return
    merges = tuple(merge for merge in plan.merges if written[merge.keep].text)
    texts = {merge.members: written[merge.keep].text for merge in merges}
    versions = {number: plan.versions[number] for members in texts for number in members}

    def write(cases: Sequence[Case]) -> str:
        return texts[tuple(case.id for case in cases)]

    carry_out(bank, replace(plan, merges=merges, versions=versions), actor=actor, write=write)


def _told(written: Written) -> str:
    """In full: this is what the user agrees to."""
    if written.text:
        return console.safe(written.text)
    return console.safe(f"left alone: {written.refused or written.reason or 'keep'}")


def consolidation(
    bank: CaseStore, name: str | None, threshold: float, read: bool = False
) -> ConsolidationPlan:
    """Of cases with like questions and plans, and of insights with like texts.

    With `read`, for somebody who reads them: the numbers in them may differ.
    """
    from memory.care.consolidation import ConsolidationPlan, plan_consolidation
    from memory.search.reembed import complete
    from memory.sqlite.vectors import retrievable

    embedder = attached(bank, name)
    cases, utilities = everything(bank), bank.utilities()
    rules: dict[str, Any] = {"same_numbers": not read, "most": MOST if read else None}

    def plan(kind: Kind, *views: View) -> ConsolidationPlan:
        some = [case for case in retrievable(cases) if case.kind == kind]
        found = [complete(bank, embedder, view, some) for view in views]
        return plan_consolidation(cases, found, utilities, threshold=threshold, **rules)

    one, other = plan("case", "question", "plan"), plan("insight", "plan")
    return ConsolidationPlan(
        one.merges + other.merges,
        one.contested + other.contested,
        {**one.versions, **other.versions},
    )
