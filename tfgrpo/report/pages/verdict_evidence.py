"""The tables of a verdict's page that say what it rests on: runs, costs, problems, settings."""

from __future__ import annotations

from dataclasses import dataclass

from tfgrpo.report.figures.costs import generated, per_reply
from tfgrpo.report.pages.parts import Column, Link, Table, Tone, numbered, table
from tfgrpo.report.pages.verdict_fates import in_vain, met
from tfgrpo.report.pages.verdict_records import Setting
from tfgrpo.report.pages.verdict_records import settings as settings_of
from tfgrpo.verdict.arms import Cost
from tfgrpo.verdict.record import Disagreement, Reply, Trajectory, Verdict

MARKS: dict[str, Tone] = {"right": "good", "wrong": "bad"}
WORK = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"))


@dataclass(frozen=True, slots=True)
class Told:
    """A reply and the problem that it answers."""

    problem: str
    reply: Reply


def evidence(verdict: Verdict) -> tuple[Table, ...]:
    """Runs, costs, problems with their replies, and settings."""
    told = (Told(d.task_id, reply) for d in verdict.disagreements for reply in d.replies)
    problems = verdict.disagreements
    return (
        numbered("runs", "run", _RUNS, verdict.trajectories, title="arm"),
        costs(verdict),
        table("problems", "problem", _PROBLEMS, problems, lambda d: d.task_id, title="problem"),
        numbered("replies", "reply", _REPLIES, told, title="text"),
        table(
            "settings", "setting", _SETTINGS, settings_of(verdict), lambda s: s.name, title="value"
        ),
    )


_RUNS: tuple[Column[Trajectory], ...] = (
    Column(label="arm", of=lambda t: (Link(t.name),), kind="links", to="arms", back="Runs"),
    Column(label="seed", of=lambda t: None if t.seed is None else float(t.seed), kind="number"),
    Column(label="steps", of=lambda t: float(len(t.accuracy)), kind="number"),
    Column(label="tokens", of=lambda t: float(t.tokens[-1]) if t.tokens else None, kind="number"),
    Column(label="first accuracy, %", of=lambda t: 100 * t.accuracy[0] if t.accuracy else None,
           kind="number", digits=1),
    Column(label="last accuracy, %", of=lambda t: 100 * t.accuracy[-1] if t.accuracy else None,
           kind="number", digits=1),
    Column(label="first entropy", of=lambda t: t.entropy[0] if t.entropy else None, kind="number",
           digits=2, hint="Nats per token."),
    Column(label="last entropy", of=lambda t: t.entropy[-1] if t.entropy else None, kind="number",
           digits=2, hint="Nats per token."),
    Column(label="a", of=lambda t: t.law[0] if t.law else None, kind="number", digits=3,
           hint="Of R = -a exp(H) + b."),
    Column(label="b", of=lambda t: t.law[1] if t.law else None, kind="number", digits=3,
           hint="Of R = -a exp(H) + b."),
    Column(label="R²", of=lambda t: t.law[2] if t.law else None, kind="number", digits=2),
)  # fmt: skip

_PROBLEMS: tuple[Column[Disagreement], ...] = (
    Column(label="problem", of=lambda d: d.prompt, kind="text"),
    Column(label="dataset", of=lambda d: d.dataset, kind="tag", choice=True),
    Column(label="spread, points", kind="number", digits=0,
           of=lambda d: 100 * (max(d.shares.values()) - min(d.shares.values()))
           if d.shares else None),
    Column(label="right most", of=lambda d: _extreme(d, -1)),
    Column(label="right least", of=lambda d: _extreme(d, 1)),
    Column(label="gold", of=lambda d: d.gold, where="page", absent="withheld"),
    Column(
        label="share right", kind="links", to="arms", where="page",
        of=lambda d: tuple(Link(name, f"{100 * s:.0f}%") for name, s in d.shares.items()),
    ),
)  # fmt: skip

_REPLIES: tuple[Column[Told], ...] = (
    Column(label="problem", of=lambda t: (Link(t.problem),), kind="links", to="problems",
           back="Replies"),
    Column(label="arm", of=lambda t: (Link(t.reply.arm),), kind="links", to="arms",
           back="Replies shown"),
    Column(label="mark", of=lambda t: "right" if t.reply.correct else "wrong", kind="tag",
           tones=MARKS),
    Column(label="text", of=lambda t: t.reply.text, kind="text"),
)  # fmt: skip

_SETTINGS: tuple[Column[Setting], ...] = (Column(label="value", of=lambda s: s.value),)


def costs(verdict: Verdict) -> Table:
    """What each arm cost; work in the unit that suits the dearest."""
    paid = [(a.name, a.cost) for a in verdict.arms if a.cost is not None]
    most = max((cost.flops or 0 for _, cost in paid), default=0)
    size, work = next(((s, name) for s, name in WORK if most >= s), (1.0, "FLOP"))
    troubles = {fate.arm: fate for fate in verdict.fates if fate.faults}

    columns: tuple[Column[tuple[str, Cost]], ...] = (
        Column(label="arm", of=lambda c: (Link(c[0]),), kind="links", to="arms", back="Cost",
               where="page"),
        Column(label="generated to make it", of=lambda c: float(generated(c[1])), kind="number",
               hint="Tokens, of one seed."),
        Column(label="calls to make it", kind="number",
               of=lambda c: float(sum(usage.calls for usage in c[1].making.values()))),
        Column(label=f"making, {work}", kind="number", absent="unknown",
               of=lambda c: None if c[1].flops is None else c[1].flops / size),
        Column(label="making, USD", of=lambda c: c[1].usd, kind="number"),
        Column(label="tokens per reply", of=lambda c: per_reply(c[1]), kind="number", digits=1,
               hint="Read and generated."),
        Column(label="replies", of=lambda c: float(c[1].samples), kind="number"),
        Column(label="problems", of=lambda c: float(c[1].queries), kind="number", where="page"),
        Column(label="seconds to make it", kind="number", where="page", digits=0,
               of=lambda c: sum(usage.seconds for usage in c[1].making.values())),
        Column(label="seconds to serve", of=lambda c: c[1].serving.seconds, kind="number",
               where="page", digits=0),
        Column(label=f"serving, {work}", kind="number", where="page",
               of=lambda c: None if c[1].serving_flops is None else c[1].serving_flops / size),
        Column(label="faults", kind="number", hint="Of the endpoint, while the arm was sampled.",
               of=lambda c: float(met(troubles[c[0]])) if c[0] in troubles else None),
        Column(label="tokens in vain", kind="number", hint="Billed for replies of no use.",
               of=lambda c: float(in_vain(troubles[c[0]])) if c[0] in troubles else None),
    )  # fmt: skip
    return table("costs", "cost", columns, paid, lambda c: c[0], title="arm")


def _extreme(found: Disagreement, sign: int) -> str | None:
    if not found.shares:
        return None
    name = min(found.shares, key=lambda name: (sign * found.shares[name], name))
    return f"{100 * found.shares[name]:.0f}%  {name}"
