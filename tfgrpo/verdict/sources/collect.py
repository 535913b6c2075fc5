"""Samples gathered row by row into evaluations: any order of rows, millions of them.

A sample takes about 150 bytes, as every name is held once.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, zip_longest
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from tfgrpo.canonical import canonical_json
from tfgrpo.errors import ConfigError
from tfgrpo.types import TaskOutcome
from tfgrpo.verdict.arms import Evaluation

UNNAMED = "unnamed"
"""The dataset of problems whose file names none."""

_LINES = 1 << 40  # a place is file * _LINES + line

_Sample = tuple[int, int, bool | None, str | None, int, str | None, float | None]
"""Index (-1 for none), place, correct, answer, length, mode, entropy."""


class ArmKey(NamedTuple):
    """`parts` name an arm, the general before the special (model, filter); empty parts are ''."""

    parts: tuple[str, ...]
    seed: int | None = None


class _Problem:
    """The samples of one problem in one arm; `cut` of the graded ones met the token limit.

    `cut_of_all` says the same where a file gives the count.
    """

    __slots__ = ("cut", "cut_of_all", "samples")

    def __init__(self) -> None:
        self.samples: list[_Sample] = []
        self.cut = 0
        self.cut_of_all = 0


class Collector:
    """Takes samples from any number of files, and gives one evaluation for each arm and seed."""

    def __init__(self) -> None:
        self._files: list[Path] = []
        self._arms: dict[ArmKey, dict[tuple[str, str], _Problem]] = {}
        self._facts: dict[ArmKey, dict[str, dict[str, Any]]] = {}
        self._names: dict[str, str] = {}

    def begin(self, file: Path) -> None:
        """From now on samples come from `file`."""
        self._files.append(file)

    def declare(self, arm: ArmKey, scope: str, facts: Mapping[str, Any]) -> None:
        """What a file says of an arm's protocol on one task (`scope`)."""
        try:
            canonical_json(facts)
        except (ValueError, TypeError, RecursionError) as error:
            raise ConfigError(
                f"{self._files[-1]} has settings that JSON cannot hold ({error}); correct them."
            ) from None
        self._facts.setdefault(arm, {}).setdefault(scope, {}).update(facts)

    def add(
        self,
        arm: ArmKey,
        dataset: str,
        problem: str,
        line: int,
        correct: bool | None,
        index: int | None = None,
        answer: str | None = None,
        length: int = 0,
        mode: str | None = None,
        entropy: float | None = None,
        cut: bool = False,
        cut_of_all: int = 0,
    ) -> None:
        """One sample; `correct` None: it was not graded. Without `index` samples have no order.

        It was `cut` at the token limit, or `cut_of_all` of the problem's graded samples were.
        """
        problems = self._arms.get(arm)
        if problems is None:
            problems = self._arms[arm] = {}
        found = problems.get((dataset, problem))
        if found is None:
            found = problems[dataset, problem] = _Problem()
        place = (len(self._files) - 1) * _LINES + line
        answer = self._names.setdefault(answer, answer) if answer else answer
        mode = self._names.setdefault(mode, mode) if mode else mode
        number = -1 if index is None else index
        found.samples.append((number, place, correct, answer, length, mode, entropy))
        found.cut += cut and correct is not None
        found.cut_of_all = max(found.cut_of_all, cut_of_all)

    def evaluations(self, source: Path, name: str | None) -> tuple[Evaluation, ...]:
        """All that was gathered, by arm in the order of first mention; problems are sorted.

        Raises:
            ConfigError: if there is no sample, or one is there twice.
        """
        if not self._arms:
            raise ConfigError(f"{source} holds no samples; check that it is the file you mean.")
        names = _arm_names(self._arms, name, source.stem if source.is_file() else source.name)
        made = []
        for arm in list(self._arms):
            problems = self._arms.pop(arm)  # its columns are freed as their outcomes are made
            _check_ids(problems, source)
            outcomes = []
            for dataset, problem in sorted(problems):
                outcomes.append(self._outcome(dataset, problem, problems.pop((dataset, problem))))
            facts = _merged(self._facts.get(arm, {}))
            made.append(
                Evaluation(names[arm], arm.seed, tuple(outcomes), facts, source=str(source))
            )
        return tuple(made)

    def _outcome(self, dataset: str, name: str, problem: _Problem) -> TaskOutcome:
        graded = [s for s in self._ordered(name, problem.samples) if s[2] is not None]
        cut = max(problem.cut, problem.cut_of_all)
        if cut > len(graded):
            raise ConfigError(
                f"{self._where(problem.samples[0])}: {cut} of {len(graded)} graded samples of "
                f"problem {name!r} are said to be truncated; correct it."
            )
        columns = list(zip(*graded, strict=True)) or [()] * 7
        _, _, correct, answers, lengths, modes, entropies = columns
        failures = len(problem.samples) - len(graded)
        return TaskOutcome(
            name, dataset, correct, answers, modes, entropies, lengths, cut, failures
        )

    def _ordered(self, name: str, samples: Sequence[_Sample]) -> Sequence[_Sample]:
        """By index; samples without one in an order that does not depend on that of the rows."""
        if all(sample[0] < 0 for sample in samples):
            return _shuffled(name, samples)
        ordered = sorted(samples, key=itemgetter(0))
        for a, b in pairwise(ordered):
            if a[0] == b[0]:
                first, second = sorted((a, b), key=itemgetter(1))
                raise ConfigError(
                    f"{self._where(second)}, repeats sample {a[0]} of problem {name!r} "
                    f"({self._where(first)}); remove one, or tell the arms or seeds apart."
                )
        return ordered

    def _where(self, sample: _Sample) -> str:
        file, line = divmod(sample[1], _LINES)
        return f"{self._files[file]}, line {line}"


def prompt_id(prompt: object) -> str:
    """The id of a problem whose file names none: a hash of its prompt (16 hex digits).

    A prompt is text or a list of messages. Raises ValueError, with the reason, for anything else.
    """
    if not prompt or not isinstance(prompt, str | list):
        raise ValueError("the prompt is missing, or no text; restore it")
    try:
        text = prompt if isinstance(prompt, str) else canonical_json(prompt)
    except (ValueError, TypeError, RecursionError):
        raise ValueError("the prompt is no text and no list of messages; restore it") from None
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _shuffled(name: str, samples: Sequence[_Sample]) -> Sequence[_Sample]:
    """In an order that depends on no order of rows, and in which each sample may come first.

    Sorted by what they say, the first sample of every problem would be of one kind. So equal
    samples are numbered, and all are sorted by a hash.
    """
    seen: Counter[tuple[object, ...]] = Counter()
    keyed = []
    for sample in samples:
        said = sample[2:]
        seen[said] += 1
        text = repr((name, said, seen[said]))
        keyed.append((hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest(), sample))
    return [sample for _, sample in sorted(keyed, key=itemgetter(0))]


def _arm_names(arms: Iterable[ArmKey], name: str | None, fallback: str) -> dict[ArmKey, str]:
    """`name`, or the first part where all arms have the same, then the parts in which they differ.

    Arms without any such part are called `fallback`.
    """
    arms = list(arms)
    columns = list(zip_longest(*(arm.parts for arm in arms), fillvalue=""))
    varying = [column for column in columns if len(set(column)) > 1]
    same = len(set(columns[0])) == 1
    start = name or (columns[0][0] or fallback if same else "")
    return {
        arm: "/".join(part for part in (start, *(column[i] for column in varying)) if part)
        or fallback
        for i, arm in enumerate(arms)
    }


def _check_ids(problems: Iterable[tuple[str, str]], source: Path) -> None:
    seen: dict[str, str] = {}
    for dataset, name in problems:
        other = seen.setdefault(name, dataset)
        if other != dataset:
            raise ConfigError(
                f"{source} has the problem {name!r} in the datasets {other!r} and {dataset!r}; "
                "give problems of different datasets different ids."
            )


def _merged(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Settings of all tasks; one that differs between them is a table by task."""
    merged: dict[str, Any] = {}
    for name in sorted({name for own in facts.values() for name in own}):
        values = {scope: own[name] for scope, own in sorted(facts.items()) if name in own}
        same = len({canonical_json(value) for value in values.values()}) == 1
        merged[name] = next(iter(values.values())) if same else values
    return merged
