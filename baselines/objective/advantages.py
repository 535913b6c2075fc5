"""Advantage estimators: rewards of one group in, one advantage for each reply out.

Plain floats, one group at a time, so each can be held against its paper; nothing here is hot.
A group of one has nothing to be compared with and gets 0 from every relative estimator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from baselines.objective import spec as s
from tfgrpo.advantage import centred
from tfgrpo.errors import ConfigError
from tfgrpo.metrics.pass_at_k import pass_at_k

Advantages = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GroupRewards:
    """Rewards and lengths (generated tokens) of the scored replies to one prompt."""

    rewards: Sequence[float]
    lengths: Sequence[int]

    @property
    def n(self) -> int:
        return len(self.rewards)

    @property
    def mean(self) -> float:
        return math.fsum(self.rewards) / self.n


def grpo(group: GroupRewards, ddof: int = 1, epsilon: float = 1e-6) -> Advantages:
    """A_i = (r_i - mean) / (std + epsilon), 0 without spread (arXiv 2402.03300, eq. 3).

    Papers write the population's std (`ddof` 0), verl and TRL compute the sample's (1).
    """
    centre = centred(group.rewards)
    if group.n < 2:
        return (0.0,) * group.n
    std = math.sqrt(math.fsum(a * a for a in centre) / (group.n - ddof))
    return tuple(a / (std + epsilon) if std else 0.0 for a in centre)


def dr_grpo(group: GroupRewards) -> Advantages:
    """A_i = r_i - mean (arXiv 2503.20783)."""
    return centred(group.rewards)


def rloo(group: GroupRewards) -> Advantages:
    """A_i = r_i - mean_{j != i} r_j = G/(G-1) (r_i - mean) (arXiv 2402.14740)."""
    if group.n < 2:
        return (0.0,) * group.n
    return tuple(a * group.n / (group.n - 1) for a in centred(group.rewards))


def reinforce(group: GroupRewards, baseline: float = 0.0) -> Advantages:
    """A_i = r_i - b for a constant b (Williams 1992)."""
    return tuple(r - baseline for r in group.rewards)


def opo(group: GroupRewards) -> Advantages:
    """A_i = r_i - sum(l r) / sum(l) (arXiv 2505.23585, eq. 7).

    The variance-minimal baseline if the squared gradient norm of a reply grows with its length l;
    so sum(l A) = 0, and equal lengths give the group's mean.
    """
    weight = math.fsum(group.lengths)
    if group.n < 2 or not weight or max(group.rewards) == min(group.rewards):
        return (0.0,) * group.n
    pairs = zip(group.rewards, group.lengths, strict=True)
    baseline = math.fsum(r * length for r, length in pairs) / weight
    return tuple(r - baseline for r in group.rewards)


def pass_at_k_advantage(group: GroupRewards, k: int) -> Advantages:
    """The mean over all subsets of size k of their pass@k advantage (arXiv 2508.10751, eq. 14-17).

    R = pass@k of the group, s = sqrt(R (1 - R)); right replies get (1 - R)/s, wrong ones
    (1 - R - P)/s with P the chance that the k - 1 companions of a wrong reply are wrong as well.
    Sums to 0; all 0 if s = 0 or the group has fewer than k replies. Assumes rewards of 0 and 1.
    """
    n, right = group.n, round(math.fsum(group.rewards))
    if n < max(k, 2):
        return (0.0,) * n
    mean = pass_at_k(n, right, k)
    spread = math.sqrt(mean * (1 - mean))
    if not spread:
        return (0.0,) * n
    companions = 1.0 if k == 1 else 1 - pass_at_k(n - 1, right, k - 1)
    return tuple(((1 - mean) - (0.0 if r else companions)) / spread for r in group.rewards)


def maxrl(group: GroupRewards, centre: bool = True) -> Advantages:
    """A_i = (r_i - mean) / mean, or r_i / mean: gradient of a cut log-likelihood (2602.02710).

    The series sum_k (1/k) grad pass@k is cut at T = G by the plain form and at T = G - 1 by the
    centred one, which is what the published code computes. All 0 without a success.
    """
    mean = group.mean if group.n else 0.0
    if not mean or group.n < 2 or (centre and max(group.rewards) == min(group.rewards)):
        return (0.0,) * group.n
    return tuple((r - mean if centre else r) / mean for r in group.rewards)


def signed(group: GroupRewards, positive: float = 1.0, negative: float = 1.0) -> Advantages:
    """A_i = positive if right else -negative (arXiv 2506.01347). No baseline: not zero-sum."""
    return tuple(positive if r else -negative for r in group.rewards)


def estimate(estimator: s.EstimatorSpec, group: GroupRewards) -> Advantages:
    """The advantages of `group`; the critic's estimator is not relative (see `critic`)."""
    match estimator:
        case s.Grpo(ddof=ddof, epsilon=epsilon):
            return grpo(group, ddof, epsilon)
        case s.DrGrpo():
            return dr_grpo(group)
        case s.Rloo():
            return rloo(group)
        case s.Reinforce(baseline=baseline):
            return reinforce(group, baseline)
        case s.Opo():
            return opo(group)
        case s.PassAtK(k=k):
            return pass_at_k_advantage(group, k)
        case s.MaxRl(centred=centre):
            return maxrl(group, centre)
        case s.Signed(positive=positive, negative=negative):
            return signed(group, positive, negative)
        case s.Gae():
            raise ConfigError(
                "Generalised advantages come from a critic and not from groups; use `tfgrpo train "
                "--method ppo`."
            )
