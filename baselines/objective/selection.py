"""Which tokens are learned from: masks by entropy, and the covariance of Clip-Cov and KL-Cov.

All statistics are over the tokens of the whole mini-batch, so they do not depend on how it is cut
into micro-batches. Selections are by rank, and ties go to the earlier token: they are exact.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _ranked(values_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Flat indices of the masked tokens, and their order from the largest value down."""
    where = mask_BT.flatten().nonzero()[:, 0]
    order = values_BT.flatten()[where].argsort(descending=True, stable=True)
    return where, order


def _as_mask(chosen: Tensor, mask_BT: Tensor) -> Tensor:
    flat = torch.zeros(mask_BT.numel(), dtype=torch.bool, device=mask_BT.device)
    flat[chosen] = True
    return flat.view_as(mask_BT)


def high_entropy(H_BT: Tensor, mask_BT: Tensor, share: float = 0.2) -> Tensor:
    """The tokens at or above the (1 - share) quantile of H, bool (B, T) (arXiv 2506.01939).

    As many as the linearly interpolated quantile leaves when no two entropies are equal.
    """
    where, order = _ranked(H_BT, mask_BT)
    # Rounded before the ceiling: 0.8 * 5 must be 4 in every floating point.
    kept = len(where) - math.ceil(round((1 - share) * (len(where) - 1), 9))
    return _as_mask(where[order[: kept if share else 0]], mask_BT)


def low_entropy(H_BT: Tensor, mask_BT: Tensor, share: float = 0.8) -> Tensor:
    """The tokens that `high_entropy` with 1 - share leaves out."""
    return mask_BT & ~high_entropy(H_BT, mask_BT, 1 - share)


def random_tokens(mask_BT: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Each masked token with probability `share`."""
    drawn = torch.rand(mask_BT.shape, generator=generator).to(mask_BT.device)
    return mask_BT & (drawn < share)


def covariance(lp_BT: Tensor, A_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(lp - mean lp) (A - mean A) with means over masked tokens, 0 elsewhere (2505.22617, eq. 10).

    Its mean is the population's covariance of lp and A over the tokens.
    """
    weight = mask_BT / mask_BT.sum().clamp(min=1)
    lp_c = lp_BT - (lp_BT * weight).sum()
    A_c = A_BT - (A_BT * weight).sum()
    return lp_c * A_c * mask_BT


def clip_cov(
    cov_BT: Tensor,
    allowed_BT: Tensor,
    count: int,
    low: float,
    high: float,
    generator: torch.Generator,
) -> Tensor:
    """At most `count` tokens drawn evenly among those with low < cov < high (2505.22617, eq. 11).

    `allowed_BT` leaves out padding and the tokens that the clip already stops.
    """
    candidates = (allowed_BT & (cov_BT > low) & (cov_BT < high)).flatten().nonzero()[:, 0]
    order = torch.randperm(len(candidates), generator=generator).to(candidates.device)
    return _as_mask(candidates[order[:count]], allowed_BT)


def top_covariance(cov_BT: Tensor, mask_BT: Tensor, count: int) -> Tensor:
    """The `count` tokens of the largest covariance (arXiv 2505.22617, eq. 12)."""
    where, order = _ranked(cov_BT, mask_BT)
    return _as_mask(where[order[:count]], mask_BT)


def selected_count(share: float, tokens: int, at_least_one: bool) -> int:
    """floor(share tokens); published code takes at least one, which on few tokens is a lot more."""
    return max(int(at_least_one and tokens > 0), math.floor(share * tokens))
