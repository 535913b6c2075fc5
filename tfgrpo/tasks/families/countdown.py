"""Countdown: make a target from some of four numbers. Most problems have several solutions."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from itertools import combinations
from random import Random

from tfgrpo.rewards.expression import all_solutions, canonical_expression, evaluate
from tfgrpo.rewards.extract import extract_answer
from tfgrpo.tasks.families.base import Family, Instance
from tfgrpo.types import Score

OPERATORS = "+-*"


@lru_cache(maxsize=4096)
def _solutions(numbers: tuple[int, ...], target: int) -> frozenset[str]:
    """Canonical forms of all expressions over two or more of `numbers` that make `target`."""
    chosen = {c for size in (2, 3, 4) for c in combinations(sorted(numbers), size)}
    return frozenset().union(*(all_solutions(c, target, OPERATORS) for c in chosen))


def reachable(a: int, b: int, c: int) -> set[int]:
    """Non-negative targets that joining a and b, and then c, can make."""
    out: set[int] = set()
    for r in (a + b, abs(a - b), a * b):
        out.update((r + c, abs(r - c), r * c))
    return out


def _draw(rng: Random) -> Instance:
    while True:
        numbers = [rng.randint(2, 12) for _ in range(4)]
        targets = sorted(
            t for t in reachable(*rng.sample(numbers, 3)) if 10 <= t <= 60 and t not in numbers
        )
        if targets:
            return {"numbers": numbers, "target": rng.choice(targets)}


def _prompt(instance: Instance) -> str:
    numbers = ",".join(map(str, instance["numbers"]))
    return f"Make {instance['target']} from {numbers} with + - * using each at most once"


def _one_solution(instance: Instance) -> str:
    """A shortest solution: pairs before triples, so that no gold needs the whole enumeration."""
    for size in (2, 3, 4):
        for chosen in combinations(instance["numbers"], size):
            found = all_solutions(chosen, instance["target"], OPERATORS)
            if found:
                return min(found)
    raise AssertionError("every drawn target can be reached from three of the numbers")


def grade_expression(instance: Instance, text: str) -> tuple[bool, str | None]:
    """Whether `text` makes the target from the given numbers, and its canonical form.

    Each number may be used at most once, and at least two must be. A trailing "= target" is
    accepted. The canonical form is None if `text` is no expression.
    """
    left = text.partition("=")[0].strip()
    try:
        parsed = evaluate(left)
    except ValueError:
        return False, None
    spare = Counter(parsed.leaves) - Counter(instance["numbers"])
    fits = not spare and len(parsed.leaves) > 1 and "/" not in left and "\u00f7" not in left
    return fits and parsed.value == instance["target"], canonical_expression(parsed.tree)


def read_expression(text: str) -> str | None:
    """The canonical form of the final expression, whether or not it solves anything."""
    found = extract_answer(text)
    if found.answer is None:
        return None
    try:
        return canonical_expression(evaluate(found.answer.partition("=")[0].strip()).tree)
    except ValueError:
        return None


def _grade(instance: Instance, text: str) -> Score:
    found = extract_answer(text)
    correct, canonical = (False, None)
    if found.answer is not None:
        correct, canonical = grade_expression(instance, found.answer)
    return Score(float(correct), correct, canonical, countdown_mode(text))


def countdown_mode(text: str) -> str | None:
    """`backward`, `pairs`, `trial` or `once`, read off the written steps."""
    lowered = text.lower()
    if re.search(r"\b(keep|need)\b", lowered):
        return "backward"
    if re.search(r"\bthen\b", lowered):
        return "pairs"
    if re.search(r"=\s*\d+ (no|yes)\b", lowered):
        return "trial"
    return "once" if extract_answer(text).answer is not None else None


COUNTDOWN = Family(
    name="countdown",
    title="making a target from some of four numbers with + - *",
    draw=_draw,
    key=lambda i: f"{','.join(map(str, sorted(i['numbers'])))}>{i['target']}",
    prompt=_prompt,
    answer=_one_solution,
    read=read_expression,
    grade=_grade,
    read_mode=countdown_mode,
    modes=("once", "trial", "pairs", "backward"),
    solutions=lambda i: _solutions(tuple(i["numbers"]), i["target"]),
)
