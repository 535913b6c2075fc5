"""Near copies are put together only if they say the same, and can be taken apart again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.care.clusters import BLOCK, clusters, formulas
from memory.care.consolidation import ConsolidationPlan, consolidate, plan_consolidation
from memory.care.upkeep import undo
from memory.credit import Utility
from memory.errors import InvalidCase, VersionConflict
from memory.read.guard import only_numbers_differ
from memory.search.embed import F32, HashingEmbedder, unit_rows
from memory.search.index import I64
from memory.search.space import Space
from memory.store import CaseStore
from memory.types import STATES, Case, CaseFilter, CaseIn, Parent
from tests.memory.store_places import memory_folder

EMBEDDER = HashingEmbedder(dim=128)
EVERYTHING = CaseFilter(states=STATES)
PRIME = "What is a prime number, and how is it told from all the others"
DIVIDE = "Divide it by every smaller number, one after the other, until one fits"
QUESTION = "A train leaves the station at noon and drives {} hours at {} km/h. How far does it go?"


def case(number: int, question: str = "q", plan: str = "p", **more: Any) -> Case:
    return Case(id=number, uid=str(number), question=question, plan=plan, **more)


def views(cases: Sequence[Case], *names: str) -> list[tuple[I64, F32]]:
    ids = np.array([c.id for c in cases], dtype=np.int64)
    return [(ids, EMBEDDER.embed_documents([getattr(c, name) for c in cases])) for name in names]


def planned(cases: Sequence[Case], threshold: float = 0.9, **more: Any) -> ConsolidationPlan:
    utilities = more.pop("utilities", {})
    return plan_consolidation(
        cases, views(cases, "question", "plan"), utilities, threshold=threshold
    )


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("Add 3 + 4.", "add 3 + 4", True),
        ("Add 1,000 and 2", "Add 1000 and 2!", True),
        ("3 + 4", "4 + 3", False),
        ("3 + 4", "3 - 4", False),
        ("3 4", "34", False),
        ("3.5 apples", "3 5 apples", False),
        ("x^2 = 9", "x^2 = 8", False),
        ("no numbers", "none here either", True),
    ],
)
def test_formulas_tell_problems_apart(left: str, right: str, same: bool) -> None:
    assert (formulas(left) == formulas(right)) is same


TEXTS = st.text(alphabet="12 .,+-(xy", max_size=10)


@given(TEXTS, TEXTS)
def test_formulas_see_all_that_the_guard_sees(left: str, right: str) -> None:
    if only_numbers_differ(left, right):
        assert formulas(left) != formulas(right)


def naive(keys: Sequence[int], matrices: Sequence[F32], threshold: float) -> list[list[int]]:
    def alike(i: int, j: int) -> bool:
        cosines = [float(np.dot(m[i].astype(float), m[j].astype(float))) for m in matrices]
        return keys[i] == keys[j] and all(round(c, 6) >= threshold for c in cosines)

    groups: list[list[int]] = []
    for i in range(len(keys)):
        for group in groups:
            if all(alike(i, j) for j in group):
                group.append(i)
                break
        else:
            groups.append([i])
    return [group for group in groups if len(group) > 1]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 7), st.integers(0, 3)), max_size=12),
    st.sampled_from([0.5, 0.8, 1.0]),
    st.booleans(),
)
def test_clusters_are_those_of_a_plain_search(
    rows: list[tuple[int, int, int]], threshold: float, both: bool
) -> None:
    directions = unit_rows(np.random.default_rng(0).normal(size=(8, 3)) + 1)
    keys = [key for key, _, _ in rows]
    matrices = [np.array([directions[a] for _, a, _ in rows]).reshape(-1, 3)]
    if both:
        matrices.append(np.array([directions[b] for _, _, b in rows]).reshape(-1, 3))
    found = clusters(keys, matrices, threshold)
    assert found == naive(keys, matrices, threshold)
    for group in found:
        for i, j in combinations(group, 2):
            assert keys[i] == keys[j]
            assert all(float(m[i] @ m[j]) >= threshold - 1e-6 for m in matrices)


def test_clusters_reach_across_blocks() -> None:
    rng = np.random.default_rng(1)
    few = unit_rows(rng.normal(size=(40, 16)))
    rows = few[rng.integers(40, size=BLOCK + 70)]
    found = clusters([0] * len(rows), [rows], 0.999)
    assert found == naive([0] * len(rows), [rows], 0.999)
    assert max(map(len, found)) > 2


def test_other_numbers_are_other_problems() -> None:
    cases = [case(i, QUESTION.format(i, 60), "Multiply.") for i in range(1, 6)]
    cases += [case(9, QUESTION.format(3, 60).upper() + "?", "multiply.")]
    assert [m.members for m in planned(cases).merges] == [(3, 9)]


def test_whoever_reads_them_may_be_shown_other_numbers_and_a_few_at_once() -> None:
    cases = [case(i, QUESTION.format(i, 60), f"Multiply {i} by 60.") for i in range(1, 8)]
    both = views(cases, "question", "plan")
    for most, groups in (
        (None, [(1, 2, 3, 4, 5, 6, 7)]),
        (3, [(1, 2, 3), (4, 5, 6)]),
        (2, [(1, 2), (3, 4), (5, 6)]),
    ):
        plan = plan_consolidation(cases, both, {}, threshold=0.5, same_numbers=False, most=most)
        assert [m.members for m in plan.merges] == groups, "one that is left over stays alone"
    apart = [replace(cases[0], outcome="success"), replace(cases[1], outcome="failure")]
    plan = plan_consolidation(apart, both, {}, threshold=0.5, same_numbers=False)
    assert plan.merges == plan.contested == (), "another problem contests nothing"
    with pytest.raises(InvalidCase, match="give 2 or more"):
        plan_consolidation(cases, both, {}, most=1)


def test_only_what_says_the_same_about_the_same_is_merged() -> None:
    one = case(1, "What is a prime?", "Divide it by all smaller ones.")
    others = {
        "outcome": replace(one, id=2, outcome="success"),
        "ns": replace(one, id=3, ns="x"),
        "kind": replace(one, id=4, kind="insight"),
        "plan": replace(one, id=5, plan="Ask someone."),
        "question": replace(one, id=6, question="Where is the station?"),
        "archived": replace(one, id=7, state="archived"),
        "tool": replace(one, id=8, kind="tool"),
    }
    for other in others.values():
        assert planned([one, other]).merges == ()
    copy = replace(one, id=10, plan="divide it by all smaller ones")
    assert [m.members for m in planned([one, *others.values(), copy]).merges] == [(1, 10)]


def test_a_contested_question_is_reported_and_left_alone() -> None:
    good = case(1, f"{PRIME}?", f"{DIVIDE}.", outcome="success")
    bad = case(2, PRIME, "Guess.", outcome="failure")
    again = case(3, f"{PRIME}?!", DIVIDE, outcome="success")
    unsure = case(4, PRIME.upper(), f"{DIVIDE}!", outcome="unknown")
    plan = planned([good, bad, again, unsure])
    assert plan.merges == ()
    assert plan.contested == ((1, 2, 3, 4),)
    assert [m.members for m in planned([good, again]).merges] == [(1, 3)]
    assert planned([good, unsure]).merges == planned([good, unsure]).contested == ()


def test_the_best_is_kept() -> None:
    cases = [case(i) for i in (1, 2, 3)]
    useful = {2: Utility(3, 0.5, 0.0)}
    assert planned(cases).merges[0].keep == 1
    assert planned([cases[0], replace(cases[1], seen_count=2)]).merges[0].keep == 2
    assert planned(cases, utilities=useful).merges[0].keep == 2
    pinned = [cases[0], cases[1], replace(cases[2], pinned=True)]
    assert planned(pinned, utilities=useful).merges[0].keep == 3
    both = planned([replace(cases[0], pinned=True), *pinned[1:]]).merges[0]
    assert (both.keep, both.archive) == (1, (2,))
    rewarded = [replace(cases[0], reward=0.0), replace(cases[1], reward=1.0)]
    assert planned(rewarded).merges[0].keep == 2


def test_no_lineage_becomes_a_circle() -> None:
    """2 was made from 1, which is kept; 4, of another group, was made from 2."""
    cases = [
        case(1, "a"),
        case(2, "a", parents=(Parent(1),)),
        case(3, "a"),
        case(4, "zzz", parents=(Parent(3),)),
        case(5, "zzz"),
        case(6, "zzz", parents=(Parent(1),)),
    ]
    plan = planned(cases, utilities={5: Utility(9, 1.0, 0.0)})
    assert [(m.keep, m.archive) for m in plan.merges] == [(1, (3,)), (5, (4, 6))]
    crossed = [
        case(1, "a"), case(2, "a", parents=(Parent(3),)),
        case(3, "zzz"), case(4, "zzz", parents=(Parent(1),)),
    ]  # fmt: skip
    plan = planned(crossed)
    assert [(m.keep, m.archive) for m in plan.merges] == [(1, (2,))]


def test_likeness_needs_a_view_and_a_threshold() -> None:
    for arguments in (([], 0.9), (views([case(1)], "plan"), 0.0), (views([case(1)], "plan"), 1.1)):
        with pytest.raises(InvalidCase, match="give both"):
            plan_consolidation([case(1)], arguments[0], {}, threshold=arguments[1])
    assert plan_consolidation([], views([], "plan"), {}) == ConsolidationPlan((), (), {})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CaseStore]:
    with CaseStore(tmp_path) as opened:
        yield opened
        assert opened.verify() == []


def fill(store: CaseStore) -> None:
    store.add_many(
        [
            CaseIn(question=f"{PRIME}?", plan=f"{DIVIDE}.", item_id="i", outcome="success"),
            CaseIn(question=PRIME, plan=DIVIDE, item_id="j", outcome="success"),
            CaseIn(question=f"{PRIME}!", plan=f"{DIVIDE}!", item_id="k", outcome="success"),
            CaseIn(question="Where is the station?", plan="Ask."),
        ],
        actor="test",
    )


def of_store(store: CaseStore, threshold: float = 0.9) -> ConsolidationPlan:
    spaces = [Space(store, EMBEDDER, view, kind="numpy") for view in ("question", "plan")]  # type: ignore[arg-type]
    return plan_consolidation(
        store.cases(EVERYTHING),
        [s.matrix() for s in spaces],
        store.utilities(),
        threshold=threshold,
    )


def said(store: CaseStore, but: Sequence[int] = ()) -> dict[int, Case]:
    found = (c for c in store.cases(EVERYTHING) if c.id not in but)
    return {c.id: replace(c, version=0, seq=0, updated=0.0) for c in found}


def test_one_stays_for_many_and_remembers_them(store: CaseStore) -> None:
    fill(store)
    before, digest = said(store), store.digest
    plan = of_store(store)
    assert store.digest == digest
    done = consolidate(store, plan, actor="upkeep")
    assert [c.id for c in store.cases()] == [1, 4]
    assert store.get(1).parents == (Parent(2, "same"), Parent(3, "same"))
    assert store.history(2)[-1].reason == "says what case 1 says"
    assert of_store(store).merges == ()
    undo(store, done, actor="test")
    assert said(store) == before
    with pytest.raises(VersionConflict, match="plan again"):
        consolidate(store, plan, actor="test")


def test_a_written_one_takes_the_place_of_a_group(store: CaseStore) -> None:
    fill(store)
    store.pin([2], actor="test")
    before = said(store)
    asked: list[list[int]] = []

    def write(cases: Sequence[Case]) -> str:
        asked.append([c.id for c in cases])
        return " Primes: divide by all smaller numbers.\n"

    done = consolidate(store, of_store(store), actor="upkeep", write=write)
    assert asked == [[1, 2, 3]]
    assert [c.id for c in store.cases()] == [2, 4, 5]
    made = store.get(5)
    assert (made.kind, made.plan) == ("case", "Primes: divide by all smaller numbers.")
    assert (made.question, made.item_id, made.outcome) == (PRIME, "j", "success"), "as the pinned"
    assert made.parents == tuple(Parent(i, "consolidated") for i in (1, 2, 3))
    undo(store, done, actor="test")
    assert said(store, but=[5]) == before
    assert store.get(5).state == "deleted"
    # What was deleted is not made again, and a blank text declines.
    for text in ("Primes: divide by all smaller numbers.", "  "):
        done = consolidate(store, of_store(store), actor="upkeep", write=lambda _, text=text: text)  # type: ignore[misc]
        assert (done.archived, done.created) == ((), ())
    assert said(store, but=[5]) == before


def test_one_that_is_known_takes_them_in(store: CaseStore) -> None:
    fill(store)
    known = store.add(
        CaseIn(question=f"{PRIME}?", plan="Divide.", outcome="success", parents=(Parent(4),)),
        actor="test",
    ).id
    done = consolidate(store, of_store(store), actor="test", write=lambda _: "Divide.")
    assert (done.archived, done.created) == ((1, 2, 3), ())
    assert {p.id for p in store.get(known).parents} == {1, 2, 3, 4}
    undo(store, done, actor="test")
    assert store.get(known).parents == (Parent(4),)
    assert [c.state for c in store.cases(EVERYTHING)] == ["active"] * 5


def test_one_of_the_group_may_be_what_is_written(store: CaseStore) -> None:
    fill(store)
    done = consolidate(store, of_store(store), actor="test", write=lambda cases: cases[0].plan)
    assert (done.archived, done.created) == ((2, 3), ())
    assert {p.id for p in store.get(1).parents} == {2, 3}
    undo(store, done, actor="test")
    assert [c.state for c in store.cases(EVERYTHING)] == ["active"] * 4
    assert store.get(1).parents == ()


def test_two_groups_may_be_told_by_one_text(store: CaseStore) -> None:
    plans = ("Add the ones.", "Add the ones!", "Look it up.", "Look it up!")
    store.add_many([CaseIn(kind="insight", plan=plan) for plan in plans], actor="test")
    before = said(store)
    ids = np.array([1, 2, 3, 4], dtype=np.int64)
    rows = EMBEDDER.embed_documents(plans)
    plan = plan_consolidation(store.cases(), [(ids, rows)], {}, threshold=0.6)
    assert [m.members for m in plan.merges] == [(1, 2), (3, 4)]
    done = consolidate(store, plan, actor="test", write=lambda _: "Try.")
    (made,) = store.cases()
    assert (made.kind, made.plan, done.created) == ("insight", "Try.", (5,))
    assert {p.id for p in made.parents} == {1, 2, 3, 4}
    undo(store, done, actor="test")
    assert said(store, but=[5]) == before


SOME = st.lists(
    st.tuples(
        st.sampled_from([QUESTION.format(2, 60), QUESTION.format(3, 60), f"{PRIME}?", f"{PRIME}!"]),
        st.sampled_from([f"{DIVIDE}.", DIVIDE, "Look."]),
        st.sampled_from(["success", "failure", "unknown"]),
        st.booleans(),
        st.none() | st.integers(0, 6),
    ),
    max_size=7,
)  # fmt: skip


@settings(max_examples=15)
@given(SOME, st.booleans(), st.sampled_from([0.5, 0.9]))
def test_whatever_is_merged_can_be_taken_apart(
    rows: list[tuple[str, str, str, bool, int | None]], insight: bool, threshold: float
) -> None:
    with (
        tempfile.TemporaryDirectory(dir=memory_folder()) as folder,
        CaseStore(Path(folder)) as store,
    ):
        for question, plan, outcome, pinned, parent in rows:
            ids = [c.id for c in store.cases()]
            parents = (Parent(ids[parent]),) if parent is not None and parent < len(ids) else ()
            given_case = CaseIn(question=question, plan=plan, outcome=outcome, parents=parents)  # type: ignore[arg-type]
            number = store.add(given_case, actor="test").id
            store.pin([number], actor="test", pinned=pinned)
        before = said(store)
        plan = of_store(store, threshold)
        contested = {i for group in plan.contested for i in group}
        for merge in plan.merges:
            members = [store.get(i) for i in merge.members]
            assert not contested & set(merge.members)
            assert len({c.outcome for c in members}) == 1
            assert not any(store.get(i).pinned for i in merge.archive)
            for one, two in combinations(members, 2):
                assert not only_numbers_differ(one.question, two.question)
        write = (lambda cases: f"insight of {cases[0].id}") if insight else None
        done = consolidate(store, plan, actor="test", write=write)
        gone = {i for merge in plan.merges for i in merge.archive}
        assert gone <= set(done.archived)
        for merge in plan.merges:
            standing = done.created if insight else (merge.keep,)
            ancestors = {p.id for i in standing for p in store.get(i).parents}
            assert set(merge.archive) <= ancestors
        assert store.verify() == []
        undo(store, done, actor="test")
        assert said(store, but=done.created) == before
        assert store.verify() == []
