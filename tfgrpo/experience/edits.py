"""What may be proposed to an experience library, and which of several proposals wins.

One operation set: Add, Modify, Merge, Delete, Keep. People have two more, SetStatus and Rollback.
Ids are `E7` for experiences and `C3` for a candidate of the current step, which is only evidence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from tfgrpo.experience.guard import clean, normalise

Status = Literal["active", "pinned", "disabled", "retired"]
Code = Literal[
    "added",
    "modified",
    "merged",
    "deleted",
    "kept",
    "duplicate",  # said already; its support went to the entry or proposal which says it
    "evicted",
    "status",
    "rolled_back",
    "E_UNKNOWN_ID",
    "E_PINNED",
    "E_CONFLICT",
    "E_EMPTY",
    "E_TOO_LONG",
    "E_LEAK",
    "E_INJECTION",
    "E_DUPLICATE",  # a rewritten text would say what another entry says
    "E_SUPPORT",
    "E_CAP",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Backed:
    """`evidence` holds candidate, task or attempt ids; `support` counts the groups behind it."""

    reason: str = ""
    evidence: tuple[str, ...] = ()
    support: int = 1

    def __post_init__(self) -> None:
        if self.support < 0:
            raise ValueError(f"support counts groups and cannot be {self.support}; give 0 or more")


@dataclass(frozen=True, slots=True)
class Add(_Backed):
    text: str


@dataclass(frozen=True, slots=True)
class Modify(_Backed):
    target: str
    text: str


@dataclass(frozen=True, slots=True)
class Merge(_Backed):
    targets: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Delete(_Backed):
    target: str


@dataclass(frozen=True, slots=True)
class Keep(_Backed):
    """Leave `target` as it is; evidence adds support. An empty target changes nothing."""

    target: str


@dataclass(frozen=True, slots=True)
class SetStatus(_Backed):
    """Pin, unpin, disable, enable or retire one entry; by hand, or `retired` by the size limits."""

    target: str
    status: Status


@dataclass(frozen=True, slots=True)
class Rollback(_Backed):
    """Return to the library as it was at the end of `step`. Later ids stay used."""

    step: int


Edit: TypeAlias = Add | Modify | Merge | Delete | Keep
Operation: TypeAlias = Edit | SetStatus | Rollback

_NAMES: Mapping[type[Operation], str] = {
    Add: "add",
    Modify: "modify",
    Merge: "merge",
    Delete: "delete",
    Keep: "keep",
    SetStatus: "status",
    Rollback: "rollback",
}


def targets_of(operation: Operation) -> tuple[str, ...]:
    if isinstance(operation, Merge):
        return operation.targets
    return (operation.target,) if not isinstance(operation, Add | Rollback) else ()


def to_row(operation: Operation) -> dict[str, Any]:
    """A flat JSON object with the same keys that models are asked for (`replies.json_schema`)."""
    row: dict[str, Any] = {
        "op": _NAMES[type(operation)],
        "targets": list(targets_of(operation)),
        "text": operation.text if isinstance(operation, Add | Modify | Merge) else None,
        "reason": operation.reason,
        "evidence": list(operation.evidence),
        "support": operation.support,
    }
    if isinstance(operation, SetStatus):
        row["status"] = operation.status
    if isinstance(operation, Rollback):
        row["step"] = operation.step
    return row


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    op: Literal["add", "modify", "merge", "delete", "keep", "status", "rollback"]
    targets: tuple[str, ...]
    text: str | None
    reason: str
    evidence: tuple[str, ...]
    support: int
    status: Status | None = None
    step: int | None = None


def from_row(data: object) -> Operation:
    """Inverse of `to_row`; raises ValueError for other rows. Model replies go to `replies`."""
    row = _Row.model_validate(data)
    backing: dict[str, Any] = {
        "reason": row.reason,
        "evidence": row.evidence,
        "support": row.support,
    }
    match row:
        case _Row(op="add", targets=(), text=str(text)):
            return Add(text, **backing)
        case _Row(op="modify", targets=(target,), text=str(text)):
            return Modify(target, text, **backing)
        case _Row(op="merge", targets=targets, text=str(text)):
            return Merge(targets, text, **backing)
        case _Row(op="delete", targets=(target,)):
            return Delete(target, **backing)
        case _Row(op="keep", targets=(target,)):
            return Keep(target, **backing)
        case _Row(op="status", targets=(target,), status=str(status)):
            return SetStatus(target, status, **backing)
        case _Row(op="rollback", targets=(), step=int(step)):
            return Rollback(step, **backing)
    raise ValueError(f"the fields do not belong to a {row.op} operation; write them with to_row")


def tidy(edit: Edit) -> Edit:
    """The edit with every string on one clean line, fit for a log and a prompt."""
    backing: dict[str, Any] = {
        "reason": clean(edit.reason),
        "evidence": tuple(clean(item) for item in edit.evidence),
    }
    if isinstance(edit, Add):
        return replace(edit, text=clean(edit.text), **backing)
    if isinstance(edit, Merge):
        targets = tuple(dict.fromkeys(clean(target) for target in edit.targets))
        return replace(edit, targets=targets, text=clean(edit.text), **backing)
    if isinstance(edit, Modify):
        return replace(edit, target=clean(edit.target), text=clean(edit.text), **backing)
    return replace(edit, target=clean(edit.target), **backing)


def canonical_order(edits: Sequence[Edit]) -> list[int]:
    """Indices of `edits`, best supported first, then by content: equal for every permutation."""
    return sorted(
        range(len(edits)),
        key=lambda i: (-edits[i].support, json.dumps(to_row(edits[i]), sort_keys=True)),
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """Equal proposals about known entries, pooled. `members` are indices; the first one speaks."""

    edit: Modify | Merge | Delete
    members: tuple[int, ...]

    @property
    def targets(self) -> tuple[str, ...]:
        return targets_of(self.edit)

    def rank(self) -> tuple[int, int, str]:
        """Support decides; at a tie a merge goes before a modify, and a delete comes last."""
        kind = (Merge, Modify, Delete).index(type(self.edit))
        return (-self.edit.support, kind, json.dumps(to_row(self.edit), sort_keys=True))


def pool(proposals: Iterable[tuple[int, Modify | Merge | Delete]]) -> list[Claim]:
    """Pool proposals that say the same: their support adds up and their evidence is joined."""
    pooled: dict[tuple[object, ...], Claim] = {}
    for index, edit in proposals:
        said = "" if isinstance(edit, Delete) else normalise(edit.text)
        key = (type(edit), tuple(sorted(targets_of(edit))), said)
        first = pooled.get(key)
        if first is None:
            pooled[key] = Claim(edit, (index,))
            continue
        joined = replace(
            first.edit,
            support=first.edit.support + edit.support,
            evidence=tuple(dict.fromkeys(first.edit.evidence + edit.evidence)),
        )
        pooled[key] = Claim(joined, (*first.members, index))
    return list(pooled.values())


def settle(claims: Iterable[Claim]) -> tuple[list[Claim], list[Claim]]:
    """Split claims into winners, of which no two touch the same entry, and losers.

    Greedy by `Claim.rank`, so an entry is deleted against a modify only with greater support.
    """
    winners: list[Claim] = []
    losers: list[Claim] = []
    taken: set[str] = set()
    for claim in sorted(claims, key=Claim.rank):
        if taken.isdisjoint(claim.targets):
            winners.append(claim)
            taken.update(claim.targets)
        else:
            losers.append(claim)
    return winners, losers
