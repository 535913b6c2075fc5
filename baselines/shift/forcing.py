"""Replies told token by token under two models, or under one model with two prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from baselines.batch import padded
from baselines.logprobs import decoder_of

CELLS = 1 << 25
"""Logits of one model that exist at once; a handful of tensors of this size are alive together."""

MICRO_TOKENS = 16_384
"""Tokens of a forward pass, padding included; a longer row goes alone."""

FIGURES = ("logp", "logp_base", "kl", "entropy", "entropy_base")
"""The rows of what `token_shift` gives."""


@dataclass(frozen=True, slots=True)
class Told:
    """A reply as the tokens that were sampled, the end token included, and two prompts for it.

    `prompt` is what the policy was given, `base_prompt` what the base is given.
    """

    prompt: tuple[int, ...]
    base_prompt: tuple[int, ...]
    reply: tuple[int, ...]

    @property
    def size(self) -> int:
        """Tokens of the longer of its two rows."""
        return max(len(self.prompt), len(self.base_prompt)) + len(self.reply)


def token_shift(
    logits_NV: Tensor, base_NV: Tensor, targets_N: Tensor, exact: bool = True
) -> Tensor:
    """`FIGURES` by token, (5, N), in nats: lp(y), lq(y), KL(p || q), H(p), H(q).

    p is the softmax of `logits_NV`, q that of `base_NV`, both at temperature 1 and in float32 or
    better. KL = sum_v p_v (lp_v - lq_v) over the whole vocabulary. Unless `exact` it is k3 =
    q/p - 1 - log(q/p) at y (Schulman 2020), which equals it in the mean if y was drawn from p.
    """
    lp_NV, lq_NV = (
        z.to(torch.promote_types(z.dtype, torch.float32)).log_softmax(-1)
        for z in (logits_NV, base_NV)
    )
    lp_N, lq_N = (l_NV.gather(-1, targets_N[:, None])[:, 0] for l_NV in (lp_NV, lq_NV))
    if exact:
        p_NV = lp_NV.exp()
        # Where p is 0 its logarithm may be -inf, and the term is 0 all the same.
        kl_N = torch.where(p_NV > 0, p_NV * (lp_NV - lq_NV), 0.0).sum(-1)
    else:
        kl_N = torch.expm1(lq_N - lp_N) + lp_N - lq_N
    return torch.stack([lp_N, lq_N, kl_N, _entropy(lp_NV), _entropy(lq_NV)])


def _entropy(lp_NV: Tensor) -> Tensor:
    p_NV = lp_NV.exp()
    return -torch.where(p_NV > 0, p_NV * lp_NV, 0.0).sum(-1)


@torch.no_grad()
def shifts(
    policy: Any,
    base: Any,
    replies: Sequence[Told],
    exact: bool = True,
    micro_tokens: int = MICRO_TOKENS,
    cells: int = CELLS,
) -> list[Tensor]:
    """`token_shift` at every token of every reply, teacher-forced: (5, T) each, on the CPU.

    `policy` and `base` are causal language models over one vocabulary, or one and the same. In
    float32 the result depends on the batches by the rounding of matrix products only.
    """
    found: list[Tensor] = [torch.empty(0)] * len(replies)
    for rows in _batches(replies, micro_tokens):
        batch = [replies[row] for row in rows]
        figures_5N = _shift_of(policy, base, batch, exact, cells).cpu()
        parts = figures_5N.split([len(told.reply) for told in batch], dim=1)
        for row, part in zip(rows, parts, strict=True):
            found[row] = part
    return found


def _shift_of(policy: Any, base: Any, batch: Sequence[Told], exact: bool, cells: int) -> Tensor:
    """`token_shift` of all reply tokens of `batch`, one reply after the other: (5, N)."""
    hidden_ND = _hidden(policy, [told.prompt for told in batch], batch)
    unmoved = policy is base and all(told.prompt == told.base_prompt for told in batch)
    base_ND = hidden_ND if unmoved else _hidden(base, [told.base_prompt for told in batch], batch)
    targets_N = torch.tensor([y for told in batch for y in told.reply], device=hidden_ND.device)
    head, base_head = policy.get_output_embeddings(), base.get_output_embeddings()
    size = max(1, cells // head.weight.shape[0])
    columns = zip(*(x.split(size) for x in (hidden_ND, base_ND, targets_N)), strict=True)
    parts = [
        token_shift(
            linear(h, head.weight, head.bias),
            linear(g, base_head.weight, base_head.bias).to(h.device),
            y,
            exact,
        )
        for h, g, y in columns
    ]
    return torch.cat(parts, dim=1)


def _hidden(model: Any, prompts: Sequence[tuple[int, ...]], batch: Sequence[Told]) -> Tensor:
    """The decoder's output at the positions that predict reply tokens, (N, D).

    Padding stands to the right of all that is read, so a row needs no attention mask.
    """
    rows = [[*prompt, *told.reply] for prompt, told in zip(prompts, batch, strict=True)]
    ids_BL = padded(rows, torch.int64).to(model.device)
    hidden_BLD = decoder_of(model)(input_ids=ids_BL, use_cache=False).last_hidden_state
    return torch.cat(
        [
            hidden_LD[len(prompt) - 1 : len(row) - 1]
            for hidden_LD, prompt, row in zip(hidden_BLD, prompts, rows, strict=True)
        ]
    )


def _batches(replies: Sequence[Told], micro_tokens: int) -> Iterator[list[int]]:
    """Indices of replies of similar length, each list within `micro_tokens` when padded."""
    left = sorted(range(len(replies)), key=lambda row: -replies[row].size)
    while left:
        height = max(1, micro_tokens // replies[left[0]].size)
        yield left[:height]
        left = left[height:]
