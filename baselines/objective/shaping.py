"""Advantage transforms: A (B, T) in, A' (B, T) out, without any gradient.

lp and H are (B, T): the log-probability of the token that was drawn and the entropy of its
distribution, in nats, as they stand before the update.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST_LOGP = -20.0


def entropy_shaped(A_BT: Tensor, H_BT: Tensor, alpha: float = 0.4, kappa: float = 2.0) -> Tensor:
    """A' = A + min(alpha sg(H), |A| / kappa) (arXiv 2506.14758, eq. 5).

    With kappa > 1 no sign changes, and A = 0 stays 0. The drift is upwards: A' >= A everywhere.
    """
    return A_BT + torch.minimum(alpha * H_BT.detach(), A_BT.abs() / kappa)


def entropy_uncapped(
    A_BT: Tensor, H_BT: Tensor, alpha: float = 0.4, threshold: float = 0.5
) -> Tensor:
    """A' = A + alpha max(sg(H) - threshold, 0): an ablation of `entropy_shaped`.

    Without the cap a wrong token of high entropy is reinforced, and so are the tokens of groups
    in which all rewards are equal.
    """
    return A_BT + alpha * (H_BT.detach() - threshold).clamp(min=0)


def hicra(A_BT: Tensor, planning_BT: Tensor, alpha: float = 0.2) -> Tensor:
    """A' = A + alpha |A| on planning tokens, A elsewhere (arXiv 2509.03646)."""
    return A_BT + alpha * A_BT.abs() * planning_BT


def repo_r(A_BT: Tensor, lp_BT: Tensor, zeta: float) -> Tensor:
    """A > 0: max(0, A (1 - zeta lp)); A < 0: min(0, A (1 + zeta lp)) (arXiv 2603.11682).

    lp is clamped at -20. No sign changes; A = 0 stays 0.
    """
    lp_BT = lp_BT.detach().clamp(min=LOWEST_LOGP)
    up = (A_BT * (1 - zeta * lp_BT)).clamp(min=0)
    down = (A_BT * (1 + zeta * lp_BT)).clamp(max=0)
    return torch.where(A_BT > 0, up, torch.where(A_BT < 0, down, torch.zeros_like(A_BT)))


def repo_d(A_BT: Tensor, lp_BT: Tensor, H_BT: Tensor, zeta: float) -> Tensor:
    """A' = A - zeta (lp + H) (arXiv 2603.11682).

    lp + H is lp less its expectation. With zeta = Cov(lp, A) / Var(lp) a natural-gradient step
    leaves the entropy where it is, to first order. Moves tokens of groups without spread, too.
    """
    return A_BT - zeta * (lp_BT.detach() + H_BT.detach())


def delightful(A_BT: Tensor, lp_BT: Tensor, eta: float = 1.0) -> Tensor:
    """A' = sigmoid(A s / eta) A with surprisal s = -sg(lp) (arXiv 2603.14608)."""
    return torch.sigmoid(-A_BT * lp_BT.detach() / eta) * A_BT
