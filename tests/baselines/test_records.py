"""The figures of a step, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from baselines.batch import TokenBatch, padded
from baselines.records import Tally, rollout_metrics
from tfgrpo.types import Completion, Rollout, RolloutGroup, Score, Task, Usage

ENTROPIES = [[0.1, 0.9], [0.5, 0.3, 0.2, 0.0, 0.0, 0.0]]


def group(name: str, *modes: str | None) -> RolloutGroup:
    task = Task(name, "q", "a", name, "train")
    rollouts = tuple(
        Rollout(name, i, "p", Completion("t", "stop", Usage(completion_tokens=3)),
                Score(float(i == 0), i == 0, str(i), mode))
        for i, mode in enumerate(modes)
    )  # fmt: skip
    return RolloutGroup(task, rollouts)


def batch() -> TokenBatch:
    H = padded(ENTROPIES, torch.float32)
    mask = padded([[True] * len(row) for row in ENTROPIES], torch.bool)
    one = torch.ones(2)
    return TokenBatch(
        ids=torch.zeros(2, 8, dtype=torch.int64), prompt=torch.tensor([2, 2]),
        targets=torch.zeros(2, 6, dtype=torch.int64), mask=mask, group=torch.tensor([0, 0]),
        rewards=one, correct=one.bool(), advantages=torch.tensor([0.5, -0.5]), logp_rollout=-H,
        entropy_rollout=H, planning=mask & (H > 0.4),
    )  # fmt: skip


def test_entropies_are_means_over_tokens_replies_and_the_top_fifth() -> None:
    found = rollout_metrics([group("sum", "once", "once")], batch())
    assert found["entropy"] == pytest.approx(2.0 / 8)
    assert found["entropy_response"] == pytest.approx((0.5 + 1.0 / 6) / 2)
    assert found["entropy_top"] == pytest.approx((0.9 + 0.5) / 2)
    assert found["entropy_planning"] == pytest.approx(0.7)
    assert found["entropy_execution"] == pytest.approx(0.6 / 6)
    assert found["accuracy"] == 0.5
    assert found["answers"] == 2


def test_styles_are_shares_within_their_data_set() -> None:
    groups = [group("sum", "once", "columns"), group("sort", "length", "length", None)]
    found = rollout_metrics(groups, batch())
    assert found["style/sum/once"] == 0.5
    assert found["style/sort/length"] == 1
    assert found["mode_entropy"] == pytest.approx(math.log(2) / 2)
    assert not any(
        name.startswith("style/") for name in rollout_metrics([group("x", None)], batch())
    )


def test_without_rollouts_there_is_nothing_to_tell() -> None:
    assert rollout_metrics([], batch()) == {}


def test_a_tally_gives_means_per_token_over_its_parts() -> None:
    tally = Tally()
    tally.add({"tokens": torch.tensor(2.0), "entropy": torch.tensor(1.0)})
    tally.add({"tokens": torch.tensor(6.0), "entropy": torch.tensor(3.0)})
    assert tally.means() == {"entropy": 0.5}
