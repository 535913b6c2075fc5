"""Putting five numbers of mixed lengths in increasing order."""

from __future__ import annotations

import re
from random import Random

from tfgrpo.rewards.extract import extract_answer
from tfgrpo.tasks.families.base import Family, Instance
from tfgrpo.types import Score

_LIST = re.compile(r"\[?\s*\d{1,6}(?:\s*[, ]\s*\d{1,6})*\s*\]?", re.ASCII)


def _draw(rng: Random) -> Instance:
    numbers: list[int] = []
    while len(numbers) < 5:
        digits = rng.choice((1, 2, 2, 3, 3))
        number = rng.randint(10 ** (digits - 1), 10**digits - 1)
        if number not in numbers:
            numbers.append(number)
    return {"numbers": numbers}


def _ordered(instance: Instance) -> str:
    return ",".join(map(str, sorted(instance["numbers"])))


def parse_list(text: str) -> tuple[int, ...] | None:
    """A comma- or space-separated list of numbers, or None if `text` is anything else."""
    if not _LIST.fullmatch(text.strip()):
        return None
    return tuple(int(word) for word in re.findall(r"\d+", text))


def read_list(text: str) -> str | None:
    found = extract_answer(text)
    numbers = parse_list(found.answer) if found.answer is not None else None
    return None if numbers is None else ",".join(map(str, numbers))


def _grade(instance: Instance, text: str) -> Score:
    answer = read_list(text)
    correct = answer == _ordered(instance)
    return Score(float(correct), correct, answer, sort_mode(text))


def sort_mode(text: str) -> str | None:
    """`length`, `halves`, `leading` or `once`, read off the written steps."""
    lowered = text.lower()
    if re.search(r"\d digits?\b", lowered):
        return "length"
    if "half" in lowered or "halves" in lowered:
        return "halves"
    if "first digit" in lowered or "leading" in lowered:
        return "leading"
    return "once" if extract_answer(text).answer is not None else None


SORT = Family(
    name="sort",
    title="sorting five numbers of one to three digits",
    draw=_draw,
    key=_ordered,
    prompt=lambda i: f"Sort from small to large: {','.join(map(str, i['numbers']))}",
    answer=_ordered,
    read=read_list,
    grade=_grade,
    read_mode=sort_mode,
    modes=("once", "leading", "halves", "length"),
)
