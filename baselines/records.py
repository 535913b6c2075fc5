"""What a training step leaves in the record: plain numbers, each named once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch

from baselines.batch import TokenBatch
from baselines.objective.selection import covariance
from tfgrpo.metrics.diversity import entropy as mode_entropy
from tfgrpo.types import RolloutGroup

TOP = 0.2  # of the tokens by entropy: the forking tokens of arXiv 2506.01939
TOP_COVARIANCE = 0.002  # of the tokens: what KL-Cov would select


def rollout_metrics(groups: Sequence[RolloutGroup], batch: TokenBatch) -> dict[str, float]:
    """Figures on the rollouts, before any update. Entropies are nats per token.

    `entropy` is the mean over tokens, `entropy_response` over replies of their own mean (which is
    what arXiv 2505.22617 plots); `mode_entropy` is over strategies, within data sets, and
    `style/DATASET/MODE` is a strategy's share of its data set's replies.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    if not rollouts:
        return {}
    H, mask = batch.entropy_rollout, batch.mask
    flat = H[mask].sort(descending=True).values
    lengths = batch.lengths.clamp(min=1)
    A = batch.advantages[:, None] * mask
    cov = covariance(batch.logp_rollout, A, mask)[mask].sort(descending=True).values
    found = {
        "accuracy": sum(r.score.correct for r in rollouts) / len(rollouts),
        "length": sum(r.completion.usage.completion_tokens for r in rollouts) / len(rollouts),
        "truncated": sum(r.completion.finish_reason == "length" for r in rollouts) / len(rollouts),
        "entropy": _mean(flat),
        "entropy_response": float(((H * mask).sum(-1) / lengths).mean()),
        "entropy_top": _mean(flat[: math.ceil(TOP * len(flat))]),
        "covariance": _mean(cov),
        "covariance_top": _mean(cov[: math.ceil(TOP_COVARIANCE * len(cov))]),
        "answers": sum(len({r.score.answer for r in g.rollouts}) for g in groups) / len(groups),
        **_styles(groups),
    }
    if batch.planning is not None and bool((batch.planning & mask).any()):
        found["entropy_planning"] = _mean(H[batch.planning & mask])
        found["entropy_execution"] = _mean(H[~batch.planning & mask])
    return found


def _mean(values: torch.Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0


def _styles(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """Shares of the strategies, and their entropy, weighted over data sets by their samples."""
    seen: dict[str, Counter[str]] = {}
    for group in groups:
        modes = [r.score.mode for r in group.rollouts if r.score.mode is not None]
        seen.setdefault(group.task.dataset, Counter()).update(modes)
    total = sum(modes.total() for modes in seen.values())
    if not total:
        return {}
    found = {
        f"style/{dataset}/{mode}": count / modes.total()
        for dataset, modes in sorted(seen.items())
        for mode, count in sorted(modes.items())
    }
    spread = sum(m.total() / total * mode_entropy(m.values()) for m in seen.values() if m)
    return {"mode_entropy": spread, **found}


class Tally:
    """Sums over micro-batches, read as means per token."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()

    def add(self, sums: dict[str, torch.Tensor]) -> None:
        for name, value in sums.items():
            self.sums[name] += float(value)  # type: ignore[assignment]

    def means(self) -> dict[str, float]:
        tokens = self.sums["tokens"] or 1
        return {name: value / tokens for name, value in self.sums.items() if name != "tokens"}
