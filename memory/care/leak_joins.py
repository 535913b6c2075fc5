"""Which pairs of a case and an item can share a question or an answer, without trying all pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from unicodedata import category

import numpy as np

from memory.read.guard import FORMULA, NUMBER, THOUSANDS, bare
from memory.search.embed import Embedder, normalised

ITEMS_AT_ONCE = 256
"""Items whose cosines are held at once: 20 MB for a bank of 10,000 questions."""


class Answers:
    """Finds the texts that hold a gold answer as `guard.leaked_answer` would.

    An answer is looked for only in the texts that hold the rarest of its pieces of `shortest`
    characters; no answer that counts is shorter than one piece.
    """

    def __init__(self, texts: Mapping[int, str], answers: Iterable[str], shortest: int) -> None:
        self._shortest = shortest
        self._texts = {number: f" {bare(text)} " for number, text in texts.items()}
        self._sought = cache(self._sought_text)
        self.holding = cache(self._holding)
        wanted = {piece for a in answers for piece in self._pieces(self._sought(a))}
        self._holders: defaultdict[str, list[int]] = defaultdict(list)
        for number, text in self._texts.items():
            for piece in self._pieces(text) & wanted:
                self._holders[piece].append(number)

    def _holding(self, answer: str) -> frozenset[int]:
        """Numbers of the texts that hold one of the `answers` that this was made for."""
        sought = self._sought(answer)
        if not sought:
            return frozenset()
        few = min((self._holders.get(p, []) for p in self._pieces(sought)), key=len)
        return frozenset(number for number in few if sought in self._texts[number])

    def _sought_text(self, answer: str) -> str:
        """The answer between two spaces, or as it is in scripts without; "" if it is too short."""
        words = bare(answer)
        if len(words) < self._shortest:
            return ""
        return words if any(category(c) == "Lo" for c in words) else f" {words} "

    def _pieces(self, text: str) -> set[str]:
        width = self._shortest
        return {text[i : i + width] for i in range(len(text) - width + 1)}


def neighbours(
    questions: Mapping[int, str],
    items: Sequence[str],
    embedder: Embedder | None,
    near: float,
) -> Iterator[dict[int, tuple[float, bool]]]:
    """For each item's question the cases whose question is near, those without one left out.

    Yields, by case, the cosine and whether the two differ in their numbers only.
    """
    cases: defaultdict[str, list[int]] = defaultdict(list)
    for number, question in questions.items():
        if question:
            cases[question].append(number)
    if embedder is None or not cases:
        yield from ({} for _ in items)
        return
    rows = embedder.embed_documents(list(cases)).astype(np.float64)  # (questions, dim)
    known = [(numbers, _wording(question)) for question, numbers in cases.items()]
    for start in range(0, len(items), ITEMS_AT_ONCE):
        block = items[start : start + ITEMS_AT_ONCE]
        cosines = embedder.embed_queries(block).astype(np.float64) @ rows.T  # (block, questions)
        for asked, line in zip(map(_wording, block), cosines, strict=True):
            close = {}
            for i in np.flatnonzero(line >= near).tolist():
                numbers, told = known[i]
                excused = told[0] == asked[0] and told[1] != asked[1]
                close.update(dict.fromkeys(numbers, (float(line[i]), excused)))
            yield close


def _wording(question: str) -> tuple[str, list[str]]:
    """The words without formulas, and the numbers: what `guard.only_numbers_differ` compares."""
    plain = THOUSANDS.sub("", normalised(question))
    return FORMULA.sub("#", plain).rstrip("?!."), sorted(NUMBER.findall(plain))
