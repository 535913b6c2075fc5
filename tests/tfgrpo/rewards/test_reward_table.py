"""Rewards by name, and rewards by vote."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.errors import ConfigError, GradingError
from tfgrpo.protocols import Reward
from tfgrpo.rewards.table import (
    REWARDS,
    ChoiceReward,
    ExactReward,
    NumericReward,
    majority_vote,
    make_reward,
    vote_scores,
)
from tfgrpo.types import Score, Task


def task(gold: str | None) -> Task:
    return Task("t1", "?", gold, "maths", "test")


@pytest.mark.parametrize("name", ["exact", "numeric", "choice", "words"])
def test_every_name_makes_a_reward(name: str) -> None:
    assert name in REWARDS
    assert isinstance(make_reward(name), Reward)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="exact, numeric, choice, words, math"):
        make_reward("sympy")


@pytest.mark.parametrize(
    ("name", "gold", "reply", "score"),
    [
        ("exact", "1000", "Answer: 1,000", Score(1.0, True, "1000")),
        ("exact", "Paris", "Answer: paris.", Score(1.0, True, "paris")),
        ("exact", "Paris", "Answer: Rome", Score(0.0, False, "rome")),
        ("exact", "Paris", "Paris", Score(0.0, False, None)),
        ("exact", "2", "Answer: 2\nAnswer: 3", Score(0.0, False, None)),
        ("exact", "42", "Answer: ٤٢", Score(0.0, False, "٤٢")),
        ("numeric", "1/3", "Answer: .3333333", Score(1.0, True, "1/3")),
        ("numeric", "1/3", "Answer: 0.3", Score(0.0, False, "3/10")),
        ("numeric", "7", "Answer: seven", Score(0.0, False, None)),
        ("numeric", "7", "Answer: 1_2", Score(0.0, False, None)),
        ("words", "The Red Door", "Answer: red door.", Score(1.0, True, "red door")),
        ("words", "J. S. Bach", "Answer: js bach", Score(0.0, False, "js bach")),
        ("words", "J.S. Bach", "Answer: JS Bach", Score(1.0, True, "js bach")),
        ("words", "The", "Answer: a", Score(0.0, False, "a")),
        ("choice", "(B)", "Answer: b. Paris", Score(1.0, True, "B")),
        ("choice", "B", "Answer: A", Score(0.0, False, "A")),
        ("choice", "B", "Answer: all of them", Score(0.0, False, None)),
    ],
)
def test_scores(name: str, gold: str, reply: str, score: Score) -> None:
    assert make_reward(name).score(task(gold), reply) == score


@pytest.mark.parametrize(
    ("name", "gold"), [("exact", None), ("numeric", "five"), ("choice", "Paris")]
)
def test_an_unreadable_gold_aborts(name: str, gold: str | None) -> None:
    with pytest.raises(GradingError, match=r"t1 .* choose another reward\.$"):
        make_reward(name).score(task(gold), "Answer: 1")


def test_the_answer_is_read_without_a_gold() -> None:
    assert ExactReward().read("Answer: 1,000") == "1000"
    assert NumericReward().read("Answer: seven") is None
    assert ChoiceReward().read("Answer: (c)") == "C"
    assert ExactReward().read("nothing") is None


@pytest.mark.parametrize(
    ("answers", "share", "winner"),
    [
        (["a", "a", "b"], 0.5, "a"),
        (["a", "b"], 0.0, None),
        (["a", "a", "b", "b", "c"], 0.0, None),
        (["a", None, None, None], 0.5, None),
        (["a", None, None, None], 0.25, "a"),
        (["a", "a", "b", None], 0.5, "a"),
        ([None, None], 0.0, None),
        ([], 0.5, None),
    ],
)
def test_votes(answers: list[str | None], share: float, winner: str | None) -> None:
    assert majority_vote(answers, share) == winner


ANSWERS = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=9)


@given(ANSWERS, st.floats(0, 1), st.randoms(use_true_random=False))
def test_votes_do_not_depend_on_order(answers: list[str | None], share: float, rng: Random) -> None:
    shuffled = rng.sample(answers, len(answers))
    assert majority_vote(answers, share) == majority_vote(shuffled, share)


@given(ANSWERS, st.floats(0, 1))
def test_votes_score_all_samples_or_none(answers: list[str | None], share: float) -> None:
    winner, scores = majority_vote(answers, share), vote_scores(answers, share)
    if winner is None:
        assert scores == (None,) * len(answers)
    else:
        assert sum(s or 0 for s in scores) == answers.count(winner)
        assert answers.count(winner) >= share * len(answers)
        rivals = {a for a in answers if a not in {winner, None}}
        assert all(answers.count(a) < answers.count(winner) for a in rivals)
