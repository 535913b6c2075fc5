"""What became of the samples of each arm, as a table of a verdict's page."""

from __future__ import annotations

from collections.abc import Mapping

from tfgrpo.report.pages.parts import Column, Link, Table, table
from tfgrpo.verdict.details import Fate
from tfgrpo.verdict.record import Verdict


def faults(verdict: Verdict) -> Table:
    """One row for each arm; none at all where no arm met a fault or lost a sample."""
    told = verdict.fates if any(fate.troubled for fate in verdict.fates) else ()
    return table("faults", "sampling", _FATES, told, lambda fate: fate.arm, title="arm")


def fates_of(fate: Fate) -> dict[str, int]:
    """How many samples met which fate: they sum to those that were asked for."""
    never = {f"never graded: {stage}": count for stage, count in fate.failures.items()}
    return {"right": fate.right, "wrong": fate.wrong, "no answer": fate.unread, **never}


def met(fate: Fate) -> int:
    """How many faults the endpoint met, of all classes."""
    return sum(count.seen for count in fate.faults.values())


def in_vain(fate: Fate) -> int:
    """Tokens, read and generated, that were billed for replies of no use."""
    lost = [count.lost for count in fate.faults.values()]
    return sum(usage.prompt_tokens + usage.completion_tokens for usage in lost)


def _listed(counts: Mapping[str, int]) -> str | None:
    """The commonest first: "timeout 4, overload 1"."""
    ranked = sorted(counts.items(), key=lambda named: (-named[1], named[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ranked) or None


_FATES: tuple[Column[Fate], ...] = (
    Column(label="arm", of=lambda f: (Link(f.arm),), kind="links", to="arms", back="Samples",
           where="page"),
    Column(label="asked for", of=lambda f: float(sum(fates_of(f).values())), kind="number"),
    Column(label="right", of=lambda f: float(f.right), kind="number"),
    Column(label="wrong", of=lambda f: float(f.wrong), kind="number"),
    Column(label="no answer", of=lambda f: float(f.unread), kind="number",
           hint="Graded, but no answer was found in it."),
    Column(label="never graded", of=lambda f: float(f.failed), kind="number",
           hint="Neither right nor wrong."),
    Column(label="at the stage", of=lambda f: _listed(f.failures),
           hint="Of what was never graded."),
    Column(label="faults", of=lambda f: float(met(f)) if f.faults else None, kind="number",
           hint="Of the endpoint, mended or not."),
    Column(label="of the class",
           of=lambda f: _listed({kind: count.seen for kind, count in f.faults.items()})),
    Column(label="lost to", where="page", hint="Samples that no further try brought.",
           of=lambda f: _listed({kind: c.failed for kind, c in f.faults.items() if c.failed})),
    Column(label="tokens in vain", of=lambda f: float(in_vain(f)) if f.faults else None,
           kind="number", hint="Billed for replies of no use."),
)  # fmt: skip
