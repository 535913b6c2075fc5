"""The cases of a bank, laid out so that those guilty for one item are found at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from memory.errors import InvalidCase
from memory.read.guard import Guard, GuardedCase, GuardedItem, Rule, inspect, question_hash
from memory.types import Case, Content


@dataclass(frozen=True, slots=True)
class Leak:
    """One rule that a case breaks. `item_id` None: whatever is asked.

    `blocks` is False for questions that differ in their numbers only: told, but no leak.
    `case_id` is the id of a stored case and the place, from 1, of any other.
    """

    case_id: int
    case: Content
    item_id: str | None
    rule: Rule
    detail: str
    blocks: bool


class LeakBank:
    """The cases, and who of them may be guilty of what."""

    def __init__(self, cases: Sequence[Content], render: Callable[[Content], str]) -> None:
        self.said: dict[int, Content] = {}
        self.guarded: dict[int, GuardedCase] = {}
        self.by_item: defaultdict[str, set[int]] = defaultdict(set)
        self.by_question: defaultdict[str, set[int]] = defaultdict(set)
        self.children: defaultdict[int, list[int]] = defaultdict(list)
        for place, case in enumerate(cases, start=1):
            self._add(case, place, render(case))

    def _add(self, case: Content, place: int, rendered: str) -> None:
        number, merged = (case.id, case.also_items) if isinstance(case, Case) else (place, ())
        if case.parents and not isinstance(case, Case):
            raise InvalidCase(
                f"Record {place} has parents in some store; import it there and scan that store."
            )
        if number in self.said:
            raise InvalidCase(f"Case {number} is given twice; give the cases of one store.")
        parents = tuple(parent.id for parent in case.parents)
        self.said[number] = case
        self.guarded[number] = GuardedCase(
            number, case.item_id or "", case.question, rendered, parents=parents
        )
        for item_id in {case.item_id, *merged} - {None, ""}:
            self.by_item[str(item_id)].add(number)
        self.by_question[question_hash(case.question)].add(number)
        for parent in parents:
            self.children[parent].append(number)

    def orphans(self, guard: Guard) -> Iterator[Leak]:
        """Cases with an ancestor that nobody can look at, which no item plays a part in."""
        bare_bones = (
            GuardedCase(i, "", "", "", parents=c.parents) for i, c in self.guarded.items()
        )
        for number, verdict in inspect(GuardedItem("", "any"), bare_bones, guard).items():
            for found in verdict.findings:
                yield Leak(number, self.said[number], None, found.rule, found.detail, found.blocks)

    def judged(
        self,
        item: GuardedItem,
        close: Mapping[int, tuple[float, bool]],
        holding: Mapping[int, str],
        guard: Guard,
    ) -> Iterator[Leak]:
        """Findings of an item: `close` as of `neighbours`, `holding` the first answer in each."""
        own = self.by_item.get(item.item_id, set())
        asked = self.by_question.get(question_hash(item.question), set())
        near = {number for number, (_, excused) in close.items() if not excused}
        family = self._with_descendants(own | asked | near | holding.keys())
        relatives = (
            replace(
                self.guarded[i],
                item_id=item.item_id if i in own else "",
                rendered=holding.get(i, ""),
                # The others are innocent, or unknown to all items alike.
                parents=tuple(p for p in self.guarded[i].parents if p in family),
                cosine=close[i][0] if i in close else None,
            )
            for i in family
        )
        verdicts = inspect(item, relatives, guard)
        for i in sorted(family | close.keys()):
            said, name = self.said[i], item.item_id
            if i not in verdicts:
                yield Leak(i, said, name, "other numbers", f"cosine {close[i][0]:.3f}", False)
                continue
            for found in verdicts[i].findings:
                yield Leak(i, said, name, found.rule, found.detail, found.blocks)

    def _with_descendants(self, ids: Iterable[int]) -> set[int]:
        found: set[int] = set()
        waiting = list(ids)
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting.extend(self.children.get(number, ()))
        return found
