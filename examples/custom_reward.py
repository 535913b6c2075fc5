"""Tasks and rewards of your own, in the forms that `--tasks` and `--set reward=` take.

PYTHONPATH=examples tfgrpo tasks grade custom_reward:load --set reward=custom_reward:grade
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tfgrpo.rewards.extract import extract_answer
from tfgrpo.types import Task


def load(count: int = 20) -> Iterator[dict[str, Any]]:
    """Rows as in a JSON Lines file; `--set tasks.options.count=50` gives more of them."""
    for i in range(2, count + 2):
        yield {"question": f"What is {i} / 7, to two decimals?", "answer": f"{i / 7:.6f}", "id": i}


def grade(text: str, answer: str | None, task: Task) -> bool:
    """Right within a hundredth. What is no number raises, and so is counted as a failure."""
    given = extract_answer(text).answer
    return given is not None and abs(float(given) - float(answer or "nan")) < 0.01


def close(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    """The same for TRL (`reward=trl:custom_reward:close`), from 1 down to 0 with the distance.

    Such a reward needs a threshold: `--set reward.threshold=0.99`.
    """
    rewards = []
    for text, gold in zip(completions, answer, strict=True):
        given = extract_answer(text).answer
        rewards.append(0.0 if given is None else max(0.0, 1 - abs(float(given) - float(gold))))
    return rewards
