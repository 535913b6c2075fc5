"""Reward transforms: from a graded reply to the number that is trained on."""

from __future__ import annotations

import math
import re

from baselines import config
from tfgrpo.errors import GradingError
from tfgrpo.seeding import derive_rng
from tfgrpo.types import Rollout

_CONFIDENCE = re.compile(r"confidence\s*[:=]?\s*(\d*\.?\d+)\s*(%?)", re.IGNORECASE)


def soft_overlong(length: int, max_tokens: int, cache: int, factor: float = 1.0) -> float:
    """0 up to max_tokens - cache, then falling by factor / cache a token, at least -factor.

    DAPO's punishment (arXiv 2503.14476, eq. 13), in tokens.
    """
    over = length - (max_tokens - cache)
    return -factor * min(1.0, max(0.0, over / cache))


def brier(correct: bool, confidence: float) -> float:
    """1[right] - (q - 1[right])^2, in [-1, 1] (RLCR, arXiv 2507.16806, eq. 2).

    Proper: with a chance p of being right its mean is largest, p^2, at q = p.
    """
    return correct - (confidence - correct) ** 2


def read_confidence(text: str) -> float | None:
    """The last stated confidence in [0, 1], from `Confidence: 0.8` or `confidence = 80%`."""
    found = _CONFIDENCE.findall(text)
    if not found:
        return None
    number, percent = found[-1]
    value = float(number) / (100 if percent else 1)
    return value if 0 <= value <= 1 else None


def random_reward(rollout: Rollout, share: float) -> float:
    """A coin for each reply: a function of problem, place in the group and text, so it resumes."""
    rng = derive_rng(0, "random reward", rollout.task_id, rollout.index, rollout.completion.text)
    return float(rng.random() < share)


def training_reward(
    rollout: Rollout, transforms: tuple[config.RewardSpec, ...], max_tokens: int
) -> float:
    """The reward of one rollout after all transforms, in their order.

    A reply that states no confidence counts as certain, so silence never pays. Raises
    GradingError where a verifier gave no finite number.
    """
    reward = rollout.score.reward
    for transform in transforms:
        match transform:
            case config.SignedReward():
                reward = 2 * reward - 1
            case config.SoftOverlong():
                length = rollout.completion.usage.completion_tokens
                reward += soft_overlong(length, max_tokens, transform.cache, transform.factor)
            case config.Brier():
                stated = read_confidence(rollout.completion.text)
                certain = 1.0 if stated is None else stated
                reward += brier(rollout.score.correct, certain) - rollout.score.correct
            case config.RandomReward():
                reward = random_reward(rollout, transform.share)
    if not math.isfinite(reward):
        raise GradingError(
            f"The reward of task {rollout.task_id} is {reward}; return a finite number, or a "
            "Failure where a reply cannot be graded."
        )
    return reward
