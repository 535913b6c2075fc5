"""The page of a case memory: its cases, what they are worth, where they lie, and their history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tfgrpo.report.pages.bank_figures import plane, timeline, worth
from tfgrpo.report.pages.bank_records import Bank, BankCase, BankEvent, BankRead
from tfgrpo.report.pages.parts import (
    Block,
    Column,
    Fact,
    Facts,
    Link,
    Listing,
    Page,
    Tone,
    View,
    table,
)
from tfgrpo.report.pages.shell import render

OUTCOMES: dict[str, Tone] = {"success": "good", "failure": "bad"}
CHANGES: dict[str, Tone] = {"add": "good", "delete": "bad", "purge": "bad"}


_CASES: tuple[Column[BankCase], ...] = (
    Column(label="problem", of=lambda c: c.question or None, kind="text"),
    Column(label="plan", of=lambda c: c.plan or None, kind="text"),
    Column(label="kind", of=lambda c: c.kind, kind="tag", choice=True, where="page"),
    Column(label="outcome", of=lambda c: c.outcome, kind="tag", choice=True, tones=OUTCOMES),
    Column(
        label="utility", of=lambda c: c.utility, kind="estimate", signed=True, absent="untested",
        hint="Mean advantage of the rollouts that were shown the case, shrunk towards its prior, "
        "with an interval; n counts the credits.",
    ),
    Column(label="shown", of=lambda c: c.shown, kind="number", hint="How many reads showed it."),
    Column(label="state", of=lambda c: c.state, kind="tag", choice=True, where="table"),
    Column(label="namespace", of=lambda c: c.ns, kind="tag", choice=True, where="table"),
    Column(label="answer", of=lambda c: c.answer, kind="text", where="page"),
    Column(label="reason", of=lambda c: c.reason or None, kind="text", where="page"),
    Column(label="reward", of=lambda c: c.reward, kind="number", where="page"),
    Column(
        label="prior", of=lambda c: c.prior, kind="number", signed=True, where="page",
        hint="Its own reward minus the mean of its namespace.",
    ),
    Column(label="pinned", of=lambda c: "yes" if c.pinned else None, where="page"),
    Column(label="item", of=lambda c: c.item, where="page"),
    Column(label="dataset", of=lambda c: c.dataset, where="page"),
    Column(label="run", of=lambda c: c.run, where="page"),
    Column(label="step", of=lambda c: c.step, kind="number", where="page"),
    Column(label="model", of=lambda c: c.model, where="page"),
    Column(
        label="origin", where="page",
        of=lambda c: "\n".join(f"{label} {value}" for label, value in c.origin) or None,
    ),
    Column(label="times added", of=lambda c: c.seen, kind="number", where="page"),
    Column(label="version", of=lambda c: c.version, kind="number", where="page"),
    Column(label="created", of=lambda c: c.created, kind="time", where="page", hint="UTC"),
    Column(label="updated", of=lambda c: c.updated, kind="time", where="page", hint="UTC"),
    Column(
        label="made from", of=lambda c: _links(c.parents), kind="links", where="page",
        to="cases", back="Made from it",
    ),
    Column(
        label="near duplicates", kind="links", where="page", to="cases",
        of=lambda c: _links([(i, f"cosine {cosine:.3f}") for i, cosine in c.alike]),
    ),
)  # fmt: skip

_EVENTS: tuple[Column[BankEvent], ...] = (
    Column(label="time", of=lambda e: e.time, kind="time", hint="UTC"),
    Column(label="operation", of=lambda e: e.op, kind="tag", choice=True, tones=CHANGES),
    Column(
        label="case", kind="links", to="cases", back="History",
        of=lambda e: () if e.case_id is None else (Link(str(e.case_id)),),
    ),
    Column(label="change", of=lambda e: e.change or None, kind="text"),
    Column(label="by", of=lambda e: e.actor, kind="tag", choice=True),
    Column(label="why", of=lambda e: e.reason or None),
    Column(label="run", of=lambda e: e.run, where="page"),
)  # fmt: skip

_READS: tuple[Column[BankRead], ...] = (
    Column(label="item", of=lambda r: r.item),
    Column(label="reward", of=lambda r: r.reward, kind="number", absent="unscored"),
    Column(
        label="advantage", of=lambda r: r.advantage, kind="number", signed=True, absent="none",
        hint="Reward minus the mean of the group's other rollouts; none without a spread.",
    ),
    Column(
        label="cases", of=lambda r: _links(r.shown), kind="links", to="cases",
        back="Last reads that showed it",
    ),
    Column(
        label="withheld", of=lambda r: r.withheld or None, where="table",
        hint="Candidates that were not shown, by reason.",
    ),
    Column(label="rollout", of=lambda r: r.rollout, where="page"),
    Column(label="run", of=lambda r: r.run, where="page"),
)  # fmt: skip


def render_bank(bank: Bank) -> str:
    """The page as one HTML file, see `shell.render`."""
    notes = dict(bank.notes)
    tables = (
        table("cases", "case", _CASES, bank.cases, lambda c: str(c.id), title="problem"),
        table("events", "event", _EVENTS, bank.events[::-1], lambda e: str(e.seq), title="change"),
        table("reads", "read", _READS, bank.reads[::-1], lambda r: str(r.id), title="item"),
    )
    views = [
        View("overview", "Overview", _overview(bank)),
        View("cases", "Cases", (Listing("cases", notes.get("cases", "")),)),
    ]
    if places := [(str(c.id), c.place) for c in bank.cases if c.place is not None]:
        views.append(View("map", "Map", (plane(places),)))
    if bank.events:
        bars = timeline([(e.time, e.op) for e in bank.events])
        views.append(
            View("history", "History", (bars, Listing("events", notes.get("history", ""))))
        )
    if bank.reads:
        views.append(View("reads", "Reads", (Listing("reads", notes.get("reads", "")),)))
    note = f"Case memory at event {bank.seq:,}, digest {bank.digest[:12]}."
    return render(Page(bank.title, note, tables, tuple(views)))


def _overview(bank: Bank) -> tuple[Block, ...]:
    active = [c for c in bank.cases if c.state == "active"]
    outcomes = Counter(c.outcome for c in active)
    kinds = sorted(Counter(c.kind for c in active).items())
    values = [c.utility.value for c in active if c.utility is not None]
    facts = (
        Fact("active cases", f"{len(active):,}", ", ".join(f"{kind} {n:,}" for kind, n in kinds)),
        Fact("successes", f"{outcomes['success']:,}", _share(outcomes["success"], len(active))),
        Fact("failures", f"{outcomes['failure']:,}", _share(outcomes["failure"], len(active))),
        Fact("ever shown", f"{sum(c.shown > 0 for c in active):,}", "of the active ones"),
        Fact("credited", f"{len(values):,}", "of the active ones"),
        Fact("namespaces", f"{len({c.ns for c in active}):,}"),
        Fact("pinned", f"{sum(c.pinned for c in bank.cases):,}"),
        Fact("archived or deleted", f"{len(bank.cases) - len(active):,}"),
    )
    blocks: list[Block] = [Facts(facts)]
    if bank.events:
        blocks.append(timeline([(e.time, e.op) for e in bank.events]))
    if values:
        blocks.append(worth(values))
    return tuple(blocks)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}% of the active ones" if whole else ""


def _links(pairs: Sequence[tuple[int, str]]) -> tuple[Link, ...]:
    return tuple(Link(str(number), note) for number, note in pairs)
