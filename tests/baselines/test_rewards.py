"""Reward transforms, with the values of the papers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.config import Brier, RewardSpec, SignedReward, SoftOverlong
from baselines.rewards import brier, read_confidence, soft_overlong, training_reward
from tfgrpo.errors import GradingError
from tfgrpo.types import Completion, Rollout, Score, Usage


@pytest.mark.parametrize(
    ("length", "expected"),
    [(16000, 0.0), (16384, 0.0), (18432, -0.5), (20480, -1.0), (22000, -1.0)],
)
def test_the_overlong_punishment_of_dapo(length: int, expected: float) -> None:
    assert soft_overlong(length, 20480, 4096) == pytest.approx(expected)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_brier_reward_is_proper(chance: float, stated: float) -> None:
    """Saying what is true pays most, and then p^2."""

    def mean(q: float) -> float:
        return chance * brier(True, q) + (1 - chance) * brier(False, q)

    assert mean(chance) >= mean(stated) - 1e-12
    assert mean(chance) == pytest.approx(chance**2, abs=1e-12)
    assert -1 <= brier(False, stated) <= brier(True, stated) <= 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Answer: 4\nConfidence: 0.8", 0.8),
        ("confidence = 80%", 0.8),
        ("Confidence: 0.1 ... Confidence .95", 0.95),
        ("Confidence: 7", None),
        ("I am sure", None),
    ],
)
def test_a_stated_confidence_is_read(text: str, expected: float | None) -> None:
    assert read_confidence(text) == expected


def rollout(reward: float, text: str = "", length: int = 10) -> Rollout:
    completion = Completion(text, "stop", Usage(completion_tokens=length))
    return Rollout("t", 0, "p", completion, Score(reward, reward > 0, None))


@pytest.mark.parametrize(
    ("transforms", "reward", "text", "expected"),
    [
        ((), 1.0, "", 1.0),
        ((SignedReward(),), 0.0, "", -1.0),
        ((SignedReward(), SoftOverlong(cache=10)), 1.0, "", 0.5),
        ((Brier(),), 1.0, "Confidence: 0.5", 0.75),
        ((Brier(),), 0.0, "no word of it", -1.0),
    ],
)
def test_transforms_are_applied_in_order(
    transforms: tuple[RewardSpec, ...], reward: float, text: str, expected: float
) -> None:
    assert training_reward(rollout(reward, text), transforms, 15) == pytest.approx(expected)


def test_no_number_is_no_reward() -> None:
    with pytest.raises(GradingError, match="finite number"):
        training_reward(rollout(float("nan")), (), 10)
