"""The claim that RL moves few weights, on stored tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from baselines.claims.finding import Finding, of_spread, of_sums, points
from baselines.claims.registry import claim
from tfgrpo.errors import ConfigError

Weights = Mapping[str, Tensor]
TOLERANCE = 1e-5
"""Within which a weight counts as unmoved (arXiv 2505.11711)."""


def unmoved(before: Weights, after: Weights, stored: torch.dtype) -> dict[str, tuple[int, int]]:
    """Of each tensor: how many weights lie within `TOLERANCE`, both rounded to `stored`, of all.

    Raises ConfigError unless both have the same tensors.
    """
    if before.keys() != after.keys() or any(before[n].shape != after[n].shape for n in before):
        raise ConfigError("The weights are of another model than the base; give the base's own.")
    found = {}
    for name, old in before.items():
        moved = (after[name].to(stored).double() - old.to(stored).double()).abs() > TOLERANCE
        found[name] = (moved.numel() - int(moved.sum()), moved.numel())
    return found


def sparse_updates(before: Weights, after: Sequence[Weights], stored: torch.dtype) -> Finding:
    """RL fine-tunes small subnetworks (arXiv 2505.11711): most weights stay.

    Share of weights within `TOLERANCE` of the base, both rounded to `stored`, the precision in
    which the base was published. All weights are counted; the interval draws whole tensors again,
    so it tells how evenly the share is spread over the model.
    """
    tables = [np.array(list(unmoved(before, own, stored).values()), float) for own in after]
    found = of_sums(tables, lambda t: t[..., 0] / t[..., 1], "sparsity")
    exact = [_share(unmoved(before, own, torch.float32)) for own in after]
    detail = (
        f"Unmoved of {int(tables[0][:, 1].sum())} weights in {len(tables[0])} tensors: "
        f"{points(found.value)}% in {str(stored).removeprefix('torch.')}, "
        f"{points(fmean(exact))}% in float32."
    )
    return of_spread(claim("sparse-updates").rule, found, detail)


def _share(table: Mapping[str, tuple[int, int]]) -> float:
    return sum(kept for kept, _ in table.values()) / sum(size for _, size in table.values())
