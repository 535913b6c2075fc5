"""What one step of learning leaves in a bank, applied in one transaction and once.

The step is written down by its caller first. A kill before, while or after it is applied is mended
by applying it again: a bank knows up to which step it has heard of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from memory.sqlite.codec import sha256
from memory.types import (
    Case,
    CaseFilter,
    CaseIn,
    Hit,
    Outcome,
    Parent,
    Retrieval,
)

if TYPE_CHECKING:
    from memory.store import CaseStore


@dataclass(frozen=True, slots=True)
class CreditedRead:
    """A read and what came of it; see `Outcome` for what None means."""

    read: Retrieval
    reward: float | None
    advantage: float | None = None
    baseline: float | None = None


@dataclass(frozen=True, slots=True)
class Insight:
    """A lesson as it stands after the step, under its own name in the run.

    `items` are those whose cases it was drawn from; `model` wrote it.
    """

    name: str
    text: str
    items: tuple[str, ...] = ()
    model: str | None = None


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Cases to keep, reads to credit, and all insights that hold after step `step` of a run."""

    run_id: str
    step: int
    ns: str
    cases: tuple[CaseIn, ...] = ()
    reads: tuple[CreditedRead, ...] = ()
    insights: tuple[Insight, ...] = ()


def to_row(step: StepMemory) -> dict[str, Any]:
    """As JSON can hold it; `from_row` is the inverse."""
    return asdict(step)


def from_row(row: Mapping[str, Any]) -> StepMemory:
    return StepMemory(
        row["run_id"],
        row["step"],
        row["ns"],
        tuple(_case(case) for case in row["cases"]),
        tuple(CreditedRead(**{**read, "read": _retrieval(read["read"])}) for read in row["reads"]),
        tuple(Insight(**{**found, "items": tuple(found["items"])}) for found in row["insights"]),
    )


def _case(row: Mapping[str, Any]) -> CaseIn:
    parents = tuple(Parent(**parent) for parent in row["parents"])
    return CaseIn(**{**row, "tags": tuple(row["tags"]), "parents": parents})


def _retrieval(row: Mapping[str, Any]) -> Retrieval:
    return Retrieval(**{**row, "hits": tuple(Hit(**hit) for hit in row["hits"])})


def ingest(store: CaseStore, step: StepMemory, *, actor: str) -> bool:
    """Apply `step`; returns whether it was new to the bank.

    Steps of a run come in order: one at or below the last that was applied is left alone.
    """
    with store.transaction():
        if step.step <= store.last_step(step.run_id):
            return False
        reason = f"step {step.step}"
        store.add_many(step.cases, actor=actor, reason=reason)
        outcomes = [
            Outcome(store.retrievals.log(r.read), r.reward, r.advantage, r.baseline)
            for r in step.reads
        ]
        store.retrievals.credit(outcomes, actor=actor)
        _settle_insights(store, step, actor)
        store.mark_step(step.run_id, step.step)
    return True


def _settle_insights(store: CaseStore, step: StepMemory, actor: str) -> None:
    """Add new insights, archive what no longer holds, restore what holds again."""
    everything = CaseFilter(kind="insight", run_id=step.run_id, states=("active", "archived"))
    known = {case.uid: case for case in store.cases(everything)}
    wanted = {_uid(step.run_id, insight): insight for insight in step.insights}
    gone = [c.id for u, c in known.items() if c.state == "active" and u not in wanted]
    back = [known[u].id for u in wanted if u in known and known[u].state == "archived"]
    store.archive([i for i in gone if not store.get(i).pinned], actor=actor, reason="left library")
    store.restore(back, actor=actor, reason="back in library")
    told = {case.plan for case in store.cases(CaseFilter(ns=step.ns, kind="insight"))}
    fresh = [
        _insight_case(store, step, insight, uid, known.values())
        for uid, insight in wanted.items()
        if uid not in known and insight.text not in told  # by another run of this bank
    ]
    store.add_many(fresh, actor=actor, reason=f"step {step.step}")


def _uid(run_id: str, insight: Insight) -> str:
    return f"{run_id}/{insight.name}/{sha256(insight.text)[:12]}"


def _insight_case(
    store: CaseStore, step: StepMemory, insight: Insight, uid: str, known: Iterable[Case]
) -> CaseIn:
    cases = store.cases(CaseFilter(ns=step.ns, kind="case"))
    sources = {c.id for c in cases if {c.item_id, *c.also_items} & set(insight.items)}
    earlier = {c.id for c in known if c.uid.startswith(f"{step.run_id}/{insight.name}/")}
    parents = [Parent(i) for i in sorted(sources)]
    parents += [Parent(i, "revises") for i in sorted(earlier)]
    return CaseIn(
        ns=step.ns,
        kind="insight",
        plan=insight.text,
        run_id=step.run_id,
        step=step.step,
        model=insight.model,
        tags=(insight.name,),
        parents=tuple(parents),
        uid=uid,
    )
