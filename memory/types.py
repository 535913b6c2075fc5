"""Frozen records of the case memory.

Nothing here does IO or imports anything heavy. Times are seconds since the epoch; a sequence
number (`seq`) counts the events of one store, and names its state right after that event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from memory.credit import Utility

Kind = Literal["case", "insight", "subtask", "tool"]
CaseState = Literal["active", "archived", "deleted"]
Verdict = Literal["success", "failure", "unknown"]
View = Literal["question", "plan", "insight"]
Mode = Literal["rw", "ro", "frozen"]
OnConflict = Literal["skip", "overwrite", "refuse"]
SeqRef = int | str
"""A sequence number, or the name of a snapshot."""
Mark = tuple[int, str, int, float]
"""Id, uid, seq and updated of a case: what tells whether it is still the same."""

KINDS: tuple[Kind, ...] = ("case", "insight", "subtask", "tool")
STATES: tuple[CaseState, ...] = ("active", "archived", "deleted")
VERDICTS: tuple[Verdict, ...] = ("success", "failure", "unknown")
EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, order=True)
class Parent:
    """An edge of the lineage: the case was made from case `id`, in the way `relation` names."""

    id: int
    relation: str = "from"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a case says and where it comes from.

    `ns` is a path such as `maths/train/run-3`; a query for a namespace finds those below it.
    `reward` is None where nothing was measured, which is not 0. `tokens` is the length of the
    rendered case. Two living cases never share `ns`, `kind`, `question` (up to case and spacing),
    `plan` and `outcome`.
    """

    ns: str = "default"
    kind: Kind = "case"
    question: str = ""
    plan: str = ""
    answer: str | None = None
    reward: float | None = None
    outcome: Verdict = "unknown"
    reason: str = ""
    verifier: str | None = None
    item_id: str | None = None
    dataset: str | None = None
    split: str | None = None
    run_id: str | None = None
    step: int | None = None
    rollout_id: str | None = None
    group_id: str | None = None
    model: str | None = None
    prompt_sha: str | None = None
    tokens: int | None = None
    tags: tuple[str, ...] = ()
    parents: tuple[Parent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseIn(Content):
    """A case to add. `uid` names it in every store that it is exported to; default: random."""

    uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case(Content):
    """A stored case. `id` is never given twice; `version` counts the events of this case.

    `also_items` are the items of the copies that were merged into it, where they had another one.
    """

    id: int
    uid: str
    state: CaseState = "active"
    pinned: bool = False
    seen_count: int = 1
    also_items: tuple[str, ...] = ()
    version: int = 1
    seq: int = 0
    created: float = 0.0
    updated: float = 0.0


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """What to list; None asks for nothing.

    `ns` includes the namespaces below it, `item_id` the items of merged copies.
    """

    ns: str | None = None
    kind: Kind | None = None
    states: tuple[CaseState, ...] = ("active",)
    outcome: Verdict | None = None
    item_id: str | None = None
    dataset: str | None = None
    split: str | None = None
    run_id: str | None = None
    pinned: bool | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class AddResult:
    """`merged`: a living case says exactly this and was counted once more.

    `rejected`: a deleted case says exactly this; restore that one instead.
    """

    id: int
    status: Literal["created", "merged", "rejected"]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the history. `before` and `after` are whole cases as JSON.

    Both are None if a purge has redacted them, and for `credit`, which belongs to no case.
    `after_sha` outlives the purge, so that the digests of older states can still be checked.
    """

    seq: int
    ts: float
    actor: str
    op: str
    case_id: int | None
    before: str | None
    after: str | None
    after_sha: str | None
    reason: str
    run_id: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What an operation did, or (as a dry run) would do, to one case."""

    id: int
    op: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangeSet:
    changes: tuple[Change, ...]
    seq: int
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    name: str
    seq: int
    digest: str
    created: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A candidate of one retrieval.

    `rank` counts the shown ones; None means not shown, hence not credited, for the `reason` given.
    """

    case_id: int
    sim: float
    rank: int | None = None
    score: float | None = None
    util: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A read to be logged. `query_sha` stands for the query, whose text is not kept.

    `snapshot_seq` is the state that was read; None means the store's state when it is logged.
    `ms` is what the read took, in milliseconds.
    """

    hits: tuple[Hit, ...]
    query_sha: str
    run_id: str | None = None
    group_id: str | None = None
    rollout_id: str | None = None
    item_id: str | None = None
    policy: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    fingerprint: str | None = None
    snapshot_seq: int | None = None
    seed: int | None = None
    ms: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a retrieval. `reward` None: no judge could tell, which is not a reward of 0.

    `advantage` is credited to each shown case; None credits nothing, as in a group without spread.
    `baseline` is the mean reward of the group's other rollouts.
    """

    retrieval_id: int
    reward: float | None
    advantage: float | None = None
    baseline: float | None = None
    verifier: str | None = None


@dataclass(frozen=True, slots=True)
class CreditReport:
    """`repeated` outcomes were stored before; `uncredited` ones had no advantage."""

    credited: int
    repeated: int
    uncredited: int


@dataclass(frozen=True, slots=True)
class UtilityMove:
    case_id: int
    before: Utility
    after: Utility


@dataclass(frozen=True, slots=True)
class StoreDiff:
    """From state `a` to state `b`. Deleted and purged cases count as absent."""

    a: int
    b: int
    added: tuple[int, ...]
    removed: tuple[int, ...]
    changed: tuple[Change, ...]
    utility: tuple[UtilityMove, ...]


@dataclass(frozen=True, slots=True)
class ImportReport:
    created: int
    same: int
    conflicting: tuple[str, ...]
    """The uids that this store describes otherwise."""


@dataclass(frozen=True, slots=True)
class Problem:
    code: str
    text: str
    case_id: int | None = None
