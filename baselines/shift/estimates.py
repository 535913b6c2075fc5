"""How far a policy stands from its base: means over problems, in nats, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from tfgrpo.metrics.bootstrap import TIE, bca_ends, resampled_sums
from tfgrpo.metrics.estimate import bootstrap_mean, mean_of, paired_difference
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Comparison, Estimate, TaskOutcome

if TYPE_CHECKING:
    from torch import Tensor

UNMOVED = 1e-6
"""Nats a reply below which rounding alone could have moved a policy."""


@dataclass(frozen=True, slots=True)
class ReplyShift:
    """One reply: its tokens, and sums over them in nats."""

    task_id: str
    tokens: int
    nll: float
    nll_base: float
    kl: float
    entropy: float
    entropy_base: float

    @classmethod
    def of(cls, task_id: str, figures_5T: Tensor) -> ReplyShift:
        """From the figures of its tokens, see `baselines.shift.forcing.token_shift`."""
        lp, lq, kl, H, H_base = figures_5T.double().sum(1).tolist()
        return cls(task_id, figures_5T.shape[1], -lp, -lq, kl, H, H_base)


@dataclass(frozen=True, slots=True)
class Shift:
    """A policy beside its base, on replies that the policy wrote.

    `kl_per_token` is KL(policy || base) a token; `kl_per_reply` its sum over a reply, whose mean is
    the divergence of the two distributions of replies (chain rule) if replies are drawn at
    temperature 1 and uncut. `nll` and `nll_base` are -log p a token by the policy and by the base,
    entropies are nats a token. Tokens weigh alike within a problem, problems alike within the mean.
    """

    problems: int
    samples: int
    tokens: int
    kl_per_token: Estimate
    kl_per_reply: Estimate
    nll: Estimate
    nll_base: Estimate
    entropy: Estimate
    entropy_base: Estimate

    def row(self) -> dict[str, Any]:
        """Its fields by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def perplexity(self) -> Estimate:
        """exp of `nll`: how the policy finds its own replies."""
        return exponential(self.nll)

    @property
    def perplexity_base(self) -> Estimate:
        """exp of `nll_base`: how the base finds the policy's replies."""
        return exponential(self.nll_base)


def shift_of(replies: Sequence[ReplyShift], seed: int) -> Shift:
    """Means over problems of at least one reply, with BCa intervals over problems.

    Raises:
        ValueError: if there is no reply, or a figure is not finite.
    """
    problems = _by_problem(replies)

    def estimate(name: str, per_reply: bool = False) -> Estimate:
        values = [
            math.fsum(getattr(r, name) for r in own)
            / (len(own) if per_reply else sum(r.tokens for r in own))
            for own in problems.values()
        ]
        return bootstrap_mean(values, derive_seed(seed, "shift"), ceiling=None)

    return Shift(
        problems=len(problems),
        samples=len(replies),
        tokens=sum(r.tokens for r in replies),
        kl_per_token=estimate("kl"),
        kl_per_reply=estimate("kl", per_reply=True),
        nll=estimate("nll"),
        nll_base=estimate("nll_base"),
        entropy=estimate("entropy"),
        entropy_base=estimate("entropy_base"),
    )


def gain_of(
    replies: Sequence[ReplyShift],
    before: Sequence[TaskOutcome],
    after: Sequence[TaskOutcome],
    seed: int,
) -> tuple[Comparison | None, Estimate | None]:
    """What the shift bought: pass@1 over the base's, and points of it a nat of a reply's KL.

    Over the problems that have `replies` and graded samples of both; None of fewer than 2.
    """
    nats = {
        task_id: math.fsum(r.kl for r in own) / len(own)
        for task_id, own in _by_problem(replies).items()
    }
    a, b = (
        {o.task_id: o.c / o.n for o in side if o.n and o.task_id in nats}
        for side in (before, after)
    )
    shared = a.keys() & b.keys()
    if len(shared) < 2:
        return None, None
    points = {task_id: 100 * (b[task_id] - a[task_id]) for task_id in shared}
    return paired_difference("pass@1", a, b, seed), per_nat(points, nats, seed)


def _by_problem(replies: Sequence[ReplyShift]) -> dict[str, list[ReplyShift]]:
    """By ascending task, so that the order of replies cannot move an interval."""
    names = sorted({reply.task_id for reply in replies})
    found: dict[str, list[ReplyShift]] = {name: [] for name in names}
    for reply in replies:
        found[reply.task_id].append(reply)
    return found


def per_nat(
    gains: Mapping[str, float], nats: Mapping[str, float], seed: int, resamples: int = 10_000
) -> Estimate | None:
    """Ratio of mean gain to mean nats over the problems that both have, with a paired interval.

    r = sum g_i / sum d_i, BCa over problems with influence (g_i - r d_i) / mean d (Efron and
    Tibshirani 1993, ch. 14). None where the policy did not move, or fewer than 2 problems are
    shared; both ends are r where all problems agree on it.

    Raises:
        ValueError: if a value is not finite.
    """
    shared = sorted(gains.keys() & nats.keys())
    g = np.array([gains[i] for i in shared], dtype=np.float64)
    d = np.array([nats[i] for i in shared], dtype=np.float64)
    if len(shared) < 2 or mean_of(d) <= UNMOVED:
        return None
    ratio = mean_of(g) / mean_of(d)
    residual = g - ratio * d
    if float(np.abs(residual).max()) <= TIE * float(np.abs(g).max()):
        return Estimate(ratio, ratio, ratio, len(shared), "constant")
    influence = residual / mean_of(d)
    sums = resampled_sums(np.stack([g, d], axis=1), derive_seed(seed, "per nat"), resamples)
    drawn = sums[:, 0] / np.maximum(sums[:, 1], UNMOVED)
    low, high = bca_ends(ratio, drawn, influence, float(np.abs(influence).max()), 0.95)
    return Estimate(ratio, low, high, len(shared), "paired bca of a ratio")


def exponential(estimate: Estimate) -> Estimate:
    """exp of a mean in nats, with the ends of its interval: the geometric mean over problems."""
    return Estimate(
        math.exp(estimate.value),
        math.exp(estimate.low),
        math.exp(estimate.high),
        estimate.n,
        f"exp of {estimate.method}",
        estimate.level,
    )
