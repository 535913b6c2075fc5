"""The loss of a micro-batch under its mini-batch's plan; those of micro-batches add up."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor

from baselines.batch import TokenBatch
from baselines.objective import spec as s
from baselines.objective import surrogates, terms
from baselines.objective.plan import Plan


def objective_loss(
    objective: s.ObjectiveSpec, batch: TokenBatch, plan: Plan, lp: Tensor, H: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of these rows, and sums over their tokens for the record (see `Tally`).

    `lp` and `H` (B, T) are of the current weights; both carry gradients, H only where a term
    needs it.
    """
    old = lp.detach() if batch.logp_old is None else batch.logp_old
    ratio = (
        surrogates.sequence_ratio(lp, old, batch.mask)
        if objective.ratio == "sequence"
        else surrogates.token_ratio(lp, old)
    )
    losses = _surrogate(objective.surrogate, batch, plan, lp, old, ratio)
    loss = terms.weighted_sum(losses, plan.weights)
    for term in objective.terms:
        if isinstance(term, s.Kl):
            assert batch.logp_ref is not None
            kl = terms.kl(lp, batch.logp_ref, surrogates.token_ratio(lp, old), term.estimator)
            loss = loss + term.coefficient * terms.weighted_sum(kl, plan.term_weights)
    if plan.bonus:
        loss = loss - plan.bonus * terms.weighted_sum(H, plan.token_weights)
    with torch.no_grad():
        return loss, _tally(objective.surrogate, batch, plan, lp, H, old, ratio)


def _surrogate(
    part: s.SurrogateSpec, batch: TokenBatch, plan: Plan, lp: Tensor, old: Tensor, ratio: Tensor
) -> Tensor:
    match part:
        case s.PolicyGradient():
            return surrogates.policy_gradient(lp, plan.A)
        case s.PpoClip():
            return surrogates.ppo_clip(ratio, plan.A, part.low, part.high, part.dual)
        case s.Adapo():
            return surrogates.ppo_clip(ratio, plan.A, part.low, plan.upper_clip)
        case s.Gppo():
            return surrogates.gppo(
                ratio, plan.A, part.low, part.high, part.beta_low, part.beta_high, part.dual
            )
        case s.Cispo():
            return surrogates.cispo(ratio, lp, plan.A, part.cap)
        case s.KlCov():
            return surrogates.kl_cov(ratio, lp, old, plan.A, plan.penalised, part.coefficient)
        case s.Nft():
            return surrogates.nft(
                ratio, batch.correct, plan.share_right, part.weight, part.negative
            )
    assert_never(part)


def _tally(
    part: s.SurrogateSpec,
    batch: TokenBatch,
    plan: Plan,
    lp: Tensor,
    H: Tensor,
    old: Tensor,
    ratio: Tensor,
) -> dict[str, Tensor]:
    """Sums over the masked tokens of these rows; divided by `tokens` they are means."""
    mask = batch.mask
    low = part.low if isinstance(part, s.PpoClip | s.Adapo | s.Gppo) else float("inf")
    below, above = surrogates.clipped(ratio, plan.A, low, plan.upper_clip)
    sums = {
        "tokens": mask,
        "entropy": H * mask,
        "clip_low": below & mask,
        "clip_high": above & mask,
        "kl_old": terms.k3(old, lp) * mask,
        "rollout_gap": (lp - batch.logp_rollout).abs() * mask,
    }
    if batch.logp_ref is not None:
        sums["kl_reference"] = terms.k3(lp, batch.logp_ref) * mask
    return {name: value.sum().double() for name, value in sums.items()}
