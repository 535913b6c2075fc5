"""The rollouts of a mini-batch as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """B replies; L the longest prompt with its reply, T the longest reply. All right-padded.

    `ids` (B, L) int64: prompt, then reply. `prompt` (B,): prompt lengths. `targets` (B, T) int64:
    the reply's tokens with the end token. `mask` (B, T) bool: which of them are learned from.
    `group` (B,) int64: replies to one prompt share a number. `rewards` (B,) float64, NaN where
    unscored; `correct` (B,) bool. `advantages` (B,) float32. Log-probabilities and entropies are
    (B, T) float32 in nats: `logp_rollout` and `entropy_rollout` by the sampler, `logp_old` by the
    trainer at the start of the update (None: strictly on-policy), `logp_ref` of the reference.
    With a critic `advantages` are (B, T), beside its `values` and `returns`, (B, T) as well.
    """

    ids: Tensor
    prompt: Tensor
    targets: Tensor
    mask: Tensor
    group: Tensor
    rewards: Tensor
    correct: Tensor
    advantages: Tensor
    logp_rollout: Tensor
    entropy_rollout: Tensor
    planning: Tensor | None = None
    logp_old: Tensor | None = None
    logp_ref: Tensor | None = None
    values: Tensor | None = None
    returns: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Tensor:
        """Reply lengths (B,)."""
        return self.mask.sum(-1)

    @property
    def sizes(self) -> Tensor:
        """Lengths of prompt and reply together (B,), which is what a forward pass costs."""
        return self.prompt + self.lengths

    def rows(self, index: Tensor) -> TokenBatch:
        """The rows `index` (N,), with padding cut to what they need."""
        taken = {
            f.name: value[index]
            for f in fields(self)
            if (value := getattr(self, f.name)) is not None
        }
        part = replace(self, **taken)
        wide = int(part.sizes.max()) if len(part) else 0
        long = int(part.lengths.max()) if len(part) else 0
        cut = {
            f.name: value[:, : wide if f.name == "ids" else long]
            for f in fields(part)
            if (value := getattr(part, f.name)) is not None and value.ndim == 2
        }
        return replace(part, **cut)

    def to(self, device: torch.device) -> TokenBatch:
        moved = {
            f.name: value.to(device)
            for f in fields(self)
            if (value := getattr(self, f.name)) is not None
        }
        return replace(self, **moved)


def padded(rows: Sequence[Sequence[float]], dtype: torch.dtype, width: int = 0) -> Tensor:
    """Rows of unequal lengths as one tensor (B, max length or `width`), right-padded with 0."""
    width = max(width, max(map(len, rows), default=0))
    out = torch.zeros(len(rows), width, dtype=dtype)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = torch.tensor(values, dtype=dtype)
    return out
