"""Supervised losses on reply tokens, and the student that learns by them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from baselines.batch import padded
from baselines.demonstrations import Demonstration
from baselines.imitation_config import Gem, ImitateSpec, LossSpec
from baselines.logprobs import CHUNK, token_stats
from tfgrpo.errors import BackendError


def gem_loss(logits_NV: Tensor, targets_N: Tensor, beta: float) -> Tensor:
    """-sum_v q_v (lp_y - lp_v), q = softmax(z / beta) held constant (arXiv 2408.16673, linear).

    (N,), in nats. Its gradient with respect to the logits is q - e_y.
    """
    lp_NV = logits_NV.log_softmax(-1)
    q_NV = (logits_NV.detach() / beta).softmax(-1)
    return (q_NV * lp_NV).sum(-1) - lp_NV.gather(-1, targets_N[:, None])[:, 0]


def token_losses(logits_NV: Tensor, targets_N: Tensor, loss: LossSpec) -> Tensor:
    """(3, N) float32 in nats: the loss, which alone has a gradient, -log p(y), and the entropy."""
    lp_N, H_N = token_stats(logits_NV, targets_N, 1.0, entropy_gradient=False)
    loss_N = -lp_N
    if isinstance(loss, Gem):
        loss_N = gem_loss(logits_NV.float(), targets_N, loss.beta)
    return torch.stack([loss_N, -lp_N.detach(), H_N.detach()])


def reply_losses(model: Any, batch: Sequence[Demonstration], loss: LossSpec) -> Tensor:
    """`token_losses` of the reply tokens of `batch`, one reply after the other: (3, N).

    The decoder runs on whole rows; its head on the positions that predict reply tokens, `CHUNK` at
    a time, recomputed in the backward pass. Padding stands to the right of all that is read.
    """
    ids_BL = padded([[*d.prompt, *d.reply] for d in batch], torch.int64).to(model.device)
    hidden_BLD = model.get_decoder()(input_ids=ids_BL, use_cache=False).last_hidden_state
    read = [h[len(d.prompt) - 1 : d.size - 1] for h, d in zip(hidden_BLD, batch, strict=True)]
    targets_N = torch.tensor([t for d in batch for t in d.reply], device=model.device)
    head = model.get_output_embeddings()

    def work(hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        return token_losses(linear(hidden_ND, head.weight, head.bias), targets_N, loss)

    parts = zip(torch.cat(read).split(CHUNK), targets_N.split(CHUNK), strict=True)
    return torch.cat([checkpoint(work, h, y, use_reentrant=False) for h, y in parts], dim=1)


def token_weights(batch: Sequence[Demonstration]) -> Tensor:
    """The weight of each reply token, in the order of `reply_losses`: (N,)."""
    return torch.tensor([d.weight for d in batch for _ in d.reply])


def buckets(batch: Sequence[Demonstration], tokens: int) -> Iterator[list[Demonstration]]:
    """Demonstrations of similar length, each list within `tokens` when padded, or one alone."""
    left = sorted(batch, key=lambda d: -d.size)
    while left:
        height = max(1, tokens // left[0].size)
        yield left[:height]
        left = left[height:]


class Student:
    """A model and its optimiser, for the passes of one round."""

    def __init__(self, model: Any, spec: ImitateSpec) -> None:
        self.model = model
        self.spec = spec
        self.updates = 0
        self.optimiser = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=spec.optimiser.lr,
            betas=spec.optimiser.betas,
            weight_decay=spec.optimiser.weight_decay,
        )

    def learn(self, order: Sequence[Demonstration]) -> dict[str, float]:
        """One pass over `order`. Means are over reply tokens by their weights, in nats."""
        sums, norms = torch.zeros(3), []
        for start in range(0, len(order), self.spec.batch_size):
            own, norm = self._update(order[start : start + self.spec.batch_size])
            sums += own
            norms.append(norm)
        loss, nll, entropy = (sums / sum(map(mass, order))).tolist()
        return {
            "loss": loss,
            "nll": nll,
            "entropy": entropy,
            "grad_norm": sum(norms) / len(norms),
            "updates": float(len(norms)),
        }

    def _update(self, batch: Sequence[Demonstration]) -> tuple[Tensor, float]:
        """One optimiser step; the weighted sums of `reply_losses` (3,) and the gradient's norm."""
        spec, device = self.spec, self.model.device
        sums, total = torch.zeros(3), sum(map(mass, batch))
        for part in buckets(batch, spec.micro_tokens):
            with torch.autocast(device.type, torch.bfloat16, spec.precision != "float32"):
                losses = reply_losses(self.model, part, spec.loss)
            own = losses @ token_weights(part).to(device)
            (own[0] / total).backward()
            sums += own.detach().cpu()
        scale = min(1.0, (self.updates + 1) / (spec.optimiser.warmup_steps or 1))
        for group in self.optimiser.param_groups:
            group["lr"] = spec.optimiser.lr * scale
        weights = self.model.parameters()
        norm = float(torch.nn.utils.clip_grad_norm_(weights, spec.optimiser.max_grad_norm))
        if not math.isfinite(norm):
            raise BackendError(
                f"Update {self.updates} has no finite gradient; lower optimiser.lr and start a new "
                "run."
            )
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.updates += 1
        return sums, norm


def mass(demonstration: Demonstration) -> float:
    """What a demonstration counts: its weight times its tokens."""
    return demonstration.weight * len(demonstration.reply)
