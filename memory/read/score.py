"""What makes a candidate good, and how chance enters.

Chance is drawn for each case by (seed, case), so that a case's luck depends neither on the order
nor on the company of the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from memory.credit import PRIOR_STRENGTH, Utility
from memory.read.policy import ByModel, ByValue, Draw, ReadPolicy, Softmax, Thompson
from memory.search.embed import F32

UNTRIED = Utility()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A case as the ranking sees it.

    Attributes:
        case_id: unique among the candidates.
        similarity: cosine to the query.
        utility: the credits so far.
        prior: what its utility is believed to be before any credit.
        positive: whether it records a success; None is neither and fills no quota.
        tokens: how long it is when rendered.
        source: the item it stems from, or "" if that is not known.
        blocked: why the guard forbids it, or None.
        vector: unit row (d,), needed only if the policy asks for diversity.
        value: Q(query, case) of a trained model, needed only if the policy scores by it.
    """

    case_id: int
    similarity: float
    utility: Utility = UNTRIED
    prior: float = 0.0
    positive: bool | None = None
    tokens: int = 0
    source: str = ""
    blocked: str | None = None
    vector: F32 | None = field(default=None, compare=False, repr=False)
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one candidate, and all that its score is made of.

    `rank` counts shown cases from 0 and is None with a `reason`. Candidates that were not
    eligible have a similarity and a utility but no score.

    score = (1 - w) z_similarity + w z_utility + bonus with `ByValue`, the model's value with
    `ByModel`, the similarity with `BySimilarity`;
    key = score + noise decides; `redundancy` was subtracted when it was shown or passed over.
    """

    case_id: int
    similarity: float
    utility: float
    n: int
    rank: int | None = None
    reason: str | None = None
    z_similarity: float | None = None
    z_utility: float | None = None
    bonus: float = 0.0
    score: float | None = None
    noise: float = 0.0
    key: float | None = None
    redundancy: float = 0.0


def require_scorable(candidates: Sequence[Candidate], policy: ReadPolicy) -> None:
    """Raises ValueError unless the policy can score these candidates."""
    ids = [c.case_id for c in candidates]
    if len(set(ids)) < len(ids):
        raise ValueError("a case is a candidate once.")
    if not all(math.isfinite(c.similarity) and math.isfinite(c.prior) for c in candidates):
        raise ValueError("similarities and priors are finite numbers.")
    if isinstance(policy.score, ByModel):
        for candidate in candidates:
            _value(candidate)
    if policy.diversity > 0 and any(c.vector is None for c in candidates):
        raise ValueError("diversity compares vectors; give every candidate its own.")


def _strength(policy: ReadPolicy) -> float:
    return policy.score.strength if isinstance(policy.score, ByValue) else PRIOR_STRENGTH


def plain(candidate: Candidate, policy: ReadPolicy, reason: str | None = None) -> Decision:
    """A candidate without a score."""
    return Decision(
        candidate.case_id,
        candidate.similarity,
        utility=candidate.utility.shrunk(candidate.prior, _strength(policy)),
        n=candidate.utility.n,
        reason=reason,
    )


def scored(eligible: Sequence[Candidate], policy: ReadPolicy, seed: int) -> Iterator[Decision]:
    """The eligible candidates with their scores and keys, in the order given."""
    bare = [plain(c, policy) for c in eligible]
    rule = policy.score
    if not isinstance(rule, ByValue):
        for candidate, decision in zip(eligible, bare, strict=True):
            noise = _gumbel(policy.draw, seed, decision.case_id)
            score = _value(candidate) if isinstance(rule, ByModel) else decision.similarity
            yield replace(decision, score=score, noise=noise, key=score + noise)
        return
    near = z_scores([d.similarity for d in bare])
    good = z_scores([_drawn(c, d, policy, seed) for c, d in zip(eligible, bare, strict=True)])
    total = sum(d.n for d in bare)
    for decision, z_near, z_good in zip(bare, near, good, strict=True):
        bonus = rule.exploration * math.sqrt(math.log1p(total) / (1 + decision.n))
        score = (1 - rule.weight) * z_near + rule.weight * z_good + bonus
        noise = _gumbel(policy.draw, seed, decision.case_id)
        yield replace(
            decision, z_similarity=z_near, z_utility=z_good, bonus=bonus, score=score,
            noise=noise, key=score + noise,
        )  # fmt: skip


def z_scores(values: Sequence[float]) -> tuple[float, ...]:
    """(x - mean) / population deviation; all 0 if the values are equal.

    Sums are exact (fsum), so that the order of the values changes no bit of the result.
    """
    if not values or max(values) == min(values):
        return (0.0,) * len(values)
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / len(values))
    return tuple((x - mean) / deviation if deviation else 0.0 for x in values)


def _drawn(candidate: Candidate, decision: Decision, policy: ReadPolicy, seed: int) -> float:
    if not isinstance(policy.draw, Thompson):
        return decision.utility
    error = candidate.utility.standard_error(_strength(policy), policy.draw.variance)
    return decision.utility + error * float(_rng(seed, candidate.case_id).normal())


def _gumbel(draw: Draw, seed: int, case_id: int) -> float:
    if not isinstance(draw, Softmax):
        return 0.0
    return draw.tau * float(_rng(seed, case_id).gumbel())


def _rng(seed: int, case_id: int) -> np.random.Generator:
    return np.random.default_rng([seed, case_id])


def _value(candidate: Candidate) -> float:
    if candidate.value is None or not math.isfinite(candidate.value):
        raise ValueError("a model scores every candidate by a finite number; give it as the value.")
    return candidate.value
