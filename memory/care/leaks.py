"""What a bank gives away of an evaluation, before anything is run.

Every case is judged against every item as `guard.inspect` would in an evaluation. Only pairs that
can be guilty are looked at: equal items and equal questions are found by their hashes, near
duplicates by blocks of cosines, gold answers by the rarest piece of each, see `leak_joins`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from memory.care.leak_bank import Leak, LeakBank
from memory.care.leak_joins import Answers, neighbours
from memory.errors import StoreError
from memory.read.guard import NEAR, SHORTEST_ANSWER, Guard, GuardedItem, Rule
from memory.search.embed import Embedder
from memory.types import Content

__all__ = ["Leak", "LeakReport", "everything", "find_leaks", "scan"]

EXCUSED_KEPT = 1000


@dataclass(frozen=True, slots=True)
class LeakReport:
    """All leaks of a bank, and the first excused pairs.

    Attributes:
        leaks: what a strict guard would withhold, by item, then by case.
        excused: pairs that differ in their numbers only, the first `EXCUSED_KEPT`.
        excused_pairs: how many of those there are.
        cases: how many were judged.
        items: how many they were judged against.
        near: cosine from which two questions counted as near; None if no cosine was measured,
            so that near duplicates were not looked for.
    """

    leaks: tuple[Leak, ...]
    excused: tuple[Leak, ...]
    excused_pairs: int
    cases: int
    items: int
    near: float | None

    @property
    def rules(self) -> Mapping[Rule, int]:
        """How many leaks there are by each rule."""
        return Counter(leak.rule for leak in self.leaks)

    @property
    def leaking_cases(self) -> frozenset[int]:
        return frozenset(leak.case_id for leak in self.leaks)

    @property
    def leaked_items(self) -> frozenset[str]:
        return frozenset(leak.item_id for leak in self.leaks if leak.item_id is not None)


def everything(case: Content) -> str:
    """Every word that a case could show a model."""
    return "\n".join([case.question, case.plan, case.answer or "", case.reason, *case.tags])


def scan(
    cases: Sequence[Content],
    items: Sequence[GuardedItem],
    *,
    embedder: Embedder | None = None,
    near: float = NEAR,
    shortest_answer: int = SHORTEST_ANSWER,
    render: Callable[[Content], str] = everything,
) -> LeakReport:
    """All that `find_leaks` finds, as a report."""
    leaks: list[Leak] = []
    excused: list[Leak] = []
    pairs = 0
    for found in find_leaks(
        cases, items, embedder=embedder, near=near, shortest_answer=shortest_answer, render=render
    ):
        if found.blocks:
            leaks.append(found)
            continue
        pairs += 1
        if len(excused) < EXCUSED_KEPT:
            excused.append(found)
    measured = None if embedder is None else near
    return LeakReport(tuple(leaks), tuple(excused), pairs, len(cases), len(items), measured)


def find_leaks(
    cases: Sequence[Content],
    items: Sequence[GuardedItem],
    *,
    embedder: Embedder | None = None,
    near: float = NEAR,
    shortest_answer: int = SHORTEST_ANSWER,
    render: Callable[[Content], str] = everything,
) -> Iterator[Leak]:
    """Each finding of `guard.inspect` on each case, item by item.

    Args:
        cases: of one store, those in every state, so that lineage can be followed; or records of
            a foreign bank.
        items: the evaluation.
        embedder: measures questions; without it near duplicates are not looked for. A case
            without a question is near to none.
        near: cosine from which two questions are near-duplicates.
        shortest_answer: characters below which a gold answer is not looked for, at least 1.
        render: a case as a model would be shown it, where gold answers are looked for.

    Raises:
        InvalidCase: if a record that is in no store has parents.
        StoreError: if `near` is not finite or `shortest_answer` is below 1.
    """
    if not math.isfinite(near) or shortest_answer < 1:
        raise StoreError(
            f"Leaks cannot be looked for with near={near} and shortest_answer={shortest_answer}; "
            "give a finite cosine and at least one character."
        )
    bank = LeakBank(cases, render)
    guard = Guard(near=near, shortest_answer=shortest_answer)
    yield from bank.orphans(guard)
    answers = Answers(
        {i: case.rendered for i, case in bank.guarded.items()},
        [answer for item in items for answer in item.answers],
        shortest_answer,
    )
    questions = {i: case.question for i, case in bank.guarded.items()}
    near_ones = neighbours(questions, [item.question for item in items], embedder, near)
    for item, close in zip(items, near_ones, strict=True):
        holding = {i: a for a in reversed(item.answers) for i in answers.holding(a)}
        yield from bank.judged(item, close, holding, guard)
