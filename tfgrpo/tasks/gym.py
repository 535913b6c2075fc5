"""Instances from reasoning-gym, graded by our own verifiers.

Two traps of that library shape this file. Item i of seed s is item i-1 of seed s+1, so splits are
hashes of the instance. And several of its scorers evaluate model text or accept wrong answers, so
none is called: only tasks whose answer we can check exactly are offered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfgrpo.errors import ConfigError
from tfgrpo.rewards.exact import (
    canonical_number,
    canonical_string,
    is_lowest_terms,
)
from tfgrpo.rewards.expression import canonical_expression, evaluate, is_solution
from tfgrpo.rewards.extract import extract_answer
from tfgrpo.seeding import derive_seed
from tfgrpo.tasks.split import split_of, task_id_of
from tfgrpo.types import Failure, Score, Split, Task

DRAWS_PER_TASK = 200
"""Instances that are drawn at most for each one wanted; small families run out of distinct ones."""


@dataclass(frozen=True, slots=True)
class Family:
    """How a reasoning-gym task is identified and read.

    `keys` are the metadata that make an instance what it is, whatever its wording; `read` is the
    canonical form of an answer. `options` are those which the library's gold is right for.
    """

    keys: tuple[str, ...]
    read: Callable[[str], str | None]
    options: Mapping[str, Any] = field(default_factory=dict)


def read_number(answer: str) -> str | None:
    number = canonical_number(answer)
    return None if number is None else str(number)


def read_lowest_terms(answer: str) -> str | None:
    """A ratio in lowest terms; None for one that still has a common factor."""
    return read_number(answer) if is_lowest_terms(answer) else None


def read_numbers(answer: str) -> str | None:
    """A list of numbers in its order, with or without brackets and quotes: `['1.0', '2']`."""
    match = re.fullmatch(r"\s*\[?([^\[\]]*)\]?\s*", answer)
    if match is None or len(answer) > 2000:
        return None
    numbers = [read_number(part.strip(" \t\r\n'\"")) for part in match[1].split(",")]
    return None if None in numbers else ",".join(str(n) for n in numbers)


def read_expression(answer: str) -> str | None:
    try:
        return canonical_expression(evaluate(answer).tree)
    except ValueError:
        return None


FAMILIES: Mapping[str, Family] = {
    # Division is left out of basic_arithmetic: the library's own gold floors it.
    "basic_arithmetic": Family(("expression",), read_number, {"operators": ("+", "-", "*")}),
    "base_conversion": Family(("source_repr", "source_base", "target_base"), canonical_string),
    "caesar_cipher": Family(("cipher_text",), canonical_string),
    "chain_sum": Family(("expression",), read_number),
    "count_bits": Family(("number",), read_number),
    "count_primes": Family(("start", "end"), read_number),
    "countdown": Family(("numbers", "target"), read_expression),
    "decimal_chain_sum": Family(("expression",), read_number),
    "fraction_simplification": Family(("numerator", "denominator"), read_lowest_terms),
    "gcd": Family(("numbers",), read_number),
    "lcm": Family(("numbers",), read_number),
    "letter_counting": Family(("span", "target_letter"), read_number),
    "number_sorting": Family(("original_numbers", "direction"), read_numbers),
    "products": Family(("expression",), read_number),
    "simple_equations": Family(("equation",), read_number),
    "spell_backward": Family(("word",), canonical_string),
}
_UNORDERED = {"countdown", "gcd", "lcm"}


class GymTasks:
    """Instances of one reasoning-gym task; `options` are its own settings.

    Raises ConfigError for a task that we cannot grade, for settings that it refuses, and where
    reasoning-gym is not installed.
    """

    def __init__(self, task: str, options: Mapping[str, Any] | None = None, salt: str = "") -> None:
        if task not in FAMILIES:
            raise ConfigError(
                f"The reasoning-gym task {task!r} has no verifier here; "
                f"choose one of: {', '.join(sorted(FAMILIES))}."
            )
        self.name = f"gym:{task}"
        self.reward = GymReward()
        self._task = task
        self._options = {**(options or {}), **FAMILIES[task].options}
        self._salt = salt
        self._draw(seed=0, size=1)

    def tasks(self, split: Split, limit: int, seed: int) -> Sequence[Task]:
        """Distinct instances whose hash falls into `split`; fewer where the family is small."""
        items = self._draw(derive_seed(seed, self.name) >> 32, size=max(limit * DRAWS_PER_TASK, 1))
        found: dict[str, Task] = {}
        for index in range(limit * DRAWS_PER_TASK):
            if len(found) == limit:
                break
            task = instance(self._task, items[index], self._salt)
            if task.split == split:
                found.setdefault(task.task_id, task)
        return tuple(found.values())

    def _draw(self, seed: int, size: int) -> Any:
        try:
            import reasoning_gym
        except ImportError as error:
            raise ConfigError(
                "Tasks of reasoning-gym need that package, which is not installed; "
                "run: pip install 'tfgrpo[gym]'"
            ) from error
        try:
            return reasoning_gym.create_dataset(self._task, seed=seed, size=size, **self._options)
        except (TypeError, ValueError, AssertionError) as error:
            raise ConfigError(
                f"The reasoning-gym task {self._task} refuses its settings ({error}); correct them."
            ) from error


def instance(name: str, item: Mapping[str, Any], salt: str = "") -> Task:
    """A reasoning-gym item as a task, split by the hash of what makes it that instance."""
    given = {key: item["metadata"][key] for key in FAMILIES[name].keys}
    if name in _UNORDERED:
        given["numbers"] = sorted(given["numbers"])
    dataset = f"gym:{name}"
    task_id = task_id_of(dataset, given)
    return Task(
        task_id,
        item["question"].strip(),
        str(item["answer"]),
        dataset,
        split_of(task_id, salt),
        {"family": name, **given},
    )


class GymReward:
    """1 for a reply whose final answer is right by exact comparison, else 0.

    A right countdown expression carries its canonical form as `mode`, since many are right.
    """

    def read(self, task: Task, text: str) -> str | None:
        """The canonical answer of a reply to `task`, which needs no gold."""
        answer = extract_answer(text).answer
        return None if answer is None else _family(task).read(answer)

    def score(self, task: Task, text: str) -> Score | Failure:
        answer = extract_answer(text).answer
        if answer is None:
            return Score(0.0, False, None)
        if task.metadata.get("family") == "countdown":
            return _score_expression(task, answer)
        family = _family(task)
        given = family.read(answer)
        correct = given is not None and given == family.read(task.answer or "")
        return Score(float(correct), correct, given)


def _score_expression(task: Task, answer: str) -> Score:
    try:
        expression = evaluate(answer)
    except ValueError:
        return Score(0.0, False, None)
    form = canonical_expression(expression.tree)
    if is_solution(expression, task.metadata["numbers"], task.metadata["target"]):
        return Score(1.0, True, form, mode=form)
    return Score(0.0, False, form)


def _family(task: Task) -> Family:
    name = str(task.metadata.get("family"))
    if name not in FAMILIES:
        raise ConfigError(
            f"The task {task.task_id} of {task.dataset} is none of reasoning-gym; "
            "grade it with a reward of its own family."
        )
    return FAMILIES[name]
