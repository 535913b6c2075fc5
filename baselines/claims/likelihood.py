"""The claim that tuned answers lie inside the base's likely set, on replies scored by the base."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch

from baselines.claims.finding import SEED, Finding, of_difference, points
from baselines.claims.registry import claim
from baselines.demonstrations import Demonstration
from baselines.imitation_config import Nll
from baselines.sft import buckets, reply_losses
from tfgrpo.metrics.seeds import seeded_difference
from tfgrpo.seeding import derive_seed

Scored = Mapping[str, Sequence[tuple[float, int]]]
"""For each problem its replies: -log p of the whole reply under the base, nats, and its tokens."""

LIKELY = 0.95
"""Quantile of the base's own replies up to which a reply counts as likely."""


@torch.no_grad()
def score(
    model: Any, replies: Sequence[Demonstration], micro_tokens: int
) -> list[tuple[float, int]]:
    """-log p of each reply given its prompt, in nats at temperature 1, and its tokens."""
    # `buckets` sorts alike, so what they give stands in this order.
    order = sorted(range(len(replies)), key=lambda i: -replies[i].size)
    nats = [
        own.sum().item()
        for part in buckets(replies, micro_tokens)
        for own in reply_losses(model, part, Nll())[1].split([len(d.reply) for d in part])
    ]
    found = dict(zip(order, nats, strict=True))
    return [(found[i], len(reply.reply)) for i, reply in enumerate(replies)]


def within_base(own: Scored, tuned: Sequence[Scored]) -> Finding:
    """Tuned answers lie inside the base's likely set (arXiv 2504.13837, section 4.1).

    Log-perplexity -log p(y|x) / |y| under the base, a problem's mean over tuned replies minus that
    over the base's own; paired by problem, seeds averaged. End tokens count, prompts do not.
    """
    rates = [{i: fmean(map(_rate, said)) for i, said in run.items()} for run in (own, *tuned)]
    seed = derive_seed(SEED, "within-base")
    found = seeded_difference("log-perplexity", rates[:1], rates[1:], seed)
    inside = fmean(_likely(own, run) for run in tuned)
    nats = [fmean(n for said in run.values() for n, _ in said) for run in (own, *tuned)]
    detail = (
        f"Perplexity under the base {math.exp(found.problems.a):.3f} of its own replies, "
        f"{math.exp(found.problems.b):.3f} of the tuned; nats a reply {nats[0]:.2f} and "
        f"{fmean(nats[1:]):.2f}; {points(inside)}% of the tuned lie below the {100 * LIKELY:.0f}th "
        "percentile of the base's own on the same problem."
    )
    return of_difference(claim("within-base").rule, found, detail)


def _rate(reply: tuple[float, int]) -> float:
    nats, tokens = reply
    return nats / tokens


def _likely(own: Scored, tuned: Scored) -> float:
    """Share of tuned replies within the base's own `LIKELY` quantile, problems weighing alike."""
    shares = []
    for i in own.keys() & tuned.keys():
        limit = float(np.quantile([_rate(r) for r in own[i]], LIKELY))
        shares.append(fmean(_rate(r) <= limit + 1e-9 for r in tuned[i]))
    return fmean(shares)
