"""Surrogates: the loss of each token, from its log-probability now and at the update's start.

lp carries the gradient; lp_old and A do not. All are (B, T), and so is the loss, to be minimised.
Where lp = lp_old, each has the gradient -A per token (NFT: its own coefficients).
"""

from __future__ import annotations

import torch
from torch import Tensor

LIMIT = 20.0  # of a log-ratio, so that no ratio overflows


def token_ratio(lp_BT: Tensor, lp_old_BT: Tensor) -> Tensor:
    """rho = exp(lp - lp_old)."""
    return (lp_BT - lp_old_BT).clamp(-LIMIT, LIMIT).exp()


def sequence_ratio(lp_BT: Tensor, lp_old_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """s_i = exp(mean_t (lp - lp_old)), as a (B, T) tensor (GSPO, arXiv 2507.18071, eq. 7).

    Written sg(s) exp(lp - sg(lp)), so that a mask on tokens also stops their gradients while s
    still counts all of them.
    """
    lengths = mask_BT.sum(-1, keepdim=True).clamp(min=1)
    log_ratio = ((lp_BT - lp_old_BT) * mask_BT).sum(-1, keepdim=True) / lengths
    return (log_ratio.detach() + lp_BT - lp_BT.detach()).clamp(-LIMIT, LIMIT).exp()


def policy_gradient(lp_BT: Tensor, A_BT: Tensor) -> Tensor:
    """-A lp (Williams 1992)."""
    return -A_BT * lp_BT


def ppo_clip(
    ratio_BT: Tensor, A_BT: Tensor, low: float = 0.2, high: float = 0.2, dual: float | None = None
) -> Tensor:
    """max(-A rho, -A clip(rho, 1 - low, 1 + high)) (arXiv 1707.06347, eq. 7).

    high > low is Clip-Higher (arXiv 2503.14476). `dual` > 1 bounds the loss of A < 0 by -A dual
    (arXiv 1912.09729).
    """
    loss = torch.maximum(-A_BT * ratio_BT, -A_BT * ratio_BT.clamp(1 - low, 1 + high))
    return loss if dual is None else _dual(loss, A_BT, dual)


def _dual(loss_BT: Tensor, A_BT: Tensor, dual: float) -> Tensor:
    return torch.where(A_BT < 0, torch.minimum(loss_BT, -A_BT * dual), loss_BT)


def clipped(ratio_BT: Tensor, A_BT: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Tokens whose gradient the lower and the upper clip stop, bool (B, T) each."""
    return (A_BT < 0) & (ratio_BT < 1 - low), (A_BT > 0) & (ratio_BT > 1 + high)


def gppo(
    ratio_BT: Tensor,
    A_BT: Tensor,
    low: float = 0.2,
    high: float = 0.28,
    beta_low: float = 1.0,
    beta_high: float = 1.0,
    dual: float | None = None,
) -> Tensor:
    """Clip-Higher with gradients kept: a clipped token's bound c becomes beta (c / sg(rho)) rho.

    GPPO (arXiv 2508.07629, eq. 8) has both betas 1, CE-GPPO (arXiv 2509.20712) below 1. The value
    is Clip-Higher's for any beta.
    """
    loss = ppo_clip(ratio_BT, A_BT, low, high)
    below, above = clipped(ratio_BT, A_BT, low, high)
    direction = ratio_BT / ratio_BT.detach() - 1  # 0 in value, grad lp in gradient
    loss = torch.where(below, loss.detach() - A_BT * beta_low * (1 - low) * direction, loss)
    loss = torch.where(above, loss.detach() - A_BT * beta_high * (1 + high) * direction, loss)
    return loss if dual is None else _dual(loss, A_BT, dual)


def cispo(ratio_BT: Tensor, lp_BT: Tensor, A_BT: Tensor, cap: float) -> Tensor:
    """-sg(min(rho, cap)) A lp: no token ever loses its gradient (arXiv 2506.13585, eq. 4)."""
    return -ratio_BT.detach().clamp(max=cap) * A_BT * lp_BT


def kl_cov(
    ratio_BT: Tensor,
    lp_BT: Tensor,
    lp_old_BT: Tensor,
    A_BT: Tensor,
    selected_BT: Tensor,
    coefficient: float = 1.0,
) -> Tensor:
    """-A rho, and + coefficient |lp - lp_old| on the selected tokens (arXiv 2505.22617, eq. 12).

    No clipping. The absolute log-ratio is what the published code penalises; its gradient at
    rho = 1 is 0, so with one update per rollout batch nothing happens.
    """
    penalty = coefficient * (lp_BT - lp_old_BT).abs()
    return -A_BT * ratio_BT + penalty * selected_BT


def nft(
    ratio_BT: Tensor,
    right_B: Tensor,
    share_right_B: Tensor,
    weight: int = 1,
    negative: float = 1.0,
) -> Tensor:
    """Right: -w log R; wrong: -negative w log((1 - q R) / (1 - q)) (arXiv 2505.18116, eq. 9).

    R = rho, q the group's share right, clamped to [0.02, 0.98]; w = 1 - q, sqrt((1 - q)/q) or 1 for
    `weight` 1, 2, 0. The wrong replies' ratio of likelihoods is clamped at 1 from below in value
    but not in gradient, as published. Groups with q = 0 or 1 must have been left out.
    """
    q = share_right_B.clamp(0.02, 0.98)[:, None]
    scale = {0: torch.ones_like(q), 1: 1 - q, 2: ((1 - q) / q).sqrt()}[weight]
    implied = (1 - q * ratio_BT) / (1 - q)
    implied = implied + (implied.detach().clamp(min=1.0) - implied.detach())
    loss = torch.where(right_B[:, None], -ratio_BT.log(), -negative * implied.log())
    return scale * loss
