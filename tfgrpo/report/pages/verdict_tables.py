"""The tables of a verdict's page: arms, differences, measures, runs, costs, problems, replies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from tfgrpo.metrics.claims import Claim
from tfgrpo.report.figures.costs import generated, per_reply
from tfgrpo.report.figures.measures import (
    difference_title,
    is_share,
    scale,
    scaled,
    title,
    unit,
)
from tfgrpo.report.pages.parts import Column, Link, Table, Tone, table
from tfgrpo.report.pages.verdict_records import Difference, Measure, Setting, differences, measures
from tfgrpo.report.pages.verdict_records import settings as settings_of
from tfgrpo.types import Estimate
from tfgrpo.verdict.arms import Cost
from tfgrpo.verdict.record import ArmFigures, Disagreement, Reply, Trajectory, Verdict

VERDICTS: dict[str, Tone] = {"better": "good", "worse": "bad"}
MARKS: dict[str, Tone] = {"right": "good", "wrong": "bad"}
T = TypeVar("T")

WORK = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"))


@dataclass(frozen=True, slots=True)
class Told:
    """A reply and the problem that it answers."""

    problem: str
    reply: Reply


def tables(verdict: Verdict) -> tuple[Table, ...]:
    """All tables, in the order of back links; those without rows as well."""
    found = (d for arm in verdict.arms for d in measures(arm))
    told = (Told(d.task_id, reply) for d in verdict.disagreements for reply in d.replies)
    return (
        arms(verdict),
        numbered("differences", "difference", _DIFFERENCES, differences(verdict), "measure"),
        numbered("measures", "measure", _MEASURES, found, "measure"),
        numbered("runs", "run", _RUNS, verdict.trajectories, "arm"),
        costs(verdict),
        table("problems", "problem", _PROBLEMS, verdict.disagreements, lambda d: d.task_id,
              title="problem"),
        numbered("replies", "reply", _REPLIES, told, "text"),
        table("settings", "setting", _SETTINGS, settings_of(verdict), lambda s: s.name,
              title="value"),
    )  # fmt: skip


def numbered(
    key: str, noun: str, columns: tuple[Column[T], ...], items: Iterable[T], title: str
) -> Table:
    """A table whose rows have nothing but their number for a name."""
    numbers = count(1)
    return table(key, noun, columns, items, lambda _: str(next(numbers)), title=title)


def arms(verdict: Verdict) -> Table:
    question = verdict.question
    names = [f"pass@{k}" for k in dict.fromkeys((1, question.k_max))]
    names += [f"distinct_correct@{question.k_mid}", "token_entropy"]
    columns = (*_ARMS[:2], *map(_measured, names), *_ARMS[2:])
    return table("arms", "arm", columns, verdict.arms, lambda a: a.name, title="name")


def _measured(name: str) -> Column[ArmFigures]:
    def of(arm: ArmFigures) -> Estimate | None:
        curve = {f"pass@{k}": estimate for k, estimate in arm.curve.items()}
        estimate = (curve | dict(arm.figures)).get(name)
        return None if estimate is None else scaled(name, estimate)

    label = f"{title(name)}, %" if is_share(name) else title(name)
    return Column(
        label=label, of=of, kind="estimate", digits=1 if is_share(name) else 2, hint=unit(name)
    )


_ARMS: tuple[Column[ArmFigures], ...] = (
    Column(label="family", of=lambda a: a.family, kind="tag", choice=True),
    Column(
        label="seeds", of=lambda a: None if a.seeds == (None,) else float(len(a.seeds)),
        kind="number", absent="none", hint="Training seeds; their mean is shown.",
    ),
    Column(
        label="cut, %", of=lambda a: 100 * a.reading.truncated, kind="number", digits=1,
        hint="Replies that reached the token limit.",
    ),
    Column(
        label="unread, %", of=lambda a: 100 * a.reading.unread, kind="number", digits=1,
        hint="Replies in which no answer was found.",
    ),
    Column(
        label="tokens", of=lambda a: a.reading.mean_length, kind="number", digits=1,
        hint="Mean length of a reply.",
    ),
    Column(label="graded samples", of=lambda a: float(a.reading.samples), kind="number",
           where="page"),
    Column(label="failures", of=lambda a: float(a.reading.failures), kind="number", where="page",
           hint="On top of the graded samples."),
    Column(
        label="pass@1 by seed, %", where="page",
        of=lambda a: "  ".join(f"{100 * value:.1f}" for value in a.by_seed) or None,
    ),
    Column(label="name", of=lambda a: a.name, where="page"),
)  # fmt: skip

_DIFFERENCES: tuple[Column[Difference], ...] = (
    Column(label="arm", of=lambda d: (Link(d.b),), kind="links", to="arms", back="Differences"),
    Column(label="against", of=lambda d: d.a, kind="tag", choice=True),
    Column(label="measure", of=lambda d: difference_title(d.name), kind="tag", choice=True),
    Column(
        label="difference", of=lambda d: scaled(d.name, d.found.problems.difference),
        kind="estimate", signed=True, digits=2, scale="measure",
        hint="Mean over seeds, with an interval over problems.",
    ),
    Column(
        label="verdict", of=lambda d: d.claim.verdict if d.claim else None, kind="tag",
        choice=True, tones=VERDICTS, absent="exploratory",
    ),
    Column(
        label="Holm p", of=lambda d: d.claim.holm_p if d.claim else None, kind="number",
        hint="Adjusted over all arms and declared endpoints.",
    ),
    Column(label="seeds", of=lambda d: d.found.support, hint="What may be said of the seeds."),
    Column(label="p", of=lambda d: d.found.problems.p_value, kind="number", where="page",
           hint="Sign flips over problems, not adjusted."),
    Column(label="would be found", of=lambda d: _detectable(d.name, d.claim), kind="number",
           where="page", hint="Smallest true difference found with 80% power."),
    Column(label="by seed", where="page",
           of=lambda d: "  ".join(f"{scale(d.name) * x:+.2f}" for x in d.found.by_seed)),
    Column(label="over seeds", of=lambda d: scaled(d.name, d.found.seeds), kind="estimate",
           where="page", hint="t interval over the seeds' differences."),
    Column(label="over seeds and problems", of=lambda d: scaled(d.name, d.found.crossed),
           kind="estimate", where="page", hint="Both levels vary."),
    Column(label="of the arm", of=lambda d: scale(d.name) * d.found.problems.b, kind="number",
           where="page"),
    Column(label="of the other", of=lambda d: scale(d.name) * d.found.problems.a, kind="number",
           where="page"),
    Column(label="made by", of=lambda d: d.found.problems.difference.method, where="page"),
)  # fmt: skip

_MEASURES: tuple[Column[Measure], ...] = (
    Column(label="arm", of=lambda m: (Link(m.arm),), kind="links", to="arms", back="Measures"),
    Column(label="measure", of=lambda m: title(m.name)),
    Column(label="value", of=lambda m: scaled(m.name, m.estimate), kind="estimate", digits=2),
    Column(label="unit", of=lambda m: unit(m.name) or None),
    Column(label="samples", of=lambda m: m.of, kind="tag"),
    Column(label="made by", of=lambda m: m.estimate.method, where="page"),
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
        Column(label="problems", of=lambda c: float(c[1].queries), kind="number"),
        Column(label="seconds to make it", kind="number", where="page", digits=0,
               of=lambda c: sum(usage.seconds for usage in c[1].making.values())),
        Column(label="seconds to serve", of=lambda c: c[1].serving.seconds, kind="number",
               where="page", digits=0),
        Column(label=f"serving, {work}", kind="number", where="page",
               of=lambda c: None if c[1].serving_flops is None else c[1].serving_flops / size),
    )  # fmt: skip
    return table("costs", "cost", columns, paid, lambda c: c[0], title="arm")


def _detectable(name: str, claim: Claim | None) -> float | None:
    return None if claim is None else scale(name) * claim.detectable


def _extreme(found: Disagreement, sign: int) -> str | None:
    if not found.shares:
        return None
    name = min(found.shares, key=lambda name: (sign * found.shares[name], name))
    return f"{100 * found.shares[name]:.0f}%  {name}"
