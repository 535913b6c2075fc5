"""What a store may do without.

It is planned first, from values alone, and the plan is the dry run. Carrying it out archives, in
one transaction, and never deletes; `undo` takes it back. See also `memory.care.consolidation`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memory.credit import PRIOR_STRENGTH, Utility
from memory.errors import VersionConflict
from memory.sqlite.utility import priors
from memory.sqlite.vectors import retrievable
from memory.types import STATES, Case, CaseFilter, Parent

if TYPE_CHECKING:
    from memory.store import CaseStore

DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetPolicy:
    """Which cases go; None switches a rule off. Pinned cases and parents of active ones stay.

    The bound of a case is (shrunk utility) - z * (standard error), see `credit.Utility`; its prior
    is the case's own reward minus the mean of its namespace. A z below 0 gives the upper bound,
    under which only what is surely bad falls. All times are in seconds.

    Attributes:
        least: cases that were credited at all go if their bound is below this.
        unshown: cases that were never shown go at this age.
        age: every case goes when it has not changed, nor been met again, for this long.
        capacity: active cases of one namespace; the lowest bounds go first, then the oldest.
        grace: younger cases stay under every rule.
        z: how many standard errors of doubt count.
        strength: credits that the prior counts for.

    Raises:
        ValueError: on construction, for a negative time or capacity, or a z that is not finite.
    """

    least: float | None = None
    unshown: float | None = None
    age: float | None = None
    capacity: int | None = None
    grace: float = 0.0
    z: float = 1.0
    strength: float = PRIOR_STRENGTH

    def __post_init__(self) -> None:
        limits = (self.unshown, self.age, self.capacity, self.grace)
        if any(limit is not None and not limit >= 0 for limit in limits):
            raise ValueError("times and capacity are 0 or above; None switches a rule off.")
        if not (math.isfinite(self.z) and self.strength > 0):
            raise ValueError("z is finite and the strength above 0.")


@dataclass(frozen=True, slots=True)
class Leaving:
    """A case that a plan archives, at the version that was looked at, and why."""

    case_id: int
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class ForgetPlan:
    """`over`: by how many cases a namespace stays above its capacity, as the rest is protected."""

    archive: tuple[Leaving, ...]
    over: Mapping[str, int]


def plan_forgetting(
    policy: ForgetPolicy,
    cases: Iterable[Case],
    utilities: Mapping[int, Utility],
    shown: Mapping[int, int],
    now: float,
) -> ForgetPlan:
    """Which of the active cases and insights go, by id. A pure function of its arguments.

    A parent goes after its children at the earliest, that is in a later plan.

    Args:
        policy: the rules.
        cases: all cases of the store, since any of them may have parents among the others.
        utilities: credits, as `CaseStore.utilities` gives them.
        shown: times shown, as `retrievals.times_shown` gives them.
        now: seconds since the epoch.
    """
    given = list(cases)
    active = retrievable(given)
    first = priors(given)
    bounds = {c.id: _bound(utilities.get(c.id, Utility()), first[c.id], policy) for c in active}
    parents = {p.id for case in given if case.state == "active" for p in case.parents}
    free = [
        case
        for case in active
        if not case.pinned and case.id not in parents and now - case.updated >= policy.grace
    ]
    reasons = {}
    for case in free:
        credited = case.id in utilities and utilities[case.id].n > 0
        reason = _worn_out(case, policy, bounds[case.id] if credited else None, shown, now)
        if reason is not None:
            reasons[case.id] = reason
    over = {}
    for ns, excess in _excess(policy, active, reasons).items():
        left = [case for case in free if case.ns == ns and case.id not in reasons]
        left.sort(key=lambda case: (bounds[case.id], case.updated, case.id))
        for case in left[:excess]:
            reasons[case.id] = f"above {policy.capacity} cases: bound {bounds[case.id]:+.3f}"
        if excess > len(left):
            over[ns] = excess - len(left)
    leaving = [Leaving(c.id, c.version, reasons[c.id]) for c in active if c.id in reasons]
    return ForgetPlan(tuple(leaving), over)


def _bound(utility: Utility, prior: float, policy: ForgetPolicy) -> float:
    error = utility.standard_error(policy.strength)
    return utility.shrunk(prior, policy.strength) - policy.z * error


def _worn_out(
    case: Case,
    policy: ForgetPolicy,
    bound: float | None,
    shown: Mapping[int, int],
    now: float,
) -> str | None:
    """The first rule under which a case goes, in words; None if it may stay."""
    quiet = now - case.updated
    if policy.least is not None and bound is not None and bound < policy.least:
        return f"bound {bound:+.3f} below {policy.least:+.3f}"
    if (
        policy.unshown is not None
        and not shown.get(case.id)
        and now - case.created >= policy.unshown
    ):
        return f"never shown in {(now - case.created) / DAY:.1f} days"
    if policy.age is not None and quiet >= policy.age:
        return f"unchanged for {quiet / DAY:.1f} days"
    return None


def _excess(
    policy: ForgetPolicy, active: Sequence[Case], gone: Mapping[int, str]
) -> dict[str, int]:
    if policy.capacity is None:
        return {}
    counts: dict[str, int] = defaultdict(int)
    for case in active:
        counts[case.ns] += case.id not in gone
    return {ns: n - policy.capacity for ns, n in counts.items() if n > policy.capacity}


@dataclass(frozen=True, slots=True)
class Done:
    """What was carried out: cases archived, cases made, and the parents that cases were given."""

    archived: tuple[int, ...] = ()
    created: tuple[int, ...] = ()
    linked: Mapping[int, tuple[Parent, ...]] = field(default_factory=dict)


def forget_plan(store: CaseStore, policy: ForgetPolicy, now: float) -> ForgetPlan:
    """`plan_forgetting` for a store as it is."""
    with store.reading():
        cases = store.cases(CaseFilter(states=STATES))
        shown = store.retrievals.times_shown()
        return plan_forgetting(policy, cases, store.utilities(), shown, now)


def forget(store: CaseStore, plan: ForgetPlan, *, actor: str) -> Done:
    """Archive what the plan names, all of it or nothing.

    Raises:
        VersionConflict: if one of the cases has changed since it was looked at.
    """
    with store.transaction():
        require_versions(store, {case.case_id: case.version for case in plan.archive})
        for case in plan.archive:
            store.archive([case.case_id], actor=actor, reason=case.reason)
    return Done(tuple(case.case_id for case in plan.archive))


def undo(store: CaseStore, done: Done, *, actor: str) -> None:
    """Make cases what they were before: archived ones active, made ones deleted, parents gone.

    Raises:
        DuplicateCase: if a case was added meanwhile that says what an archived one says.
    """
    reason = "undone"
    with store.transaction():
        store.delete(done.created, actor=actor, reason=reason)
        store.restore(done.archived, actor=actor, reason=reason)
        for number, given in done.linked.items():
            case = store.get(number)
            parents = tuple(parent for parent in case.parents if parent not in given)
            store.update(
                number,
                {"parents": parents},
                expected_version=case.version,
                actor=actor,
                reason=reason,
            )


def require_versions(store: CaseStore, versions: Mapping[int, int]) -> None:
    """Raises VersionConflict if a case is at another version than here."""
    for number, version in versions.items():
        if store.get(number).version != version:
            raise VersionConflict(f"Case {number} has changed since it was planned; plan again.")
