"""Additive terms, importance weights, and aggregation: from token losses to one number."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def kl(
    lp_BT: Tensor,
    lp_ref_BT: Tensor,
    ratio_BT: Tensor,
    estimator: Literal["k1", "k2", "k3", "k3_is"],
) -> Tensor:
    """Estimates of KL(pi || ref) at each drawn token, (B, T) (Schulman 2020).

    x = lp - lp_ref; k1 = x and k3 = e^-x + x - 1 are unbiased in value, k2 = x^2 / 2 is not. As a
    loss on own samples k2 and `k3_is` = rho k3 have the gradient of the reverse KL, k3 that of the
    forward KL, and k1 none.
    """
    x = lp_BT - lp_ref_BT
    if estimator == "k1":
        return x
    if estimator == "k2":
        return x**2 / 2
    found = k3(lp_BT, lp_ref_BT)
    return found if estimator == "k3" else ratio_BT * found


def k3(lp_BT: Tensor, other_BT: Tensor) -> Tensor:
    """e^x - x - 1 >= 0 with x = lp_other - lp: unbiased for KL(pi || other) on pi's own tokens."""
    x = (other_BT - lp_BT).clamp(-20, 20)
    return x.exp() - x - 1


def importance(
    lp_old_BT: Tensor,
    lp_rollout_BT: Tensor,
    mask_BT: Tensor,
    cap: float,
    level: Literal["token", "sequence"],
    mode: Literal["truncate", "mask"],
) -> Tensor:
    """w = exp(lp_old - lp_rollout), of a token or of its whole reply, cut at `cap` or zeroed above.

    Corrects for a sampler whose arithmetic differs from the trainer's. No gradient.
    """
    gap = (lp_old_BT - lp_rollout_BT).detach() * mask_BT
    if level == "sequence":
        gap = gap.sum(-1, keepdim=True).expand_as(gap)
    weight = gap.clamp(-20, 20).exp()
    return weight.clamp(max=cap) if mode == "truncate" else weight * (weight <= cap)


def token_mean(kept_BT: Tensor, divisor_BT: Tensor) -> Tensor:
    """Weights 1/N on kept tokens, N the number of tokens in `divisor_BT` (arXiv 2503.14476)."""
    return kept_BT / divisor_BT.sum().clamp(min=1)


def sequence_mean(kept_BT: Tensor, divisor_BT: Tensor) -> Tensor:
    """Weights 1/(B l_i): every reply counts alike (arXiv 2402.03300, eq. 1)."""
    return kept_BT / (len(kept_BT) * divisor_BT.sum(-1, keepdim=True).clamp(min=1))


def constant(kept_BT: Tensor, tokens: int) -> Tensor:
    """Weights 1/(B tokens): a token counts alike in every reply (arXiv 2503.20783)."""
    return kept_BT / (len(kept_BT) * tokens)


def weighted_sum(loss_BT: Tensor, weights_BT: Tensor) -> Tensor:
    """sum w loss over the tokens with a weight; what padding holds cannot reach it."""
    return (torch.where(weights_BT != 0, loss_BT, 0.0) * weights_BT).sum()
