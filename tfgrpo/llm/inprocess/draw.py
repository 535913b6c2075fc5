"""One token per row from a matrix of logits, with randomness that knows nothing of the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
MIX_2 = 0x94D049BB133111EB - 2**64


@dataclass(frozen=True, slots=True)
class Wanted:
    """What some row of the batch needs; each part costs time and is skipped where none does."""

    greedy: bool = False
    sampled: bool = False
    nucleus: bool = False
    detail: bool = False

    def __or__(self, other: Wanted) -> Wanted:
        return Wanted(
            self.greedy or other.greedy,
            self.sampled or other.sampled,
            self.nucleus or other.nucleus,
            self.detail or other.detail,
        )


@dataclass(frozen=True, slots=True)
class Drawn:
    """Per row: the token, its log-probability as sampled, the entropy at temperature 1 (nats)."""

    tokens: Tensor
    logprobs: Tensor | None
    entropies: Tensor | None


def _xor_shift(bits: Tensor, places: int) -> Tensor:
    # int64 shifts are arithmetic; the mask clears the sign bits that they drag in.
    return bits ^ ((bits >> places) & ((1 << (64 - places)) - 1))


def uniforms(seeds: Tensor, positions: Tensor) -> Tensor:
    """u = splitmix64(seed + (position + 1) * golden) / 2^64, truncated to 53 bits: in [0, 1).

    Both arguments are int64 `(B,)`; the result is float64 `(B,)`. A pure function of the row's
    seed and of the position in its reply, so the rest of the batch cannot change a draw.
    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    bits = seeds + (positions + 1) * GOLDEN
    bits = _xor_shift(bits, 30) * MIX_1
    bits = _xor_shift(bits, 27) * MIX_2
    bits = _xor_shift(bits, 31)
    return ((bits >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


def keep_nucleus(probs: Tensor, top_p: Tensor) -> Tensor:
    """Zero all but the smallest set of likeliest tokens whose mass reaches `top_p`.

    `probs` is `(B, V)` sorted in falling order, `top_p` is `(B,)`; the likeliest always stays.
    Source: Holtzman et al., arXiv 1904.09751, eq. 2.
    """
    before = probs.cumsum(-1, dtype=torch.float64) - probs
    keep = before < top_p[:, None]
    keep[:, 0] = True
    return probs * keep


def _invert_cdf(probs: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The token with cdf[k-1] <= u * total < cdf[k], and its probability out of the total."""
    cdf = probs.cumsum(-1, dtype=torch.float64)
    total = cdf[:, -1:]
    found = torch.searchsorted(cdf, uniform[:, None] * total, right=True)
    found = found.clamp_(max=probs.shape[-1] - 1)
    return found[:, 0], (probs.gather(-1, found) / total)[:, 0]


def _sample(
    logits: Tensor, uniform: Tensor, temperature: Tensor, top_p: Tensor, nucleus: bool
) -> tuple[Tensor, Tensor]:
    safe = torch.where(temperature > 0, temperature, torch.ones_like(temperature))
    probs = (logits / safe[:, None]).softmax(-1)
    if not nucleus:
        return _invert_cdf(probs, uniform)
    ranked, order = probs.sort(dim=-1, descending=True, stable=True)
    rank, chance = _invert_cdf(keep_nucleus(ranked, top_p), uniform)
    return order.gather(-1, rank[:, None])[:, 0], chance


def draw(
    logits: Tensor, uniform: Tensor, temperature: Tensor, top_p: Tensor, wanted: Wanted
) -> Drawn:
    """Draw from softmax(logits / temperature) cut to its nucleus; at temperature 0, the argmax.

    `logits` is float32 `(B, V)`, the others are `(B,)`. The log-probability of a greedy token is 0,
    because the distribution that it was sampled from is a point.
    """
    if not wanted.sampled:
        tokens = logits.argmax(-1)
        chance = torch.ones_like(uniform)
    else:
        tokens, chance = _sample(logits, uniform, temperature, top_p, wanted.nucleus)
        if wanted.greedy:
            greedy = temperature <= 0
            tokens = torch.where(greedy, logits.argmax(-1), tokens)
            chance = torch.where(greedy, torch.ones_like(chance), chance)
    if not wanted.detail:
        return Drawn(tokens, None, None)
    return Drawn(tokens, chance.log().float(), entropy(logits))


def entropy(logits: Tensor) -> Tensor:
    """H = -sum_v p_v ln p_v of p = softmax(logits), in nats: `(B, V)` to `(B,)`."""
    probs = logits.softmax(-1)
    return -torch.xlogy(probs, probs).sum(-1)
