"""From candidates to the cases that are shown.

`rank` is a pure function of (candidates, policy, seed). It says of every candidate how its score
came about and, if it is not shown, why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memory.read.policy import (
    ByModel,
    BySimilarity,
    ByValue,
    ReadPolicy,
    Softmax,
    Thompson,
    TopK,
)
from memory.read.score import (
    UNTRIED,
    Candidate,
    Decision,
    plain,
    require_scorable,
    scored,
    z_scores,
)
from memory.search.embed import F32

__all__ = [
    "UNTRIED",
    "ByModel",
    "BySimilarity",
    "ByValue",
    "Candidate",
    "Decision",
    "Ranking",
    "ReadPolicy",
    "Softmax",
    "Thompson",
    "TopK",
    "rank",
    "z_scores",
]


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
        ValueError: for a repeated case, a number that is not finite, or a missing vector or value
            where the policy asks for it.
    """
    require_scorable(candidates, policy)
    eligible = [c for c in candidates if _ineligible(c, policy) is None]
    chosen = _choose(eligible, list(scored(eligible, policy, seed)), policy)
    refused = [
        plain(c, policy, reason)
        for c in candidates
        if (reason := _ineligible(c, policy)) is not None
    ]
    refused.sort(key=lambda d: (-d.similarity, d.case_id))
    return Ranking((*chosen, *refused))


def _ineligible(candidate: Candidate, policy: ReadPolicy) -> str | None:
    if candidate.blocked is not None:
        return f"blocked: {candidate.blocked}"
    if policy.k == 0:
        return "memory off"
    return "below floor" if candidate.similarity < policy.floor else None


def _choose(
    eligible: Sequence[Candidate], found: Sequence[Decision], policy: ReadPolicy
) -> list[Decision]:
    """Greedily the best of what is left; one that breaks a limit is passed over for good.

    Limits only tighten as cases are shown, so what is passed over once would never fit later.
    """
    cases = {c.case_id: c for c in eligible}
    left = {d.case_id: d for d in found}
    shown: list[Decision] = []
    passed: list[Decision] = []
    while left and len(shown) < policy.k:
        held = [cases[d.case_id] for d in shown]
        current = list(left.values())
        if policy.diversity:
            redundancies = (_redundancy(cases[i], held, policy) for i in left)
            current = [replace(d, redundancy=r) for d, r in zip(current, redundancies, strict=True)]
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
    if not held:
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
