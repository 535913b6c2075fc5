"""How a simulated population of solvers writes out its work: four styles for each family.

A style's strength is intrinsic. Good styles break a problem into steps that a small network can
do; weak styles leap, look at the wrong thing, or give up after three tries and guess. Nothing here
corrupts a result on purpose: a solver who computes, computes right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

from tfgrpo.tasks.families.base import Instance

Solver = Callable[[Instance, Random], str]

PLACE_NAMES = ("ones", "tens", "hundreds", "thousands")


def _final(answer: object) -> str:
    return f"Answer: {answer}"


# sums of three numbers -----------------------------------------------------------------------


def sum_once(instance: Instance, rng: Random) -> str:
    return _final(sum(instance["terms"]))


def sum_running(instance: Instance, rng: Random) -> str:
    a, b, c = instance["terms"]
    return f"{a}+{b}={a + b}\n{a + b}+{c}={a + b + c}\n{_final(a + b + c)}"


def sum_columns(instance: Instance, rng: Random) -> str:
    lines, carry, terms = [], 0, list(instance["terms"])
    for place in range(len(str(max(terms)))):
        digits = [t // 10**place % 10 for t in terms if t >= 10**place]
        if carry:
            digits.append(carry)
        total = sum(digits)
        carry = total // 10
        lines.append(f"{PLACE_NAMES[place]} {'+'.join(map(str, digits))}={total} carry {carry}")
    return "\n".join([*lines, _final(sum(terms))])


def sum_places(instance: Instance, rng: Random) -> str:
    lines, parts = [], []
    for place in reversed(range(len(str(max(instance["terms"]))))):
        values = [t // 10**place % 10 * 10**place for t in instance["terms"]]
        values = [v for v in values if v]
        parts.append(sum(values))
        lines.append(f"{'+'.join(map(str, values)) or '0'}={parts[-1]}")
    total = sum(parts)
    return "\n".join([*lines, f"{'+'.join(map(str, parts))}={total}", _final(total)])


# products of a three-digit and a two-digit number ----------------------------------------------


def _factors(instance: Instance) -> tuple[int, list[int]]:
    """The number, and the multiplier's parts by place: 26 is 6 and 20."""
    number, multiplier = instance["number"], instance["multiplier"]
    parts = (multiplier % 10, multiplier // 10 * 10)
    return number, [part for part in parts if part]


def product_once(instance: Instance, rng: Random) -> str:
    return _final(instance["number"] * instance["multiplier"])


def product_doubling(instance: Instance, rng: Random) -> str:
    number, multiplier = instance["number"], instance["multiplier"]
    lines, value, weight = [], number, 1
    total = number if multiplier % 2 else 0
    while weight * 2 <= multiplier:
        weight, value = weight * 2, value * 2
        lines.append(f"double {value}")
        if multiplier & weight:
            if total:
                lines.append(f"{total}+{value}={total + value}")
            total += value
    return "\n".join([*lines, _final(total)])


def product_columns(instance: Instance, rng: Random) -> str:
    """Row by row and digit by digit; the carries are kept in the head, and so is the addition."""
    number, parts = _factors(instance)
    lines = []
    for part in parts:
        digit, puts, carry = part // 10 or part, [], 0
        for character in reversed(str(number)):
            value = int(character) * digit + carry
            puts.append(f"{character} put {value % 10}")
            carry = value // 10
        lines.append(f"by {digit}: {', '.join(puts)}")
    return "\n".join([*lines, _final(number * instance["multiplier"])])


def product_places(instance: Instance, rng: Random) -> str:
    number, parts = _factors(instance)
    made = [number * part for part in parts]
    lines = [f"{number}*{part}={value}" for part, value in zip(parts, made, strict=True)]
    if len(made) > 1:
        lines.append(f"{made[0]}+{made[1]}={sum(made)}")
    return "\n".join([*lines, _final(sum(made))])


# sorting ----------------------------------------------------------------------------------------


def _join(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))


def sort_once(instance: Instance, rng: Random) -> str:
    return _final(_join(sorted(instance["numbers"])))


def sort_leading(instance: Instance, rng: Random) -> str:
    """Orders by first digit, as in a dictionary: the wrong thing to look at."""
    order = sorted(instance["numbers"], key=str)
    groups: dict[str, list[int]] = {}
    for number in order:
        groups.setdefault(str(number)[0], []).append(number)
    lines = [f"first digit {d}: {_join(g)}" for d, g in groups.items()]
    return "\n".join([*lines, _final(_join(order))])


def sort_halves(instance: Instance, rng: Random) -> str:
    numbers = instance["numbers"]
    middle = len(numbers) // 2
    left, right = sorted(numbers[:middle]), sorted(numbers[middle:])
    return f"halves {_join(left)} and {_join(right)}\n{_final(_join(sorted(numbers)))}"


def sort_length(instance: Instance, rng: Random) -> str:
    lines = []
    for digits in (1, 2, 3):
        group = [n for n in instance["numbers"] if len(str(n)) == digits]
        if group:
            name = "digit" if digits == 1 else "digits"
            lines.append(f"{digits} {name}: {_join(group)} in order {_join(sorted(group))}")
    return "\n".join([*lines, _final(_join(sorted(instance["numbers"])))])


# countdown --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Step:
    text: str
    value: int


def _pair_steps(a: int, b: int) -> list[_Step]:
    high, low = max(a, b), min(a, b)
    return [_Step(f"{a}+{b}", a + b), _Step(f"{high}-{low}", high - low), _Step(f"{a}*{b}", a * b)]


def _wrap(step: _Step) -> str:
    return step.text if "*" in step.text else f"({step.text})"


def _combine(step: _Step, c: int) -> list[_Step]:
    """What one more number can make of an intermediate result."""
    inner, value = _wrap(step), step.value
    difference = (
        _Step(f"{step.text}-{c}", value - c) if value >= c else _Step(f"{c}-{inner}", c - value)
    )
    return [_Step(f"{step.text}+{c}", value + c), difference, _Step(f"{inner}*{c}", value * c)]


def _first_steps(numbers: Sequence[int]) -> list[tuple[_Step, int]]:
    """All ways to join two of the numbers first and then take a third."""
    out = []
    for keep, c in enumerate(numbers):
        others = [n for i, n in enumerate(numbers) if i != keep]
        out += [(step, c) for a, b in combinations(others, 2) for step in _pair_steps(a, b)]
    return out


def expressions(instance: Instance) -> list[_Step]:
    """All expressions over three of the numbers, in the forms that solvers write."""
    return [full for step, c in _first_steps(instance["numbers"]) for full in _combine(step, c)]


def countdown_once(instance: Instance, rng: Random) -> str:
    hits = [e for e in expressions(instance) if e.value == instance["target"]]
    return _final(rng.choice(hits).text)


def countdown_trial(instance: Instance, rng: Random) -> str:
    """Tries whole expressions, at most three, and then hands in the last."""
    tries = rng.sample(expressions(instance), 3)
    lines = []
    for attempt in tries:
        hit = attempt.value == instance["target"]
        lines.append(f"{attempt.text}={attempt.value} {'yes' if hit else 'no'}")
        if hit:
            break
    return "\n".join([*lines, _final(attempt.text)])


def countdown_pairs(instance: Instance, rng: Random) -> str:
    """Joins two numbers, then tries a third on the result; gives up after four pairs."""
    lines = []
    for step, c in rng.sample(_first_steps(instance["numbers"]), 4):
        outcomes = _combine(step, c)
        tried = ",".join(str(o.value) for o in outcomes)
        hit = next((o for o in outcomes if o.value == instance["target"]), None)
        lines.append(f"{step.text}={step.value} then {c}: {tried} {'yes' if hit else 'no'}")
        if hit:
            return "\n".join([*lines, _final(hit.text)])
    return "\n".join([*lines, _final(rng.choice(outcomes).text)])


def _needs(target: int, c: int) -> list[str]:
    """What two other numbers may make for `c` to finish the job, worked out from the target."""
    found = [f"{target}-{c}={target - c}" if target > c else f"{c}-{target}={c - target}"]
    found.append(f"{target}+{c}={target + c}")
    if target % c == 0:
        found.append(f"{target}/{c}={target // c}")
    return found


def countdown_backward(instance: Instance, rng: Random) -> str:
    """Keeps one number, works out what two others must make, and tries the pair that comes closest.

    Whatever it tries is worked out and checked; a near miss sends it on to the next need.
    """
    target, numbers = instance["target"], instance["numbers"]
    needs = [(keep, need) for keep, c in enumerate(numbers) for need in _needs(target, c)]
    lines: list[str] = []
    for keep, need in rng.sample(needs, len(needs)):
        c, wanted = numbers[keep], int(need.partition("=")[2])
        others = [n for i, n in enumerate(numbers) if i != keep]
        steps = [s for a, b in combinations(others, 2) for s in _pair_steps(a, b)]
        step = min(rng.sample(steps, len(steps)), key=lambda s: abs(s.value - wanted))
        hit = step.value == wanted
        said = f"keep {c} need {need} try {step.text}={step.value}"
        lines.append(f"{said} {'yes' if hit else 'no'}")
        if hit:
            full = [e for e in _combine(step, c) if e.value == target]
            return "\n".join([*lines, _final(rng.choice(full).text)])
    raise AssertionError("every drawn target can be reached from three of the numbers")


SOLVERS: Mapping[str, Mapping[str, Solver]] = {
    "sum": {
        "once": sum_once, "running": sum_running, "places": sum_places, "columns": sum_columns,
    },
    "product": {
        "once": product_once, "doubling": product_doubling,
        "columns": product_columns, "places": product_places,
    },
    "sort": {
        "once": sort_once, "leading": sort_leading, "halves": sort_halves, "length": sort_length,
    },
    "countdown": {
        "once": countdown_once, "trial": countdown_trial,
        "pairs": countdown_pairs, "backward": countdown_backward,
    },
}  # fmt: skip

# The share of each style among solvers who were told nothing; good styles are rare.
PRIOR: Mapping[str, Mapping[str, float]] = {
    "sum": {"once": 0.36, "running": 0.30, "places": 0.22, "columns": 0.12},
    "product": {"once": 0.36, "doubling": 0.30, "columns": 0.22, "places": 0.12},
    "sort": {"once": 0.24, "leading": 0.44, "halves": 0.20, "length": 0.12},
    "countdown": {"once": 0.34, "trial": 0.30, "pairs": 0.22, "backward": 0.14},
}
