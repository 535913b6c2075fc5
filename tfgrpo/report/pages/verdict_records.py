"""A verdict's numbers as rows, for its page and for its tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from tfgrpo.metrics.claims import Claim
from tfgrpo.metrics.panel import Of
from tfgrpo.metrics.seeds import SeededDifference
from tfgrpo.types import Estimate
from tfgrpo.verdict.record import ArmFigures, Judgement, Verdict

EVALUATED = "evaluated"
SAMPLES: Mapping[Of, str] = {"all": "matched", "correct": "matched, correct only"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of arm `b` against arm `a`; `claim` is None for what was not declared."""

    a: str
    b: str
    found: SeededDifference
    claim: Claim | None

    @property
    def name(self) -> str:
        return self.found.name


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of one arm; `of` says on which samples."""

    arm: str
    name: str
    of: str
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    value: str


def differences(verdict: Verdict) -> tuple[Difference, ...]:
    """Declared ones first; then every other one, arm by arm."""
    every = [d for j in (*verdict.judgements, *verdict.duels) for d in _differences(j)]
    return tuple(sorted(every, key=lambda d: d.claim is None))


def _differences(judgement: Judgement) -> Iterator[Difference]:
    claims = {claim.comparison.name: claim for claim in judgement.claims}
    for name, found in judgement.differences.items():
        yield Difference(judgement.a, judgement.b, found, claims.get(name))


def measures(arm: ArmFigures) -> Iterator[Measure]:
    """Every number of an arm that has an interval."""
    yield from (Measure(arm.name, f"pass@{k}", EVALUATED, e) for k, e in sorted(arm.curve.items()))
    for of, found in (
        (EVALUATED, arm.figures), (SAMPLES["all"], arm.panel),
        (SAMPLES["correct"], arm.panel_correct),
    ):  # fmt: skip
        yield from (Measure(arm.name, name, of, estimate) for name, estimate in found.items())


def settings(verdict: Verdict) -> tuple[Setting, ...]:
    """What was asked, and the protocol that all arms share."""
    question = verdict.question
    asked = asdict(question) | {"endpoints": ", ".join(question.endpoints)}
    told = (*_flat("question", asked), *_flat("", verdict.settings))
    return tuple(Setting(name, value) for name, value in dict(told).items())


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, str):
        yield name, value
    else:
        yield name, json.dumps(value, ensure_ascii=False, default=str)
