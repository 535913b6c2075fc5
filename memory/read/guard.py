"""Keeps a memory from telling a model the answer to the item at hand.

A memory bank that holds the questions it is measured on measures nothing, and rollouts that are
shown their own item's case teach only copying. The guard is deliberately aggressive: near-duplicate
questions may ask different things ("Where / When was X born" have a cosine of 0.99), so they are
unfit for merging, but a case about one is close enough to the other to be withheld.

What it cannot see: a paraphrase below the cosine, an answer in other words, an answer below four
characters, and what a model knows anyway.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from memory.search.embed import normalised

Mode = Literal["strict", "warn", "off"]
Phase = Literal["practice", "evaluation"]
Rule = Literal[
    "same item",
    "same question",
    "near duplicate",
    "other numbers",
    "gold answer",
    "denied split",
    "blocked ancestor",
    "unknown ancestor",
]

NEAR = 0.90
SHORTEST_ANSWER = 4  # characters; shorter ones ("yes", "12") occur in innocent cases

# In practice other items' cases are the point; only the item's own and the evaluation's are barred.
BLOCKING: dict[Phase, frozenset[Rule]] = {
    "practice": frozenset({"same item", "same question", "denied split", "blocked ancestor"}),
    "evaluation": frozenset(
        {
            "same item",
            "same question",
            "near duplicate",
            "gold answer",
            "denied split",
            "blocked ancestor",
            "unknown ancestor",
        }
    ),
}


@dataclass(frozen=True, slots=True)
class GuardedItem:
    """What is being asked. `answers` are all accepted forms of the gold answer."""

    item_id: str
    question: str
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GuardedCase:
    """A case as the guard sees it.

    Attributes:
        case_id: unique in one call.
        item_id: the item it stems from, or "" if that is not known.
        question: of that item.
        rendered: every word that a model would be shown.
        dataset: where the item is from, or "".
        split: of that dataset.
        parents: cases that it was made from.
        cosine: of its question to the item's; None if not measured, which clears nothing.
    """

    case_id: int
    item_id: str
    question: str
    rendered: str
    dataset: str = ""
    split: str = ""
    parents: tuple[int, ...] = ()
    cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that a case breaks, and what shows it."""

    rule: Rule
    detail: str
    blocks: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings on one case; it is withheld if any of them blocks."""

    case_id: int
    findings: tuple[Finding, ...] = ()

    @property
    def blocked_by(self) -> str | None:
        """The first rule that blocks, with its detail; None if the case may be shown."""
        return next((f"{f.rule} ({f.detail})" for f in self.findings if f.blocks), None)


@dataclass(frozen=True, slots=True)
class Guard:
    """Which findings block.

    Attributes:
        mode: strict blocks, warn only reports, off looks at nothing and must be asked for.
        phase: an evaluation bars everything suspicious, practice the item's own cases.
        denied: (dataset, split) pairs that no case may come from; split "*" stands for all.
        near: cosine from which two questions are near-duplicates.
        shortest_answer: characters below which a gold answer is not looked for.
    """

    mode: Mode = "strict"
    phase: Phase = "evaluation"
    denied: frozenset[tuple[str, str]] = frozenset()
    near: float = NEAR
    shortest_answer: int = SHORTEST_ANSWER


def inspect(item: GuardedItem, cases: Iterable[GuardedCase], guard: Guard) -> dict[int, Verdict]:
    """Judge every case against one item.

    Args:
        item: what is being asked.
        cases: the candidates and, so that lineage can be followed, all their ancestors.
        guard: what to look for.

    Returns:
        A verdict for each case by id, in the order given.

    Raises:
        ValueError: if a case is given twice or a cosine is not finite.
    """
    known = list(cases)
    ids = [case.case_id for case in known]
    if len(set(ids)) < len(ids):
        raise ValueError("a case is judged once.")
    if any(case.cosine is not None and not math.isfinite(case.cosine) for case in known):
        raise ValueError("cosines are finite numbers; None stands for one that is not known.")
    if guard.mode == "off":
        return {i: Verdict(i) for i in ids}
    own = {case.case_id: tuple(_own_findings(item, case, guard)) for case in known}
    barred = BLOCKING[guard.phase]  # also in warn mode, so that it reports what strict would do
    guilty = {i for i, findings in own.items() if any(f.rule in barred for f in findings)}
    inherited = _inherited(known, guilty, guard)
    return {i: Verdict(i, (*own[i], *inherited.get(i, ()))) for i in ids}


def _own_findings(item: GuardedItem, case: GuardedCase, guard: Guard) -> Iterator[Finding]:
    def found(rule: Rule, detail: str) -> Finding:
        return Finding(rule, detail, guard.mode == "strict" and rule in BLOCKING[guard.phase])

    if case.item_id and case.item_id == item.item_id:
        yield found("same item", item.item_id)
    if question_hash(case.question) == question_hash(item.question):
        yield found("same question", question_hash(item.question)[:12])
    elif case.cosine is not None and case.cosine >= guard.near:
        rule: Rule = (
            "other numbers" if only_numbers_differ(case.question, item.question) else
            "near duplicate"
        )  # fmt: skip
        yield found(rule, f"cosine {case.cosine:.3f}")
    if (answer := leaked_answer(item.answers, case.rendered, guard.shortest_answer)) is not None:
        yield found("gold answer", answer)
    if {(case.dataset, case.split), (case.dataset, "*")} & guard.denied:
        yield found("denied split", f"{case.dataset}/{case.split}")


def _inherited(
    cases: Sequence[GuardedCase], guilty: Collection[int], guard: Guard
) -> dict[int, tuple[Finding, ...]]:
    """Findings on cases with an ancestor that is guilty or that nobody can look at.

    Guilt runs down to all descendants; a circle in the lineage ends by itself.
    """
    known = {case.case_id for case in cases}
    children: dict[int, list[int]] = {}
    for case in cases:
        for parent in case.parents:
            children.setdefault(parent, []).append(case.case_id)
    unknown = sorted(set(children) - known)
    roots: list[tuple[Rule, list[int]]] = [
        ("blocked ancestor", sorted(guilty)),
        ("unknown ancestor", unknown),
    ]
    found: dict[int, tuple[Finding, ...]] = {}
    for rule, starts in roots:
        blocks = guard.mode == "strict" and rule in BLOCKING[guard.phase]
        for case_id, start in _descendants(starts, children).items():
            finding = Finding(rule, f"case {start}", blocks)
            found[case_id] = (*found.get(case_id, ()), finding)
    return found


def _descendants(starts: Iterable[int], children: dict[int, list[int]]) -> dict[int, int]:
    """Each descendant and the first of the starts that it comes from."""
    origin: dict[int, int] = {}
    for start in starts:
        stack = list(children.get(start, ()))
        while stack:
            case_id = stack.pop()
            if case_id != start and case_id not in origin:
                origin[case_id] = start
                stack.extend(children.get(case_id, ()))
    return origin


def question_hash(question: str) -> str:
    """SHA-256 of the question without case, spacing, and punctuation at its end."""
    plain = normalised(question).rstrip(" ?!.:")
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


def leaked_answer(answers: Iterable[str], text: str, shortest: int = SHORTEST_ANSWER) -> str | None:
    """The first answer that stands in the text as whole words, or None.

    Both are compared without case, accents, punctuation and thousands separators. Scripts that
    write no spaces (e.g. 東京都庁) are searched anywhere.
    """
    words = f" {bare(text)} "
    for answer in answers:
        sought = bare(answer)
        if len(sought) < shortest:
            continue
        spaceless = any(unicodedata.category(c) == "Lo" for c in sought)
        if (sought if spaceless else f" {sought} ") in words:
            return answer
    return None


THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
NO_WORD = re.compile(r"[\W_]+")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
FORMULA = re.compile(r"[-+*/×÷·^=<>−(),.\s]*\d[-+*/×÷·^=<>−(),.\d\s]*")


def bare(text: str) -> str:
    """Words and numbers of a text, lower case, without accents, one space between them."""
    plain = THOUSANDS.sub("", unicodedata.normalize("NFKD", text).casefold())
    if not plain.isascii():
        plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    return NO_WORD.sub(" ", plain).strip()


def only_numbers_differ(left: str, right: str) -> bool:
    """Whether two questions are one template with different numbers in it.

    Their words are equal once every formula (numbers with signs and brackets) is blanked, and
    their numbers differ as multisets: "3 + 4" and "4 + 3" are one problem, not two.
    """
    first, second = (THOUSANDS.sub("", normalised(text)) for text in (left, right))
    same_words = FORMULA.sub("#", first).rstrip("?!.") == FORMULA.sub("#", second).rstrip("?!.")
    return same_words and Counter(NUMBER.findall(first)) != Counter(NUMBER.findall(second))
