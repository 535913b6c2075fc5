"""PPO's critic: values of the states in a reply, and generalised advantages from them."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from baselines.batch import TokenBatch
from baselines.logprobs import decoder_of
from baselines.objective.spec import Gae
from baselines.objective.terms import token_mean, weighted_sum
from baselines.sharing import passed, turns


def gae(
    rewards_B: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns (B, T) of replies whose reward comes with their last token.

    delta_t = r_t + gamma V_{t+1} - V_t, A_t = delta_t + gamma lam A_{t+1}, R_t = A_t + V_t
    (arXiv 1506.02438, eq. 16). Beyond a reply's end value and advantage are 0.
    """
    last = torch.zeros_like(rewards_B, dtype=values_BT.dtype)
    following = torch.zeros_like(last)
    advantages = torch.zeros_like(values_BT)
    lengths = mask_BT.sum(-1)
    for t in reversed(range(values_BT.shape[1])):
        reward = torch.where(lengths - 1 == t, rewards_B.to(values_BT), 0.0)
        inside = mask_BT[:, t]
        delta = reward + gamma * following - values_BT[:, t]
        last = torch.where(inside, delta + gamma * lam * last, last)
        following = torch.where(inside, values_BT[:, t], following)
        advantages[:, t] = torch.where(inside, last, 0.0)
    return advantages, (advantages + values_BT) * mask_BT


def whitened(A_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(A - mean) / std over the masked tokens; 0 elsewhere."""
    inside = A_BT[mask_BT]
    return (A_BT - inside.mean()) / (inside.std() + 1e-8) * mask_BT


def value_loss(V_BT: Tensor, old_BT: Tensor, returns_BT: Tensor, clip: float) -> Tensor:
    """1/2 max((V - R)^2, (clip(V, V_old +- clip) - R)^2) per token (arXiv 1707.06347)."""
    near = torch.clamp(V_BT, old_BT - clip, old_BT + clip)
    return torch.maximum((V_BT - returns_BT) ** 2, (near - returns_BT) ** 2) / 2


class ValueModel(nn.Module):
    """A copy of the policy's decoder with one number per position, 0 at the start."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = deepcopy(decoder_of(model))
        width = model.config.get_text_config().hidden_size
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: TokenBatch) -> tuple[Tensor]:
        """V (B, T): the value of the state in which each reply token is drawn."""
        hidden = self.decoder(input_ids=batch.ids, use_cache=False).last_hidden_state
        rows, columns = batch.mask.nonzero(as_tuple=True)
        values = self.head(hidden[rows, batch.prompt[rows] + columns - 1])[:, 0].float()
        empty = values.new_zeros(batch.mask.shape)
        return (empty.index_put((rows, columns), values),)


class Critic:
    """The value model with its optimiser; both stand in the trainer's checkpoints."""

    def __init__(self, model: Any, spec: Gae, micro_tokens: int, accelerator: Any) -> None:
        self.spec, self.micro_tokens, self.accelerator = spec, micro_tokens, accelerator
        module = ValueModel(model)
        optimiser = torch.optim.AdamW(module.parameters(), lr=spec.critic_lr, weight_decay=0.0)
        self.module, self.optimiser = accelerator.prepare(module, optimiser)

    def settle(self, batch: TokenBatch) -> TokenBatch:
        """The batch with values, returns and whitened advantages, (B, T), before any update."""
        values = passed(self.module, batch, self.micro_tokens, self.accelerator)[0]
        A, returns = gae(batch.rewards, values, batch.mask, self.spec.gamma, self.spec.lam)
        return replace(batch, values=values, returns=returns, advantages=whitened(A, batch.mask))

    def fit(self, batch: TokenBatch) -> float:
        """One update towards the returns; the mean loss per token."""
        assert batch.values is not None
        assert batch.returns is not None
        weights = token_mean(batch.mask, batch.mask)
        total = 0.0
        self.module.train()
        for turn in turns(batch, self.micro_tokens, self.accelerator):
            micro = batch.rows(turn.index)
            width = micro.mask.shape[1]
            old, target, weight = (
                x[turn.index, :width] for x in (batch.values, batch.returns, weights)
            )
            with nullcontext() if turn.last else self.accelerator.no_sync(self.module):
                losses = value_loss(self.module(micro)[0], old, target, self.spec.value_clip)
                loss = weighted_sum(losses, weight)
                scale = 0 if turn.idle else self.accelerator.num_processes
                self.accelerator.backward(loss * scale)
            total += 0.0 if turn.idle else float(loss.detach())
        self.accelerator.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return total
