"""Sums of three numbers, and products of a three-digit and a two-digit number."""

from __future__ import annotations

import re
from random import Random

from tfgrpo.rewards.exact import canonical_number
from tfgrpo.rewards.extract import extract_answer
from tfgrpo.tasks.families.base import Family, Instance
from tfgrpo.types import Score


def _draw_sum(rng: Random) -> Instance:
    return {
        "terms": [
            rng.randint(100, 999) if rng.random() < 0.7 else rng.randint(10, 99) for _ in range(3)
        ]
    }


def _draw_product(rng: Random) -> Instance:
    return {"number": rng.randint(100, 999), "multiplier": rng.randint(12, 99)}


def _total(instance: Instance) -> int:
    return int(sum(instance["terms"]))


def _product(instance: Instance) -> int:
    return int(instance["number"] * instance["multiplier"])


def read_number(text: str) -> str | None:
    found = extract_answer(text)
    value = canonical_number(found.answer) if found.answer is not None else None
    return None if value is None else str(value)


def _grade(gold: int, text: str, mode: str | None) -> Score:
    answer = read_number(text)
    return Score(float(answer == str(gold)), answer == str(gold), answer, mode)


_CARRY = re.compile(r"\bcarry\b|\bones\b.*\btens\b", re.IGNORECASE | re.DOTALL)
_PUT = re.compile(r"\bput\b|\bcarry\b|\bwrite down\b", re.IGNORECASE)
_EQUATION = re.compile(r"\d[+*x×]\d+=\d")


def sum_mode(text: str) -> str | None:
    """`columns`, `places`, `running` or `once`, read off the written steps."""
    steps = text.replace(" ", "")
    equations = _EQUATION.findall(steps)
    if _CARRY.search(text):
        return "columns"
    if not equations:
        return "once" if extract_answer(text).answer is not None else None
    return "places" if steps.count("=") > 2 else "running"


def product_mode(text: str) -> str | None:
    """`columns`, `places`, `doubling` or `once`, read off the written steps."""
    steps = text.replace(" ", "")
    if _PUT.search(text):
        return "columns"
    if "double" in text.lower():
        return "doubling"
    if _EQUATION.search(steps):
        return "places"
    return "once" if extract_answer(text).answer is not None else None


SUM = Family(
    name="sum",
    title="sums of three numbers with two or three digits",
    draw=_draw_sum,
    key=lambda i: "+".join(map(str, sorted(i["terms"]))),
    prompt=lambda i: f"What is {'+'.join(map(str, i['terms']))}?",
    answer=lambda i: str(_total(i)),
    read=read_number,
    grade=lambda i, text: _grade(_total(i), text, sum_mode(text)),
    read_mode=sum_mode,
    modes=("once", "running", "places", "columns"),
)

PRODUCT = Family(
    name="product",
    title="products of a three-digit and a two-digit number",
    draw=_draw_product,
    key=lambda i: f"{i['number']}*{i['multiplier']}",
    prompt=lambda i: f"What is {i['number']}*{i['multiplier']}?",
    answer=lambda i: str(_product(i)),
    read=read_number,
    grade=lambda i, text: _grade(_product(i), text, product_mode(text)),
    read_mode=product_mode,
    modes=("once", "doubling", "columns", "places"),
)
