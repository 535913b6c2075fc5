"""Forgetting is planned from values alone, protects what is needed, and can be taken back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.care.upkeep import (
    DAY,
    ForgetPlan,
    ForgetPolicy,
    forget,
    forget_plan,
    plan_forgetting,
    undo,
)
from memory.credit import Utility
from memory.errors import DuplicateCase, VersionConflict
from memory.sqlite.utility import priors
from memory.store import CaseStore
from memory.types import STATES, Case, CaseFilter, CaseIn, Hit, Outcome, Parent, Retrieval

EVERYTHING = CaseFilter(states=STATES)


def case(number: int, **more: Any) -> Case:
    return Case(id=number, uid=str(number), question=f"q{number}", **more)


def credited(*credits: float) -> Utility:
    found = Utility()
    for credit in credits:
        found = found.add(credit)
    return found


def gone(plan: ForgetPlan) -> dict[int, str]:
    return {leaving.case_id: leaving.reason for leaving in plan.archive}


def test_priors_are_rewards_around_their_namespace() -> None:
    found = priors(
        [
            case(1, ns="a", reward=1.0),
            case(2, ns="a", reward=0.0),
            case(3, ns="a"),
            case(4, ns="b", reward=1.0),
            case(5, ns="a", reward=1.0, state="archived"),
            case(6, ns="c", reward=1.0, state="deleted"),
        ]
    )
    assert found == {1: 0.5, 2: -0.5, 3: 0.0, 4: 0.0, 5: 0.5, 6: 0.0}


def test_a_low_bound_goes_and_an_untried_case_stays() -> None:
    """(4 * 0 + 2 * -0.75) / 6 = -0.25, and the error is sqrt((4 * 0.25 + 0) / 6 / 6) = 1/6."""
    cases, utilities = [case(1), case(2), case(3)], {1: credited(-0.75, -0.75), 2: credited(0.75)}
    policy = ForgetPolicy(least=-0.4)
    assert gone(plan_forgetting(policy, cases, utilities, {}, 0.0)) == {
        1: "bound -0.417 below -0.400"
    }
    sure = replace(policy, z=-1.0, least=-0.05)
    assert gone(plan_forgetting(sure, cases, utilities, {}, 0.0)) == {
        1: "bound -0.083 below -0.050"
    }
    assert gone(plan_forgetting(replace(sure, least=-0.1), cases, utilities, {}, 0.0)) == {}
    assert gone(plan_forgetting(ForgetPolicy(least=-9.0), cases, utilities, {}, 0.0)) == {}


def test_time_counts_from_the_last_change_and_for_the_unseen_from_the_first() -> None:
    cases = [case(1, created=0.0, updated=2 * DAY), case(2, created=0.0, updated=0.0)]
    unseen = ForgetPolicy(unshown=3 * DAY)
    assert gone(plan_forgetting(unseen, cases, {}, {2: 1}, 3 * DAY)) == {
        1: "never shown in 3.0 days"
    }
    assert gone(plan_forgetting(unseen, cases, {}, {2: 1}, 3 * DAY - 1)) == {}
    old = ForgetPolicy(age=3 * DAY)
    assert gone(plan_forgetting(old, cases, {}, {}, 3 * DAY)) == {2: "unchanged for 3.0 days"}
    young = replace(unseen, age=0.0, grace=2 * DAY)
    assert gone(plan_forgetting(young, cases, {}, {2: 1}, 3 * DAY)) == {2: "unchanged for 3.0 days"}


def test_a_full_namespace_loses_its_lowest_bounds() -> None:
    cases = [case(i, ns="a", updated=float(i)) for i in range(1, 6)] + [case(9, ns="b")]
    utilities = {1: credited(0.5), 2: credited(-0.5), 3: credited(0.5, 0.5)}
    plan = plan_forgetting(ForgetPolicy(capacity=3), cases, utilities, {}, 10.0)
    # 4 and 5 were never tried: bound -0.25; that of 2 is -0.1 - 0.2.
    assert gone(plan) == {
        2: "above 3 cases: bound -0.300", 4: "above 3 cases: bound -0.250",
    }  # fmt: skip
    assert plan.over == {}


def test_what_is_needed_stays_even_above_the_capacity() -> None:
    cases = [
        case(1, ns="a", pinned=True),
        case(2, ns="a"),
        case(3, ns="a", parents=(Parent(2),)),
        case(4, ns="a", state="archived", parents=(Parent(3),)),
        case(5, ns="b", kind="tool"),
    ]
    plan = plan_forgetting(ForgetPolicy(capacity=0, age=0.0, unshown=0.0), cases, {}, {}, 0.0)
    assert set(gone(plan)) == {3}
    assert plan.over == {"a": 2}
    left = [replace(c, state="archived") if c.id == 3 else c for c in cases]
    later = plan_forgetting(ForgetPolicy(capacity=0), left, {}, {}, 0.0)
    assert set(gone(later)) == {2}


@pytest.mark.parametrize(
    "broken",
    [{"capacity": -1}, {"age": -1.0}, {"unshown": math.nan}, {"grace": -1.0}, {"z": math.inf},
     {"strength": 0.0}],
)  # fmt: skip
def test_nonsense_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"0 or above|finite"):
        ForgetPolicy(**broken)


NUMBERS = st.floats(-1, 1)
CASES = st.lists(
    st.builds(
        dict,
        ns=st.sampled_from("ab"),
        pinned=st.booleans(),
        state=st.sampled_from(["active", "active", "archived"]),
        kind=st.sampled_from(["case", "case", "insight", "subtask"]),
        reward=st.none() | NUMBERS,
        created=st.sampled_from([0.0, 5.0]),
        parent=st.none() | st.integers(0, 7),
    ),
    max_size=8,
)
LIMIT = st.none() | st.sampled_from([0.0, 4.0, 10.0])
POLICIES = st.builds(
    ForgetPolicy,
    least=st.none() | NUMBERS,
    unshown=LIMIT,
    age=LIMIT,
    capacity=st.none() | st.integers(0, 4),
    grace=st.sampled_from([0.0, 6.0]),
    z=st.sampled_from([-1.0, 0.0, 2.0]),
)


@given(CASES, POLICIES, st.dictionaries(st.integers(0, 7), st.lists(NUMBERS, max_size=3)),
       st.sets(st.integers(0, 7)), st.randoms())  # fmt: skip
def test_a_plan_keeps_its_word(
    given_cases: list[dict[str, Any]],
    policy: ForgetPolicy,
    credits: dict[int, list[float]],
    seen: set[int],
    rng: Any,
) -> None:
    cases = []
    for number, values in enumerate(given_cases):
        parent = values.pop("parent")
        parents = (Parent(parent),) if parent is not None and parent < number else ()
        cases.append(case(number, parents=parents, updated=values["created"], **values))
    utilities = {number: credited(*values) for number, values in credits.items()}
    shown = dict.fromkeys(seen, 1)
    plan = plan_forgetting(policy, cases, utilities, shown, 10.0)
    shuffled = list(cases)
    rng.shuffle(shuffled)
    leaving = gone(plan)
    assert gone(plan_forgetting(policy, shuffled, utilities, shown, 10.0)) == leaving
    by_id = {c.id: c for c in cases}
    needed = {p.id for c in cases if c.state == "active" for p in c.parents}
    for number in leaving:
        one = by_id[number]
        assert one.state == "active"
        assert one.kind in ("case", "insight")
        assert not one.pinned
        assert number not in needed
        assert 10.0 - one.updated >= policy.grace
    first = priors(cases)

    def bound(one: Case) -> float:
        known = utilities.get(one.id, Utility())
        return known.shrunk(first[one.id]) - policy.z * known.standard_error()

    for ns in "ab":
        here = [c for c in cases if c.ns == ns and c.state == "active" and c.kind != "subtask"]
        kept = [c for c in here if c.id not in leaving]
        if policy.capacity is not None:
            assert len(kept) - plan.over.get(ns, 0) <= policy.capacity
            assert ns not in plan.over or len(kept) == policy.capacity + plan.over[ns]
        pushed = [
            by_id[n] for n, why in leaving.items() if why.startswith("above") and by_id[n] in here
        ]
        free = [
            c
            for c in kept
            if not c.pinned and c.id not in needed and 10 - c.updated >= policy.grace
        ]
        if pushed and free:
            assert max(map(bound, pushed)) <= min(map(bound, free))
        if pushed:
            assert len(kept) >= (policy.capacity or 0)
    if policy.capacity is None and policy.grace == 0:
        for one in (c for c in cases if c.state == "active" and c.kind != "subtask"):
            free_to_go = not one.pinned and one.id not in needed
            known = utilities.get(one.id, Utility())
            due = (
                (policy.least is not None and known.n > 0 and bound(one) < policy.least)
                or (policy.unshown is not None and one.id not in seen
                    and 10 - one.created >= policy.unshown)
                or (policy.age is not None and 10 - one.updated >= policy.age)
            )  # fmt: skip
            assert (one.id in leaving) == (free_to_go and due)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CaseStore]:
    with CaseStore(tmp_path, clock=lambda: 100.0) as opened:
        opened.add_many([CaseIn(question=f"q{i}") for i in range(4)], actor="test")
        yield opened
        assert opened.verify() == []


def said(store: CaseStore) -> dict[int, Case]:
    """All cases without what every event moves."""
    found = store.cases(EVERYTHING)
    return {c.id: replace(c, version=0, seq=0, updated=0.0) for c in found}


def test_a_plan_changes_nothing_and_its_execution_is_taken_back(store: CaseStore) -> None:
    for number, advantage in ((1, -0.9), (2, 0.9)):
        read = store.retrievals.log(Retrieval((Hit(number, 0.5, 0),), "q"))
        store.retrievals.credit([Outcome(read, 1.0, advantage)], actor="test")
    before, digest = said(store), store.digest
    policy = ForgetPolicy(least=-0.3, unshown=10.0)
    assert forget_plan(store, policy, 105.0).archive[0].case_id == 1
    plan = forget_plan(store, policy, 120.0)
    assert store.digest == digest
    done = forget(store, plan, actor="upkeep")
    assert done.archived == (1, 3, 4)
    assert [c.id for c in store.cases()] == [2]
    (event,) = store.history(3)[1:]
    assert (event.op, event.actor, event.reason) == ("archive", "upkeep", "never shown in 0.0 days")
    assert set(store.utilities()) == {1, 2}
    undo(store, done, actor="test")
    assert said(store) == before
    assert forget_plan(store, policy, 120.0).over == {}


def test_a_case_that_changed_since_stops_the_whole_plan(store: CaseStore) -> None:
    plan = forget_plan(store, ForgetPolicy(age=0.0), 200.0)
    store.update(3, {"answer": "x"}, expected_version=1, actor="test")
    with pytest.raises(VersionConflict, match="plan again"):
        forget(store, plan, actor="test")
    assert len(store.cases()) == 4


def test_what_cannot_be_taken_back_is_left_whole(store: CaseStore) -> None:
    done = forget(store, forget_plan(store, ForgetPolicy(age=0.0), 200.0), actor="test")
    store.delete([1], actor="test")
    store.update(2, {"question": "q0"}, expected_version=2, actor="test")
    with pytest.raises(DuplicateCase):
        undo(store, done, actor="test")
    assert store.cases() == []
