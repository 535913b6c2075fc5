"""From candidates to the cases that are shown.

`rank` is a pure function of (candidates, policy, seed). It says of every candidate how its score
came about and, if it is not shown, why. Chance is drawn for each case by (seed, case), so that a
case's luck depends neither on the order nor on the company of the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from memory.credit import PRIOR_STRENGTH, PRIOR_VARIANCE, Utility

F32 = NDArray[np.float32]
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


@dataclass(frozen=True, slots=True)
class BySimilarity:
    """score = cosine (the non-parametric read of Memento, arXiv 2508.16153 eq. 13)."""


@dataclass(frozen=True, slots=True)
class ByValue:
    """score = (1 - w) z(cosine) + w z(U) + c sqrt(ln(1 + N) / (1 + n)).

    The blend is MemRL's (arXiv 2601.03192); U is the shrunk utility, n the credits of the case and
    N those of all eligible ones. z is over the eligible candidates and 0 where they are all equal.

    Attributes:
        weight: w in [0, 1].
        exploration: c >= 0, the bonus of what was rarely tried; 0 in an evaluation.
        strength: n0, how many credits the prior counts for.
    """

    weight: float = 0.5
    exploration: float = 0.0
    strength: float = PRIOR_STRENGTH


@dataclass(frozen=True, slots=True)
class TopK:
    """The best scores: every rollout of an item sees the same cases."""


@dataclass(frozen=True, slots=True)
class Softmax:
    """Draw without replacement with probability ∝ exp(score / tau), by Gumbel-top-k.

    Adding tau times Gumbel noise and taking the best k is this draw (arXiv 1903.06059).
    """

    tau: float = 0.5


@dataclass(frozen=True, slots=True)
class Thompson:
    """Replace U by a draw from its posterior, about N(shrunk mean, standard error squared).

    Works with `ByValue` only; the less a case was tried, the wider its draw.
    """

    variance: float = PRIOR_VARIANCE


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """How cases are scored, drawn and limited.

    Attributes:
        k: most cases shown; 0 switches memory off.
        score: what makes a case good.
        draw: how chance enters.
        floor: least cosine, e.g. the chance level of the embedder; nothing is shown below it.
        max_positive: most successes shown; None for no limit.
        max_negative: most failures shown; None for no limit.
        per_source: most cases of one item; None for no limit.
        diversity: d >= 0 subtracts d * (largest cosine to a case already shown) from the score:
            maximal marginal relevance (Carbonell & Goldstein 1998) divided by its lambda.
        token_budget: most tokens of all shown cases together; None for no limit.

    Raises:
        ValueError: on construction, for limits below 0 and for Thompson without `ByValue`.
    """

    k: int = 4
    score: BySimilarity | ByValue = ByValue()
    draw: TopK | Softmax | Thompson = TopK()
    floor: float = -1.0
    max_positive: int | None = None
    max_negative: int | None = 2
    per_source: int | None = None
    diversity: float = 0.0
    token_budget: int | None = None

    def __post_init__(self) -> None:
        limits = (self.k, self.max_positive, self.max_negative, self.per_source, self.token_budget)
        if any(limit is not None and limit < 0 for limit in limits) or self.diversity < 0:
            raise ValueError("limits and diversity are 0 or above; None stands for no limit.")
        if isinstance(self.draw, Thompson) and not isinstance(self.score, ByValue):
            raise ValueError("Thompson draws utilities; use it with the value score.")
        if isinstance(self.draw, Softmax) and not self.draw.tau > 0:
            raise ValueError("tau is above 0; for tau = 0 use the top k.")
        if isinstance(self.score, ByValue) and not (
            0 <= self.score.weight <= 1 and self.score.exploration >= 0 and self.score.strength > 0
        ):
            raise ValueError("weight is in [0, 1], exploration 0 or above, strength above 0.")


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one candidate, and all that its score is made of.

    `rank` counts shown cases from 0 and is None with a `reason`. Candidates that were not
    eligible have a similarity and a utility but no score.

    score = (1 - w) z_similarity + w z_utility + bonus with `ByValue`, else the similarity;
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


@dataclass(frozen=True, slots=True)
class Ranking:
    """Every candidate once: the shown ones in order, then by key, then the ineligible ones."""

    decisions: tuple[Decision, ...]

    @property
    def shown(self) -> tuple[int, ...]:
        return tuple(d.case_id for d in self.decisions if d.rank is not None)


def rank(candidates: Sequence[Candidate], policy: ReadPolicy, seed: int = 0) -> Ranking:
    """Decide which candidates are shown, in which order.

    Args:
        candidates: in any order, which changes nothing.
        policy: how to score, draw and limit.
        seed: 0 or above; derived from (run, item, rollout), so that each rollout of a group draws
            its own cases. Without chance in the policy it changes nothing.

    Raises:
        ValueError: for a repeated case, a similarity or prior that is not finite, or a missing
            vector where diversity is asked for.
    """
    _check(candidates, policy)
    eligible = [c for c in candidates if _ineligible(c, policy) is None]
    scored = list(_scored(eligible, policy, seed))
    chosen = _choose(eligible, scored, policy)
    strength = _strength(policy)
    refused = [
        _plain(c, strength, reason)
        for c in candidates
        if (reason := _ineligible(c, policy)) is not None
    ]
    refused.sort(key=lambda d: (-d.similarity, d.case_id))
    return Ranking((*chosen, *refused))


def _check(candidates: Sequence[Candidate], policy: ReadPolicy) -> None:
    ids = [c.case_id for c in candidates]
    if len(set(ids)) < len(ids):
        raise ValueError("a case is a candidate once.")
    if not all(math.isfinite(c.similarity) and math.isfinite(c.prior) for c in candidates):
        raise ValueError("similarities and priors are finite numbers.")
    if policy.diversity > 0 and any(c.vector is None for c in candidates):
        raise ValueError("diversity compares vectors; give every candidate its own.")


def _ineligible(candidate: Candidate, policy: ReadPolicy) -> str | None:
    if candidate.blocked is not None:
        return f"blocked: {candidate.blocked}"
    if policy.k == 0:
        return "memory off"
    return "below floor" if candidate.similarity < policy.floor else None


def _strength(policy: ReadPolicy) -> float:
    return policy.score.strength if isinstance(policy.score, ByValue) else PRIOR_STRENGTH


def _plain(candidate: Candidate, strength: float, reason: str | None = None) -> Decision:
    return Decision(
        candidate.case_id,
        candidate.similarity,
        utility=candidate.utility.shrunk(candidate.prior, strength),
        n=candidate.utility.n,
        reason=reason,
    )


def _scored(eligible: Sequence[Candidate], policy: ReadPolicy, seed: int) -> Iterator[Decision]:
    plain = [_plain(c, _strength(policy)) for c in eligible]
    if isinstance(policy.score, BySimilarity):
        for decision in plain:
            noise = _gumbel(policy.draw, seed, decision.case_id)
            score = decision.similarity
            yield replace(decision, score=score, noise=noise, key=score + noise)
        return
    rule = policy.score
    near = z_scores([d.similarity for d in plain])
    good = z_scores([_drawn(c, d, policy, seed) for c, d in zip(eligible, plain, strict=True)])
    total = sum(d.n for d in plain)
    for decision, z_near, z_good in zip(plain, near, good, strict=True):
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


def _gumbel(draw: TopK | Softmax | Thompson, seed: int, case_id: int) -> float:
    if not isinstance(draw, Softmax):
        return 0.0
    return draw.tau * float(_rng(seed, case_id).gumbel())


def _rng(seed: int, case_id: int) -> np.random.Generator:
    return np.random.default_rng([seed, case_id])


def _choose(
    eligible: Sequence[Candidate], scored: Sequence[Decision], policy: ReadPolicy
) -> list[Decision]:
    """Greedily the best of what is left; one that breaks a limit is passed over for good.

    Limits only tighten as cases are shown, so what is passed over once would never fit later.
    """
    cases = {c.case_id: c for c in eligible}
    left = {d.case_id: d for d in scored}
    shown: list[Decision] = []
    passed: list[Decision] = []
    while left and len(shown) < policy.k:
        held = [cases[d.case_id] for d in shown]
        current = [
            replace(d, redundancy=_redundancy(cases[i], held, policy)) for i, d in left.items()
        ]
        best = min(current, key=lambda d: (d.redundancy - (d.key or 0.0), d.case_id))
        del left[best.case_id]
        reason = _broken_limit(cases[best.case_id], held, policy)
        if reason is None:
            shown.append(replace(best, rank=len(shown)))
        else:
            passed.append(replace(best, reason=reason))
    passed += [replace(d, reason="outranked") for d in left.values()]
    passed.sort(key=lambda d: (-(d.key or 0.0), d.case_id))
    return [*shown, *passed]


def _redundancy(candidate: Candidate, held: Sequence[Candidate], policy: ReadPolicy) -> float:
    if policy.diversity == 0 or not held:
        return 0.0
    return policy.diversity * max(_cosine(candidate.vector, other.vector) for other in held)


def _cosine(left: F32 | None, right: F32 | None) -> float:
    if left is None or right is None:
        raise ValueError("diversity compares vectors; give every candidate its own.")
    return float((left.astype(np.float64) * right.astype(np.float64)).sum())


def _broken_limit(
    candidate: Candidate, held: Sequence[Candidate], policy: ReadPolicy
) -> str | None:
    """The first limit that showing this candidate, too, would break."""

    def full(limit: int | None, same: Callable[[Candidate], bool]) -> bool:
        return limit is not None and same(candidate) and sum(map(same, held)) >= limit

    if full(policy.max_positive, lambda c: c.positive is True):
        return "quota of successes"
    if full(policy.max_negative, lambda c: c.positive is False):
        return "quota of failures"
    if candidate.source and full(policy.per_source, lambda c: c.source == candidate.source):
        return "quota of its source"
    spent = sum(c.tokens for c in held) + candidate.tokens
    if policy.token_budget is not None and spent > policy.token_budget:
        return "token budget"
    return None
