"""Whether two lists of tasks share problems: what was learned from must not be what is asked.

Three rules, the first that holds: equal ids; equal questions without regard to case, white space
and Unicode forms; near-equal prose, a Jaccard index of 8-grams of words of at least 0.7. Pairs
whose questions differ in their numbers only are other problems, and are counted apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from tfgrpo.errors import ConfigError
from tfgrpo.types import Task

Rule = Literal["same id", "same question", "near duplicate"]
Gram = tuple[str, ...]

GRAM = 8
NEAR = 0.7

_TOKEN = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s]|_")
_NUMBER = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Pair:
    """A learned and an asked task that are one problem; `similarity` is the Jaccard index or 1."""

    learned: Task
    asked: Task
    rule: Rule
    similarity: float


@dataclass(frozen=True, slots=True)
class Overlap:
    """What `overlap` found. `pairs` are by asked task; `other_numbers` counts excused pairs."""

    pairs: tuple[Pair, ...]
    other_numbers: int
    learned: int
    asked: int

    @property
    def known(self) -> frozenset[str]:
        """Ids of the asked tasks that were learned from."""
        return frozenset(pair.asked.task_id for pair in self.pairs)

    @property
    def rules(self) -> Mapping[Rule, int]:
        return Counter(pair.rule for pair in self.pairs)


def words_of(prompt: str) -> tuple[str, ...]:
    """Words, numbers and signs of a question in NFKC and without case; 1,000 is 1000."""
    tokens = _TOKEN.findall(unicodedata.normalize("NFKC", prompt).casefold())
    return tuple(t.replace(",", "") if _NUMBER.match(t) else t for t in tokens)


def grams_of(words: Sequence[str]) -> frozenset[Gram]:
    """The 8-grams of a question; none of one with fewer words, which is compared as a whole."""
    return frozenset(tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1))


def jaccard(a: frozenset[Gram], b: frozenset[Gram]) -> float:
    """J(a, b) = |a and b| / |a or b|; 0 where both are empty."""
    union = len(a | b)
    return len(a & b) / union if union else 0.0


def overlap(learned: Sequence[Task], asked: Sequence[Task], near: float = NEAR) -> Overlap:
    """Every problem of `asked` that is in `learned`, once for each learned task.

    Raises ValueError unless 0 < `near` <= 1.
    """
    if not 0 < near <= 1:
        raise ValueError(f"near is {near}, and must lie above 0 and not above 1")
    ours = [words_of(task.prompt) for task in learned]
    theirs = [words_of(task.prompt) for task in asked]
    pairs: list[Pair] = []
    other_numbers = 0
    for j, i, similarity in _candidates(ours, theirs, _same_ids(learned, asked), near):
        one, other = learned[i], asked[j]
        if one.task_id == other.task_id:
            pairs.append(Pair(one, other, "same id", 1.0))
        elif ours[i] == theirs[j]:
            pairs.append(Pair(one, other, "same question", 1.0))
        elif _without_numbers(ours[i]) == _without_numbers(theirs[j]):
            other_numbers += 1
        else:
            pairs.append(Pair(one, other, "near duplicate", similarity))
    return Overlap(tuple(pairs), other_numbers, len(learned), len(asked))


def must_not_overlap(learned: Sequence[Task], asked: Sequence[Task]) -> Overlap:
    """`overlap`, for use before a run: raises ConfigError if any asked problem was learned from."""
    found = overlap(learned, asked)
    if found.pairs:
        first = found.pairs[0]
        raise ConfigError(
            f"{len(found.known)} of {len(asked)} problems to be asked were learned from, the first "
            f"is {first.asked.task_id} of {first.asked.dataset} ({first.rule}); leave them out, or "
            "look at them with: tfgrpo tasks overlap LEARNED ASKED."
        )
    return found


def _same_ids(learned: Sequence[Task], asked: Sequence[Task]) -> dict[int, list[int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for i, task in enumerate(learned):
        places[task.task_id].append(i)
    return {j: places[task.task_id] for j, task in enumerate(asked) if task.task_id in places}


def _candidates(
    ours: Sequence[tuple[str, ...]],
    theirs: Sequence[tuple[str, ...]],
    same_ids: Mapping[int, list[int]],
    near: float,
) -> Iterator[tuple[int, int, float]]:
    """(asked, learned, similarity) of all pairs that any rule can hold for, in order.

    Sets with J >= t share one of the (1 - t)|a| + 1 rarest grams of either, so only these are
    looked up (prefix filtering: Bayardo, Ma, Srikant 2007, section 4).
    """
    grams, asked_grams = [grams_of(w) for w in ours], [grams_of(w) for w in theirs]
    rarity = Counter(gram for found in (*grams, *asked_grams) for gram in found)
    holders: dict[Gram | tuple[str, ...], list[int]] = defaultdict(list)
    for i, found in enumerate(grams):
        for gram in _rarest(found, rarity, near):
            holders[gram].append(i)
    wholes: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, words in enumerate(ours):
        wholes[words].append(i)
    for j, found in enumerate(asked_grams):
        certain = {*same_ids.get(j, ()), *wholes.get(theirs[j], ())}
        possible = {i for gram in _rarest(found, rarity, near) for i in holders.get(gram, ())}
        for i in sorted(certain | possible):
            similarity = 1.0 if i in certain else jaccard(grams[i], found)
            if similarity >= near:
                yield j, i, similarity


def _rarest(grams: frozenset[Gram], rarity: Mapping[Gram, int], near: float) -> list[Gram]:
    ranked = sorted(grams, key=lambda gram: (rarity[gram], gram))
    shared = ceil(near * len(ranked) - 1e-9)  # 0.1 * 30 is above 3
    return ranked[: len(ranked) - shared + 1]


def _without_numbers(words: Sequence[str]) -> list[str]:
    return ["0" if _NUMBER.match(word) else word for word in words]
