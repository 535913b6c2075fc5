"""Rewards of your own: a Python function, in our form or in that of another library."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from tfgrpo.errors import ConfigError
from tfgrpo.plugins import load_function
from tfgrpo.rewards.adapters import STYLES, Function, call, check
from tfgrpo.rewards.exact import canonical_answer
from tfgrpo.rewards.extract import extract_answer
from tfgrpo.types import Failure, Score, Task

MAX_REASON = 200


class FunctionReward:
    """Grades with a function; `name` is how the user called it, `style` one of `STYLES`.

    `threshold` is the least reward of a right reply. Without it only 0 and 1 are accepted, because
    whether a reply is right is nothing to guess. What the function raises, and every answer that is
    no finite number, is a `Failure` of grading. The function is called from several threads.
    """

    def __init__(
        self,
        name: str,
        function: Function,
        style: str = "tfgrpo",
        threshold: float | None = None,
    ) -> None:
        self.name = name
        self._function = function
        self._style = STYLES[style]
        self._threshold = threshold

    def read(self, task: Task, text: str) -> str | None:
        """The canonical final answer of a reply, by which equal answers are counted."""
        answer = extract_answer(text).answer
        return None if answer is None else canonical_answer(answer) or None

    def check(self, task: Task) -> None:
        """Raise ConfigError unless the function can be called for tasks like this one."""
        check(self._style, self._function, self.name, task)

    def score(self, task: Task, text: str) -> Score | Failure:
        try:
            value = call(self._style, self._function, text, task)
            if hasattr(value, "item"):  # numbers of numpy and torch
                value = value.item()
        except Exception as error:  # whatever code of others raises
            said = " ".join(f"{type(error).__name__}: {error}".split())
            return Failure("grading", f"{self.name} failed with {said}"[:MAX_REASON])
        return self._graded(value, self.read(task, text))

    def _graded(self, value: Any, answer: str | None) -> Score | Failure:
        if isinstance(value, Score):
            finite = _is_finite(value.reward)
            return value if finite else Failure("grading", f"{self.name} gave {value.reward!r}")
        if not _is_finite(value):
            return Failure("grading", f"{self.name} gave {value!r}, no number"[:MAX_REASON])
        reward = float(value)
        if self._threshold is not None:
            return Score(reward, reward >= self._threshold, answer)
        if reward not in (0.0, 1.0):
            raise ConfigError(
                f"{self.name} gave {reward:g}, which says neither right nor wrong; set "
                "reward.threshold to the least reward of a right reply."
            )
        return Score(reward, reward == 1.0, answer)


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def load_reward(target: str, style: str, threshold: float | None) -> FunctionReward:
    """The reward that `target` names. Raises ConfigError if there is none."""
    prefix = "" if style == "tfgrpo" else f"{style}:"
    return FunctionReward(
        prefix + target, load_function(target, "tfgrpo.rewards"), style, threshold
    )
