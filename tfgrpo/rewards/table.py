"""Rewards by name for tasks with a gold answer, and rewards by majority vote for those without."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tfgrpo.errors import ConfigError, GradingError
from tfgrpo.protocols import Reward
from tfgrpo.rewards.exact import (
    canonical_answer,
    canonical_choice,
    canonical_number,
    canonical_words,
    exact_equal,
    numeric_equal,
)
from tfgrpo.rewards.extract import extract_answer
from tfgrpo.rewards.math_verify import MathVerifyReward
from tfgrpo.types import Failure, Score, Task


class GoldReward(ABC):
    """1 for a reply whose one final answer equals the gold, else 0.

    A correct answer carries the gold's canonical name, so that answers which the equality takes
    for one are counted as one. Raises GradingError for a gold that is absent or cannot be read.
    """

    @abstractmethod
    def canonical(self, answer: str) -> str | None:
        """The name under which equal answers are counted; None for what is no answer."""

    @abstractmethod
    def equal(self, gold: str, answer: str) -> bool: ...

    def read(self, text: str) -> str | None:
        """The canonical answer of a reply, which needs no gold."""
        answer = extract_answer(text).answer
        return None if answer is None else self.canonical(answer)

    def score(self, task: Task, text: str) -> Score | Failure:
        gold = None if task.answer is None else self.canonical(task.answer)
        if task.answer is None or gold is None:
            raise GradingError(
                f"The gold answer {task.answer!r} of task {task.task_id} in {task.dataset} cannot "
                "be read by this reward; correct the data, or choose another reward."
            )
        answer = extract_answer(text).answer
        if answer is None:
            return Score(0.0, False, None)
        if self.equal(task.answer, answer):
            return Score(1.0, True, gold)
        return Score(0.0, False, self.canonical(answer))


class ExactReward(GoldReward):
    """Equal rationals, or equal texts without regard to case and white space."""

    def canonical(self, answer: str) -> str | None:
        return canonical_answer(answer) or None

    def equal(self, gold: str, answer: str) -> bool:
        return exact_equal(gold, answer)


class NumericReward(GoldReward):
    """Equal numbers, within 1e-6 of a gold that is no integer."""

    def canonical(self, answer: str) -> str | None:
        number = canonical_number(answer)
        return None if number is None else str(number)

    def equal(self, gold: str, answer: str) -> bool:
        return numeric_equal(gold, answer)


class ChoiceReward(GoldReward):
    """Equal letters, A to J, of a multiple choice."""

    def canonical(self, answer: str) -> str | None:
        return canonical_choice(answer)

    def equal(self, gold: str, answer: str) -> bool:
        return canonical_choice(gold) == canonical_choice(answer)


class WordsReward(GoldReward):
    """Equal words, without regard to case, punctuation and articles (exact match of SQuAD)."""

    def canonical(self, answer: str) -> str | None:
        return canonical_words(answer) or None

    def equal(self, gold: str, answer: str) -> bool:
        return canonical_words(gold) == canonical_words(answer)


REWARDS: Mapping[str, Callable[[], Reward]] = {
    "exact": ExactReward,
    "numeric": NumericReward,
    "choice": ChoiceReward,
    "words": WordsReward,
    "math": MathVerifyReward,
}


def make_reward(name: str) -> Reward:
    """The reward called `name`; `math` owns processes and must be closed. Raises ConfigError."""
    if name not in REWARDS:
        raise ConfigError(f"There is no reward {name!r}; choose one of: {', '.join(REWARDS)}.")
    return REWARDS[name]()


def majority_vote(answers: Sequence[str | None], min_share: float = 0.5) -> str | None:
    """The most frequent canonical answer if it has `min_share` of all samples, else None.

    Samples without an answer count in the denominator and cannot win. A tie has no winner, so the
    result does not depend on the order of the samples.
    """
    ranked = Counter(answer for answer in answers if answer is not None).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    winner, votes = ranked[0]
    return winner if votes >= min_share * len(answers) else None


def vote_scores(answers: Sequence[str | None], min_share: float = 0.5) -> tuple[float | None, ...]:
    """1 for each sample that gave the majority's answer and 0 for the others; all None without one.

    None means unscored, which is not wrong: such a group teaches nothing.
    """
    winner = majority_vote(answers, min_share)
    if winner is None:
        return (None,) * len(answers)
    return tuple(float(answer == winner) for answer in answers)
