"""The tables of a verdict's page that say what was found: arms, differences, measures."""

from __future__ import annotations

from tfgrpo.metrics.claims import Claim
from tfgrpo.report.figures.measures import (
    difference_title,
    is_share,
    scale,
    scaled,
    title,
    unit,
)
from tfgrpo.report.pages.parts import Column, Link, Table, Tone, numbered, table
from tfgrpo.report.pages.verdict_evidence import evidence
from tfgrpo.report.pages.verdict_fates import faults
from tfgrpo.report.pages.verdict_records import (
    SAMPLES,
    Difference,
    Measure,
    differences,
    measures,
)
from tfgrpo.types import Estimate
from tfgrpo.verdict.details import PanelDifference
from tfgrpo.verdict.record import ArmFigures, Verdict

VERDICTS: dict[str, Tone] = {"better": "good", "worse": "bad"}


def tables(verdict: Verdict) -> tuple[Table, ...]:
    """All tables, in the order of back links; those without rows as well."""
    found = (d for arm in verdict.arms for d in measures(arm))
    return (
        arms(verdict),
        numbered("differences", "difference", _DIFFERENCES, differences(verdict), title="measure"),
        numbered("measures", "measure", _MEASURES, found, title="measure"),
        numbered("diversity", "view", _DIVERSITY, verdict.diversity, title="measure"),
        *evidence(verdict),
        faults(verdict),
    )


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

_DIVERSITY: tuple[Column[PanelDifference], ...] = (
    Column(label="arm", of=lambda d: (Link(d.b),), kind="links", to="arms",
           back="Views of diversity"),
    Column(label="measure", of=lambda d: difference_title(d.name), kind="tag", choice=True),
    Column(label="samples", of=lambda d: SAMPLES[d.of], kind="tag", choice=True,
           hint="As many in every arm; correct ones only where both arms have enough."),
    Column(label="difference", of=lambda d: scaled(d.name, d.difference), kind="estimate",
           signed=True, digits=3, scale="measure", hint="Mean over seeds, interval over problems."),
    Column(label="problems", of=lambda d: float(d.difference.n), kind="number",
           hint="That have enough such samples in both arms."),
    Column(label="against", of=lambda d: d.a, where="page"),
    Column(label="of the arm", of=lambda d: scale(d.name) * d.of_b, kind="number", where="page"),
    Column(label="of the other", of=lambda d: scale(d.name) * d.of_a, kind="number", where="page"),
    Column(label="made by", of=lambda d: d.difference.method, where="page"),
)  # fmt: skip


def _detectable(name: str, claim: Claim | None) -> float | None:
    return None if claim is None else scale(name) * claim.detectable
