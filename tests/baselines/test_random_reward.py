"""The control's reward: a coin that knows nothing of the reply's worth, and falls alike again."""

from __future__ import annotations

from statistics import fmean

import pytest

from baselines.config import RandomReward
from baselines.rewards import training_reward
from tfgrpo.types import Completion, Rollout, Score, Usage


def rollout(task: str, index: int, text: str, *, right: bool) -> Rollout:
    completion = Completion(text, "stop", Usage(completion_tokens=3))
    return Rollout(task, index, "", completion, Score(float(right), right, text))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 1.0])
def test_right_and_wrong_replies_are_rewarded_alike(share: float) -> None:
    transforms = (RandomReward(share=share),)
    for right in (False, True):
        rewards = [
            training_reward(rollout("p", i % 16, f"Answer: {i}", right=right), transforms, 9)
            for i in range(2000)
        ]
        assert set(rewards) <= {0.0, 1.0}
        assert fmean(rewards) == pytest.approx(share, abs=0.05)


def test_equal_replies_of_a_group_have_coins_of_their_own_that_do_not_change() -> None:
    group = [rollout("p", i, "Answer: 1", right=True) for i in range(64)]
    rewards = [training_reward(r, (RandomReward(),), 9) for r in group]
    assert 20 < sum(rewards) < 44
    assert rewards == [training_reward(r, (RandomReward(),), 9) for r in group]
    wrong = [rollout("p", i, "Answer: 1", right=False) for i in range(64)]
    assert rewards == [training_reward(r, (RandomReward(),), 9) for r in wrong]
