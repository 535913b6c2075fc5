"""Generalised advantages and the critic's loss."""

from __future__ import annotations

import pytest
import torch

from baselines.critic import gae, value_loss, whitened

MASK = torch.tensor([[True, True, True], [True, True, False]])
REWARDS = torch.tensor([1.0, 0.0], dtype=torch.float64)
VALUES = torch.tensor([[0.2, 0.5, 0.7], [0.4, 0.1, 9.0]], dtype=torch.float64)


def brute_force(gamma: float, lam: float) -> torch.Tensor:
    """The sum over k of (gamma lam)^k delta_{t+k}, written out."""
    out = torch.zeros_like(VALUES)
    for i, length in enumerate([3, 2]):
        v = [*VALUES[i, :length].tolist(), 0.0]
        delta = [
            (float(REWARDS[i]) if t == length - 1 else 0.0) + gamma * v[t + 1] - v[t]
            for t in range(length)
        ]
        for t in range(length):
            out[i, t] = sum((gamma * lam) ** k * delta[t + k] for k in range(length - t))
    return out


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (1.0, 1.0)])
def test_gae_is_the_discounted_sum_of_its_deltas(gamma: float, lam: float) -> None:
    advantages, returns = gae(REWARDS, VALUES, MASK, gamma, lam)
    assert torch.allclose(advantages, brute_force(gamma, lam))
    assert torch.allclose(returns[MASK], (advantages + VALUES)[MASK])
    assert float(returns[1, 2]) == 0


def test_with_lambda_one_the_return_is_the_reward() -> None:
    _, returns = gae(REWARDS, VALUES, MASK, 1.0, 1.0)
    assert returns[0].tolist() == pytest.approx([1, 1, 1])
    assert returns[1].tolist() == pytest.approx([0, 0, 0])


def test_padding_is_never_read() -> None:
    other = VALUES.clone()
    other[1, 2] = -1e6
    first, second = gae(REWARDS, VALUES, MASK, 1.0, 0.95), gae(REWARDS, other, MASK, 1.0, 0.95)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_whitened_advantages_have_mean_0_and_deviation_1() -> None:
    A = whitened(VALUES, MASK)
    assert float(A[MASK].mean()) == pytest.approx(0, abs=1e-12)
    assert float(A[MASK].std()) == pytest.approx(1, abs=1e-6)
    assert float(A[1, 2]) == 0


def test_the_value_loss_is_the_worse_of_clipped_and_free() -> None:
    V, old, R = torch.tensor([2.0, 0.1]), torch.tensor([0.0, 0.0]), torch.tensor([3.0, 1.0])
    assert value_loss(V, old, R, 0.5).tolist() == pytest.approx([2.5**2 / 2, 0.9**2 / 2])
