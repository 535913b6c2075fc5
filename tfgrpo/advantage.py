"""Group-relative advantages, shared by both arms: one turns them into words, one into gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

GroupKind = Literal["mixed", "all_pass", "all_fail", "constant", "insufficient"]


def centred(rewards: Sequence[float]) -> tuple[float, ...]:
    """A_i = r_i - mean(r), exactly 0 without spread, where the mean may differ by a rounding.

    Assumes one group, i.e. all rewards of one task under one policy.
    """
    if not rewards or max(rewards) == min(rewards):
        return (0.0,) * len(rewards)
    mean = sum(rewards) / len(rewards)
    return tuple(r - mean for r in rewards)


def standardised(rewards: Sequence[float], epsilon: float = 1e-4) -> tuple[float, ...]:
    """A_i = (r_i - mean(r)) / (std(r) + epsilon), population std (GRPO, arXiv 2402.03300 eq. 3).

    A group of one has no comparison and gets advantage 0, not its raw reward.
    """
    centre = centred(rewards)
    if not centre:
        return ()
    std = (sum(a * a for a in centre) / len(centre)) ** 0.5
    return tuple(a / (std + epsilon) for a in centre)


def group_kind(rewards: Sequence[float], epsilon: float = 1e-6) -> GroupKind:
    """Sort a group by what it can teach. Informative is `mixed`: spread above `epsilon`.

    The spread is tested, not `0 < mean < 1`, so any reward scale works and (0.5, 0.5) is constant.
    """
    if len(rewards) < 2:
        return "insufficient"
    if max(rewards) - min(rewards) > epsilon:
        return "mixed"
    if rewards[0] >= 1 - epsilon:
        return "all_pass"
    return "all_fail" if rewards[0] <= epsilon else "constant"


def is_informative(rewards: Sequence[float], epsilon: float = 1e-6) -> bool:
    return group_kind(rewards, epsilon) == "mixed"
