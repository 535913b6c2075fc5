"""Reading a bank: from a question to the cases that are shown, and why the others are not.

A read is a pure function of (state of the store, query, policy, guard): embed the question, take
its nearest cases, let the guard judge them, rank what is left. A `Reader` holds one state, so that
a whole step or evaluation reads the same bank, whatever is written meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.credit import Utility
from memory.read.guard import Guard, GuardedCase, GuardedItem, Verdict, inspect
from memory.read.rank import UNTRIED, Candidate, Decision, Ranking, ReadPolicy, rank
from memory.search.embed import normalised
from memory.search.index import Hits
from memory.sqlite.utility import priors
from memory.types import Case, Hit, Retrieval

F32 = NDArray[np.float32]

FEWEST_CANDIDATES = 32
CANDIDATES_PER_CASE = 8
QUERIES_KEPT = 4096


class Neighbours(Protocol):
    """Where the vectors of cases are: unit rows (d,) of one fingerprint."""

    @property
    def fingerprint(self) -> str: ...
    def embed(self, questions: Sequence[str]) -> F32: ...
    def search(self, queries: F32, k: int, allow: Iterable[int] | None = None) -> list[Hits]: ...
    def vector(self, case_id: int) -> F32 | None:
        """None if this case has no vector."""
        ...


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, and by which rollout. `seed` is derived from (run, item, rollout)."""

    item: GuardedItem
    seed: int = 0
    run_id: str | None = None
    group_id: str | None = None
    rollout_id: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """One state of a store: its cases by id, deleted ones included, and their credits."""

    cases: Mapping[int, Case]
    utilities: Mapping[int, Utility]
    seq: int


@dataclass(frozen=True, slots=True)
class Read:
    """`shown` in the order of their ranks; `verdicts` of the guard on every candidate."""

    shown: tuple[Case, ...]
    ranking: Ranking
    verdicts: Mapping[int, Verdict]
    retrieval: Retrieval


@dataclass(frozen=True, slots=True)
class Rules:
    """How a reader chooses.

    Attributes:
        policy: how many cases, and which.
        guard: what must not be shown.
        eligible: which cases may be shown at all; by default active ones of kind `case`.
        render: a case as the model would see it, where the guard looks for gold answers.
        count: tokens of a rendered case, for the policy's budget.
        value: Q(question vector (d,), case ids) for policies that score by a model.
    """

    policy: ReadPolicy
    guard: Guard
    eligible: Callable[[Case], bool] = lambda case: case.state == "active" and case.kind == "case"
    render: Callable[[Case], str] = lambda case: f"{case.question}\n{case.plan}"
    count: Callable[[str], int] = len
    value: Callable[[F32, Sequence[int]], Sequence[float]] | None = None


class Reader:
    """Reads `state` by `rules`; threads may share it."""

    def __init__(self, state: State, space: Neighbours, rules: Rules) -> None:
        self.state = state
        self.rules = rules
        self._space = space
        self._allowed = sorted(i for i, case in state.cases.items() if rules.eligible(case))
        self._priors = priors(state.cases[i] for i in self._allowed)
        self._embedded = lru_cache(maxsize=QUERIES_KEPT)(lambda text: space.embed([text])[0])
        self._inspected = lru_cache(maxsize=QUERIES_KEPT)(self._candidates)

    def read(self, query: Query) -> Read:
        """Rank the nearest cases; those that the guard blocks are candidates that never win."""
        policy = self.rules.policy
        candidates, verdicts = self._inspected(query.item)
        ranking = rank(candidates, policy, query.seed)
        retrieval = Retrieval(
            hits=tuple(map(_hit, ranking.decisions)),
            query_sha=hashlib.sha256(normalised(query.item.question).encode()).hexdigest(),
            run_id=query.run_id,
            group_id=query.group_id,
            rollout_id=query.rollout_id,
            item_id=query.item.item_id or None,
            policy=told(policy),
            fingerprint=self._space.fingerprint,
            snapshot_seq=self.state.seq,
            seed=query.seed,
        )
        return Read(tuple(self.state.cases[i] for i in ranking.shown), ranking, verdicts, retrieval)

    def _candidates(self, item: GuardedItem) -> tuple[tuple[Candidate, ...], Mapping[int, Verdict]]:
        """Enough neighbours that blocked ones take no case's place, as far as there are any."""
        policy = self.rules.policy
        if policy.k == 0 or not self._allowed:
            return (), {}
        vector = self._embedded(item.question)
        wanted = max(FEWEST_CANDIDATES, CANDIDATES_PER_CASE * policy.k)
        while True:
            (hits,) = self._space.search(vector[None], wanted, self._allowed)
            cosines = dict(zip(hits.ids.tolist(), hits.scores.tolist(), strict=True))
            verdicts = self._judged(item, cosines, vector)
            fit = sum(
                verdicts[i].blocked_by is None and cosine >= policy.floor
                for i, cosine in cosines.items()
            )
            exhausted = len(cosines) < wanted or min(cosines.values()) < policy.floor
            if fit >= policy.k or exhausted:
                break
            wanted *= 4
        return self._described(cosines, verdicts, vector), verdicts

    def _judged(
        self, item: GuardedItem, cosines: Mapping[int, float], vector: F32
    ) -> dict[int, Verdict]:
        family = _with_ancestors(cosines, self.state.cases)
        guarded = [
            self._guarded(self.state.cases[i], item, cosines.get(i, self._cosine(i, vector)))
            for i in family
        ]
        verdicts = inspect(item, guarded, self.rules.guard)
        return {i: verdicts[i] for i in cosines}

    def _guarded(self, case: Case, item: GuardedItem, cosine: float | None) -> GuardedCase:
        # A merged case stems from several items; what matters is whether this one is among them.
        own = item.item_id if item.item_id in case.also_items else case.item_id or ""
        return GuardedCase(
            case.id,
            own,
            case.question,
            self.rules.render(case),
            case.dataset or "",
            case.split or "",
            tuple(parent.id for parent in case.parents),
            cosine,
        )

    def _cosine(self, case_id: int, vector: F32) -> float | None:
        found = self._space.vector(case_id)
        return None if found is None else float(found.astype(np.float64) @ vector)

    def _described(
        self, cosines: Mapping[int, float], verdicts: Mapping[int, Verdict], vector: F32
    ) -> tuple[Candidate, ...]:
        ids = list(cosines)
        values: Sequence[float | None] = [None] * len(ids)
        if self.rules.value is not None:
            values = self.rules.value(vector, ids)
        diverse = self.rules.policy.diversity > 0
        described = []
        for case_id, value in zip(ids, values, strict=True):
            case = self.state.cases[case_id]
            described.append(
                Candidate(
                    case_id,
                    cosines[case_id],
                    self.state.utilities.get(case_id, UNTRIED),
                    prior=self._priors[case_id],
                    positive={"success": True, "failure": False}.get(case.outcome),
                    tokens=self.rules.count(self.rules.render(case)),
                    source=case.item_id or "",
                    blocked=verdicts[case_id].blocked_by,
                    vector=self._space.vector(case_id) if diverse else None,
                    value=value,
                )
            )
        return tuple(described)


def _with_ancestors(ids: Iterable[int], cases: Mapping[int, Case]) -> list[int]:
    """These cases and all that they were made from, as far as they are known."""
    found: dict[int, None] = {}
    waiting = list(ids)
    while waiting:
        case_id = waiting.pop()
        if case_id not in found and case_id in cases:
            found[case_id] = None
            waiting.extend(parent.id for parent in cases[case_id].parents)
    return sorted(found)


def _hit(decision: Decision) -> Hit:
    return Hit(
        decision.case_id,
        decision.similarity,
        decision.rank,
        decision.key,
        decision.utility,
        decision.reason,
    )


def told(policy: ReadPolicy) -> dict[str, Any]:
    """A policy as data, its variants under their names, for logs and reports."""
    body = asdict(policy)
    for name in ("score", "draw"):
        body[name] = {"kind": type(getattr(policy, name)).__name__, **body[name]}
    return body
