"""How random a policy's replies are under the distribution that its sampler draws from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from baselines.batch import padded
from baselines.logprobs import decoder_of
from baselines.shift.forcing import CELLS, MICRO_TOKENS
from tfgrpo.llm.inprocess.draw import keep_nucleus

Reply = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of a prompt and of what was sampled after it, the end token included."""


def sampling_entropy(logits_NV: Tensor, temperature: float, top_p: float = 1.0) -> Tensor:
    """H = -sum_v q_v ln q_v in nats, (N,), of q = softmax(z / temperature) cut to its nucleus.

    q is what a token is drawn from: the nucleus is the sampler's own, renormalised. The entropies
    that samplers record are those of softmax(z), whatever the temperature. `temperature` > 0.
    """
    z_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    q_NV = (z_NV / temperature).softmax(-1)
    if top_p < 1:
        ranked_NV = q_NV.sort(dim=-1, descending=True).values
        kept_NV = keep_nucleus(ranked_NV, ranked_NV.new_full((len(q_NV),), top_p))
        q_NV = kept_NV / kept_NV.sum(-1, keepdim=True)
    return -torch.xlogy(q_NV, q_NV).sum(-1)


@torch.no_grad()
def reply_entropies(
    model: Any,
    replies: Sequence[Reply],
    temperature: float,
    top_p: float = 1.0,
    micro_tokens: int = MICRO_TOKENS,
    cells: int = CELLS,
) -> list[Tensor]:
    """`sampling_entropy` at every token of every reply, teacher-forced: (T,) each, on the CPU."""
    found: list[Tensor] = [torch.empty(0)] * len(replies)
    head = model.get_output_embeddings()
    size = max(1, cells // head.weight.shape[0])
    for rows in _batches([len(prompt) + len(reply) for prompt, reply in replies], micro_tokens):
        batch = [replies[row] for row in rows]
        parts = [
            sampling_entropy(linear(h_ND, head.weight, head.bias), temperature, top_p).cpu()
            for h_ND in _hidden(model, batch).split(size)
        ]
        by_reply = torch.cat(parts).split([len(reply) for _, reply in batch])
        for row, entropies in zip(rows, by_reply, strict=True):
            found[row] = entropies
    return found


def mean_entropy(
    model: Any, replies: Sequence[Reply], temperature: float, top_p: float = 1.0
) -> float:
    """Mean nats a token over all tokens of all replies, of which there must be one."""
    entropies = torch.cat(reply_entropies(model, replies, temperature, top_p))
    return float(entropies.double().mean())


def _hidden(model: Any, batch: Sequence[Reply]) -> Tensor:
    """The decoder's output at the positions that predict reply tokens, (N, D).

    Padding stands to the right of all that is read, so a row needs no attention mask.
    """
    rows = [[*prompt, *reply] for prompt, reply in batch]
    ids_BL = padded(rows, torch.int64).to(model.device)
    hidden_BLD = decoder_of(model)(input_ids=ids_BL, use_cache=False).last_hidden_state
    return torch.cat(
        [
            hidden_LD[len(prompt) - 1 : len(prompt) + len(reply) - 1]
            for hidden_LD, (prompt, reply) in zip(hidden_BLD, batch, strict=True)
        ]
    )


def _batches(sizes: Sequence[int], micro_tokens: int) -> Iterator[list[int]]:
    """Indices of rows of similar length, each list within `micro_tokens` when padded."""
    left = sorted(range(len(sizes)), key=lambda row: -sizes[row])
    while left:
        height = max(1, micro_tokens // sizes[left[0]])
        yield left[:height]
        left = left[height:]
