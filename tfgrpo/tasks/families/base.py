"""What a procedural family must know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from tfgrpo.types import Score

Instance = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """A generator of problems with an exact verifier and a reader of solution strategies.

    `draw` makes one instance, a mapping of JSON values; `key` is its canonical form, equal for
    equal problems, from which the task id and the split are hashed. `read` gives a reply's
    canonical final answer, which needs no gold; `grade` scores a whole reply against the
    instance; `read_mode` names the strategy that a reply used, or None. `modes` lists the
    strategies that `read_mode` can name; `solutions` lists the canonical forms of all correct
    answers where these can be enumerated.
    """

    name: str
    title: str
    draw: Callable[[Random], Instance]
    key: Callable[[Instance], str]
    prompt: Callable[[Instance], str]
    answer: Callable[[Instance], str]
    read: Callable[[str], str | None]
    grade: Callable[[Instance, str], Score]
    read_mode: Callable[[str], str | None]
    modes: tuple[str, ...]
    solutions: Callable[[Instance], frozenset[str]] | None = None
