"""The experience library: an immutable fold of an append-only log of judged operations.

Every operation that anyone proposed is in the log with its outcome, refused ones too.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from tfgrpo.experience.edits import (
    Add,
    Delete,
    Edit,
    Keep,
    Merge,
    Modify,
    Operation,
    Rollback,
    SetStatus,
    canonical_order,
    pool,
    settle,
    tidy,
)
from tfgrpo.experience.guard import Similarity, approximate_tokens, similarity
from tfgrpo.experience.judging import Draft, EditContext, Limits, Rules, TokenCounter, Verdict
from tfgrpo.experience.oplog import (
    Experience,
    Outcome,
    Source,
    experience_row,
    fold,
    outcome_row,
    read_outcome,
    render,
    shown,
    until,
)

__all__ = [
    "Applied",
    "Diff",
    "EditContext",
    "Experience",
    "ExperienceLibrary",
    "Limits",
    "Outcome",
    "Source",
    "diff",
    "replay",
]


@dataclass(frozen=True, slots=True)
class Applied:
    """`outcomes` has one item per given operation, in the given order, then one per eviction."""

    library: ExperienceLibrary
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    """What a reader of the prompt would see change; `modified` holds (before, after)."""

    added: tuple[Experience, ...]
    modified: tuple[tuple[Experience, Experience], ...]
    removed: tuple[Experience, ...]


@dataclass(frozen=True, slots=True)
class ExperienceLibrary:
    rules: Rules
    log: tuple[Outcome, ...] = ()
    entries: Mapping[str, Experience] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", MappingProxyType(fold(self.log)))

    @staticmethod
    def empty(
        limits: Limits | None = None,
        count_tokens: TokenCounter = approximate_tokens,
        similarity: Similarity = similarity,
    ) -> ExperienceLibrary:
        return ExperienceLibrary(Rules(limits or Limits(), count_tokens, similarity))

    @property
    def limits(self) -> Limits:
        return self.rules.limits

    @property
    def active(self) -> tuple[Experience, ...]:
        """The entries that prompts show, pinned ones included, in id order."""
        return shown(self.entries)

    @property
    def tokens(self) -> int:
        return self.rules.count_tokens(self.render())

    @property
    def step(self) -> int:
        """The step of the last operation; -1 before any, so that an import precedes step 0."""
        return self.log[-1].step if self.log else -1

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the snapshot; equal libraries have equal fingerprints on every machine."""
        text = json.dumps(self.snapshot(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def render(self) -> str:
        """One line `[E7] text` per active entry; an empty library renders nothing at all."""
        return render(self.active)

    def snapshot(self) -> list[dict[str, Any]]:
        """Every entry ever made, retired ones too, as JSON objects in id order."""
        return [experience_row(entry) for entry in self.entries.values()]

    def to_ops(self) -> list[dict[str, Any]]:
        """The log as JSON objects; `replay` is the inverse."""
        return [outcome_row(outcome) for outcome in self.log]

    def at(self, step: int) -> ExperienceLibrary:
        """The library as it was when `step` was over (its latest pass, if repeated)."""
        return ExperienceLibrary(self.rules, tuple(until(self.log, step)))

    def apply(self, edits: Sequence[Edit], context: EditContext) -> Applied:
        """Judge a model's edits as one simultaneous batch; never raises over what they contain.

        All were proposed in sight of this library, so their order tells nothing: every permutation
        of `edits` yields the same library and log. Better supported edits go first, and an entry is
        deleted against those who keep it only with more support than theirs.
        """
        draft = Draft(self.rules, self.log, context, "model")
        tidied = [tidy(edit) for edit in edits]
        outcomes: dict[int, Outcome] = {}
        claims: list[tuple[int, Modify | Merge | Delete]] = []
        adds: list[int] = []
        for i in canonical_order(tidied):
            edit = tidied[i]
            refusal = draft.refusal(edit)
            if refusal is not None:
                outcomes[i] = draft.record(edit, refusal)
            elif isinstance(edit, Keep):
                outcomes[i] = draft.record(edit, draft.judge(edit))
            elif isinstance(edit, Add):
                adds.append(i)
            else:
                claims.append((i, draft.narrowed(edit) if isinstance(edit, Merge) else edit))
        kept = Counter[str]()
        for edit in tidied:
            if isinstance(edit, Keep):
                kept[edit.target] += edit.support
        pooled = pool(claims)
        overruled = [
            c
            for c in pooled
            if isinstance(c.edit, Delete) and c.edit.support <= kept[c.edit.target]
        ]
        winners, losers = settle(c for c in pooled if c not in overruled)
        for claim in winners:
            outcomes |= draft.record_claim(claim, tidied, draft.judge(claim.edit))
        for claim in losers:
            lost = Verdict("E_CONFLICT", "a better supported edit changes the same entry")
            outcomes |= draft.record_claim(claim, tidied, lost)
        for claim in overruled:
            wanted = Verdict("E_CONFLICT", "at least as many groups keep it")
            outcomes |= draft.record_claim(claim, tidied, wanted)
        for i in adds:
            outcomes[i] = draft.record(tidied[i], draft.judge(tidied[i]))
        evictions = draft.evict()
        ordered = (*(outcomes[i] for i in range(len(tidied))), *evictions)
        return Applied(self._extended(draft), ordered)

    def by_hand(self, *operations: Operation) -> Applied:
        """Carry out a person's operations one after another: import is Add, edit is Modify.

        Pins and the leak check do not bind a person. An operation that would leave the pinned
        entries alone over the caps is refused (E_CAP).
        """
        draft = Draft(self.rules, self.log, EditContext(self.step, "", ""), "user")
        outcomes: list[Outcome] = []
        for given in operations:
            operation = given if isinstance(given, SetStatus | Rollback) else tidy(given)
            verdict = draft.refusal(operation)
            if verdict is None:
                known = draft.narrowed(operation) if isinstance(operation, Merge) else operation
                verdict = draft.capped(draft.judge(known))
            outcomes.append(draft.record(operation, verdict))
        outcomes += draft.evict()
        return Applied(self._extended(draft), tuple(outcomes))

    def _extended(self, draft: Draft) -> ExperienceLibrary:
        return ExperienceLibrary(self.rules, tuple(draft.log))


def replay(
    ops: Iterable[Mapping[str, Any]],
    limits: Limits | None = None,
    count_tokens: TokenCounter = approximate_tokens,
    similarity: Similarity = similarity,
) -> ExperienceLibrary:
    """Rebuild the library that `to_ops` wrote. Other limits bind from the next operation on.

    Raises RunError if the log cannot be read or contradicts itself.
    """
    rules = Rules(limits or Limits(), count_tokens, similarity)
    return ExperienceLibrary(rules, tuple(read_outcome(row) for row in ops))


def diff(a: ExperienceLibrary, b: ExperienceLibrary) -> Diff:
    before = {entry.id: entry for entry in a.active}
    after = {entry.id: entry for entry in b.active}
    return Diff(
        tuple(entry for entry in b.active if entry.id not in before),
        tuple(
            (before[entry.id], entry)
            for entry in b.active
            if entry.id in before and before[entry.id].text != entry.text
        ),
        tuple(entry for entry in a.active if entry.id not in after),
    )
