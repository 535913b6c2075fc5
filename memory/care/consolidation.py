"""One case in place of several that say nearly the same.

Likeness of vectors is a weak witness: "Where / When was X born" have a cosine of 0.99. A plan is
therefore something to look at before it is carried out. It never puts together what has another
outcome, kind or namespace, nor, unless somebody reads it, other numbers or operators; and it leaves
a question alone on which opposite outcomes are known. `upkeep.undo` takes it back.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memory.care.clusters import clusters, formulas
from memory.care.upkeep import Done, require_versions
from memory.credit import Utility
from memory.errors import InvalidCase
from memory.search.embed import F32
from memory.search.index import I64
from memory.sqlite.utility import priors
from memory.sqlite.vectors import retrievable
from memory.types import Case, CaseIn, Parent

if TYPE_CHECKING:
    from memory.store import CaseStore

NEAR_COPY = 0.98


@dataclass(frozen=True, slots=True)
class Merge:
    """`keep` says what each of `archive` says, too, and is to be known as made from them."""

    keep: int
    archive: tuple[int, ...]

    @property
    def members(self) -> tuple[int, ...]:
        return tuple(sorted((self.keep, *self.archive)))


@dataclass(frozen=True, slots=True)
class ConsolidationPlan:
    """`contested`: like questions with opposite outcomes, which are only reported.

    `versions` are those of the cases in `merges` when they were looked at.
    """

    merges: tuple[Merge, ...]
    contested: tuple[tuple[int, ...], ...]
    versions: Mapping[int, int]


def plan_consolidation(
    cases: Iterable[Case],
    views: Sequence[tuple[I64, F32]],
    utilities: Mapping[int, Utility],
    *,
    threshold: float = NEAR_COPY,
    same_numbers: bool = True,
    most: int | None = None,
) -> ConsolidationPlan:
    """Which active cases and insights say the same. A pure function of its arguments.

    Of each group the pinned, most useful, most often met, oldest case is kept, in this order.
    Pinned cases and what was made from the kept case stay, too.

    Args:
        cases: all cases of the store, in any order.
        views: ids (n,) and unit rows (n, d), as `Space.matrix` gives them, of each view in which
            two cases must be alike; those that miss in one are left alone. Opposite outcomes are
            looked for in the first, which is best that of the questions.
        utilities: credits, as `CaseStore.utilities` gives them.
        threshold: least cosine of any two cases of a group, in every view.
        same_numbers: whether their numbers and operators must be equal. Only a writer who reads
            the cases may do without, see `consolidate`.
        most: cases of a group; a larger one is cut into parts. None stands for no limit.

    Raises:
        InvalidCase: if there is no view, the threshold is not in (0, 1], or `most` below 2.
    """
    if not views or not 0 < threshold <= 1:
        raise InvalidCase("Likeness needs a view and a threshold above 0 up to 1; give both.")
    if most is not None and most < 2:
        raise InvalidCase(f"No group has at most {most} cases; give 2 or more.")
    given = sorted(cases, key=lambda case: case.id)
    places = [{number: i for i, number in enumerate(ids.tolist())} for ids, _ in views]
    some = [c for c in retrievable(given) if all(c.id in place for place in places)]
    matrices = [
        rows[[place[c.id] for c in some]] for place, (_, rows) in zip(places, views, strict=True)
    ]
    asked = clusters([_asked(c) for c in some], matrices[:1], threshold)
    opposed = [g for g in asked if {"success", "failure"} <= {some[i].outcome for i in g}]
    barred = {i for group in opposed for i in group}
    free = [i for i in range(len(some)) if i not in barred]
    said = _said if same_numbers else _filed
    alike = clusters([said(some[i]) for i in free], [m[free] for m in matrices], threshold)
    groups = [[some[free[i]] for i in part] for group in alike for part in _cut(group, most)]
    merges = tuple(_merges(groups, given, utilities))
    wanted = {number for merge in merges for number in merge.members}
    contested = tuple(tuple(some[i].id for i in group) for group in opposed)
    return ConsolidationPlan(merges, contested, {c.id: c.version for c in some if c.id in wanted})


def _asked(case: Case) -> Hashable:
    return case.ns, case.kind, formulas(case.question)


def _said(case: Case) -> Hashable:
    return _asked(case), case.outcome, formulas(case.plan)


def _filed(case: Case) -> Hashable:
    return case.ns, case.kind, case.outcome


def _cut(group: Sequence[int], most: int | None) -> Iterator[Sequence[int]]:
    size = most or len(group)
    parts = (group[at : at + size] for at in range(0, len(group), size))
    return (part for part in parts if len(part) > 1)


def _merges(
    groups: Iterable[Sequence[Case]], cases: Sequence[Case], utilities: Mapping[int, Utility]
) -> Iterator[Merge]:
    first = priors(cases)
    parents = {case.id: {parent.id for parent in case.parents} for case in cases}

    def worth(case: Case) -> tuple[bool, float, int, int]:
        useful = utilities.get(case.id, Utility()).shrunk(first[case.id])
        return case.pinned, useful, case.seen_count, -case.id

    for group in groups:
        keep = max(group, key=worth)
        gone = []
        for case in group:
            if case is not keep and not case.pinned and not _comes_from(case.id, keep.id, parents):
                gone.append(case.id)
                parents[keep.id].add(case.id)
        if gone:
            yield Merge(keep.id, tuple(gone))


def _comes_from(case_id: int, ancestor: int, parents: Mapping[int, set[int]]) -> bool:
    seen, waiting = set(), [case_id]
    while waiting:
        number = waiting.pop()
        if number not in seen:
            seen.add(number)
            waiting.extend(parents.get(number, ()))
    return ancestor in seen


def consolidate(
    store: CaseStore,
    plan: ConsolidationPlan,
    *,
    actor: str,
    write: Callable[[Sequence[Case]], str] | None = None,
) -> Done:
    """Carry a plan out, all of it or nothing.

    Without `write`, the kept case of each group remains and gets the others as parents, relation
    `same`. With it, a new one takes the place of the whole group, with the kept one's question and
    origin and a text (its plan) that `write` makes of the cases; a blank one leaves the group
    alone, and so does one that was archived or deleted before.

    Raises:
        VersionConflict: if one of the cases has changed since it was looked at.
    """
    texts: dict[int, str] = {}
    if write is not None:
        for merge in plan.merges:
            texts[merge.keep] = write([store.get(number) for number in merge.members]).strip()
    with store.transaction():
        require_versions(store, plan.versions)
        known = {case.id: case.parents for case in store.cases()}
        parts = [
            _keep_one(store, merge, actor)
            if write is None
            else _put_one(store, merge, texts[merge.keep], known, actor)
            for merge in plan.merges
        ]
    return Done(
        tuple(number for part in parts for number in part.archived),
        tuple(number for part in parts for number in part.created),
        {number: parents for part in parts for number, parents in part.linked.items()},
    )


def _keep_one(store: CaseStore, merge: Merge, actor: str) -> Done:
    kept = store.get(merge.keep)
    fresh = tuple(Parent(number, "same") for number in merge.archive)
    store.update(
        kept.id,
        {"parents": (*kept.parents, *fresh)},
        expected_version=kept.version,
        actor=actor,
        reason="stands for others",
    )
    store.archive(merge.archive, actor=actor, reason=f"says what case {kept.id} says")
    return Done(merge.archive, (), {kept.id: tuple(set(fresh) - set(kept.parents))})


def _put_one(
    store: CaseStore,
    merge: Merge,
    text: str,
    known: Mapping[int, tuple[Parent, ...]],
    actor: str,
) -> Done:
    """`known`: the parents that active cases had before."""
    if not text:
        return Done()
    kept, members = store.get(merge.keep), [store.get(number) for number in merge.members]
    written = CaseIn(
        ns=kept.ns,
        kind=kept.kind,
        question=kept.question,
        plan=text,
        reward=kept.reward,
        outcome=kept.outcome,
        item_id=kept.item_id,
        dataset=kept.dataset,
        split=kept.split,
        parents=tuple(Parent(case.id, "consolidated") for case in members),
    )
    result = store.add(written, actor=actor, reason="consolidation")
    made = store.get(result.id)
    if made.state != "active":
        return Done()
    gone = [case.id for case in members if case.id != made.id and not case.pinned]
    store.archive(gone, actor=actor, reason=f"told by case {made.id}")
    if result.status == "created":
        return Done(tuple(gone), (made.id,))
    if made.id not in known:  # it was written for another group of the same plan
        return Done(tuple(gone))
    fresh = tuple(parent for parent in made.parents if parent not in known[made.id])
    return Done(tuple(gone), (), {made.id: fresh})
