"""What the page of a case memory tells, as plain values: pages know no store."""

from __future__ import annotations

from dataclasses import dataclass

from tfgrpo.types import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class BankCase:
    """One case. `utility` is None for a case that was never credited, which is not 0.

    `parents` holds (id, relation), `alike` (id, cosine) of near duplicates; `place` is the point
    of the case on the map, in any finite units. Times are seconds since the epoch.
    `origin` holds (label, value) of what else is known of where it comes from.
    """

    id: int
    kind: str
    outcome: str
    state: str
    ns: str
    question: str = ""
    plan: str = ""
    answer: str | None = None
    reason: str = ""
    reward: float | None = None
    prior: float = 0.0
    utility: Estimate | None = None
    shown: int = 0
    pinned: bool = False
    version: int = 1
    seen: int = 1
    created: float = 0.0
    updated: float = 0.0
    item: str | None = None
    dataset: str | None = None
    run: str | None = None
    step: int | None = None
    model: str | None = None
    origin: tuple[tuple[str, str], ...] = ()
    parents: tuple[tuple[int, str], ...] = ()
    alike: tuple[tuple[int, float], ...] = ()
    place: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class BankEvent:
    """One line of the history. `case_id` is None where the event belongs to no single case."""

    seq: int
    time: float
    actor: str
    op: str
    case_id: int | None
    change: str = ""
    reason: str = ""
    run: str | None = None


@dataclass(frozen=True, slots=True)
class BankRead:
    """One retrieval. `shown` holds (case id, how it was ranked); `withheld` says why not others."""

    id: int
    item: str | None
    shown: tuple[tuple[int, str], ...]
    withheld: str = ""
    reward: float | None = None
    advantage: float | None = None
    run: str | None = None
    rollout: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """All that the page tells. `notes` holds (view, note): what a view leaves out, and why."""

    title: str
    seq: int
    digest: str
    cases: tuple[BankCase, ...]
    events: tuple[BankEvent, ...] = ()
    reads: tuple[BankRead, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
