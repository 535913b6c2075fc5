"""Everything about an update that needs the whole mini-batch, settled before the first gradient.

An objective's masks, selections and divisors are statistics of the mini-batch. They are computed
here once, from a pass without gradients (`Scan`), and handed to the micro-batches as plain tensors:
so however a mini-batch is cut, the gradient is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, assert_never

import torch
from torch import Tensor

from baselines.batch import TokenBatch
from baselines.objective import selection, shaping, surrogates, terms
from baselines.objective import spec as s
from baselines.objective.controllers import Controllers


@dataclass(frozen=True, slots=True)
class Scan:
    """Log-probability of each token and entropy of its distribution, (B, T), in nats."""

    lp: Tensor
    H: Tensor


@dataclass(frozen=True, slots=True)
class Plan:
    """What each token of the mini-batch counts, (B, T) unless said otherwise; all without gradient.

    loss = sum weights * surrogate(A) + sum term_weights * KL - bonus * sum token_weights * H.
    `penalised`: the tokens that KL-Cov selects. `share_right` (B,): of the row's group. `numbers`
    describe the selections.
    """

    A: Tensor
    weights: Tensor
    term_weights: Tensor
    token_weights: Tensor
    penalised: Tensor
    share_right: Tensor
    bonus: float
    upper_clip: float
    numbers: Mapping[str, float]

    def rows(self, index: Tensor, width: int) -> Plan:
        cut: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                cut[field.name] = value[index][:, :width] if value.ndim == 2 else value[index]
        return replace(self, **cut)

    @property
    def active(self) -> Tensor:
        """Rows that have any gradient at all, bool (B,); the others need no forward pass."""
        policy = ((self.weights != 0) & (self.A != 0)) | self.penalised
        extra = (self.term_weights != 0) | ((self.token_weights != 0) & (self.bonus != 0))
        return (policy | extra).any(-1)


def needs_scan(objective: s.ObjectiveSpec) -> bool:
    """Whether the plan rests on log-probabilities or entropies from before the update."""
    own = bool(objective.transforms) or objective.correction is not None
    steered = any(isinstance(p, s.Adapo | s.AdaptiveEntropy) for p in objective.parts)
    return own or steered or any(part.scans for part in objective.parts)


def make_plan(
    objective: s.ObjectiveSpec,
    batch: TokenBatch,
    scan: Scan | None,
    controllers: Controllers,
    generator: torch.Generator,
    max_tokens: int,
) -> Plan:
    """The plan of one update of `batch`, a whole mini-batch.

    `scan` may be None where `needs_scan` is false. `generator` draws the selections; `max_tokens`
    is the budget of a reply, the divisor of constant aggregation.
    """
    scan = scan or Scan(batch.logp_rollout, batch.entropy_rollout)
    mask = batch.mask
    A = batch.advantages[:, None] * mask if batch.advantages.ndim == 1 else batch.advantages * mask
    shaped = A
    for transform in objective.transforms:
        shaped = _transform(transform, shaped, batch, scan, controllers) * mask

    kept, divisor, numbers = _masks(objective, batch, scan, generator)
    cov = selection.covariance(scan.lp, A, mask)
    upper = _upper_clip(objective.surrogate, controllers)
    stopped = _stopped(objective, batch, scan, shaped, upper)
    dropped, penalised = _selections(objective, mask, kept & ~stopped, cov, generator)
    numbers |= {"dropped_tokens": float(dropped.sum()), "penalised_tokens": float(penalised.sum())}

    weights = _aggregate(objective.aggregation, kept, divisor, max_tokens)
    if objective.correction is not None:
        part = objective.correction
        old = scan.lp if batch.logp_old is None else batch.logp_old
        weights = weights * terms.importance(
            old, batch.logp_rollout, mask, part.cap, part.level, part.mode
        )
    share_right = _share_right(batch)
    if isinstance(objective.surrogate, s.Nft):
        # NFT has no advantages; what it learns from are the replies of groups with both kinds.
        mixed = (share_right > 0) & (share_right < 1)
        shaped, weights = mask.float(), weights * mixed[:, None]
    entropy = float(terms.weighted_sum(scan.H, terms.token_mean(mask, mask)))
    has_kl = any(isinstance(term, s.Kl) for term in objective.terms)
    everywhere = _aggregate(objective.aggregation, mask, mask, max_tokens)
    return Plan(
        A=shaped.detach().float(),
        weights=weights * ~dropped,
        term_weights=everywhere if has_kl else torch.zeros_like(everywhere),
        token_weights=terms.token_mean(mask, mask),
        penalised=penalised,
        share_right=share_right,
        bonus=_bonus(objective, controllers, entropy),
        upper_clip=upper,
        numbers=numbers,
    )


def _transform(
    part: s.TransformSpec, A: Tensor, batch: TokenBatch, scan: Scan, controllers: Controllers
) -> Tensor:
    match part:
        case s.EntropyShaped():
            return shaping.entropy_shaped(A, scan.H, part.alpha, part.kappa)
        case s.EntropyUncapped():
            return shaping.entropy_uncapped(A, scan.H, part.alpha, part.threshold)
        case s.Hicra():
            return shaping.hicra(A, _planning(batch), part.alpha)
        case s.RepoR():
            return shaping.repo_r(A, scan.lp, controllers.value(part.kind))
        case s.RepoD():
            return shaping.repo_d(A, scan.lp, scan.H, controllers.value(part.kind))
        case s.Delightful():
            return shaping.delightful(A, scan.lp, part.eta)
    assert_never(part)


def _planning(batch: TokenBatch) -> Tensor:
    return torch.zeros_like(batch.mask) if batch.planning is None else batch.planning


def _masks(
    objective: s.ObjectiveSpec, batch: TokenBatch, scan: Scan, generator: torch.Generator
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Kept tokens, the tokens that the divisor counts, and the share kept."""
    kept = divisor = batch.mask
    for part in objective.masks:
        match part:
            case s.HighEntropy():
                chosen = selection.high_entropy(scan.H, batch.mask, part.share)
            case s.LowEntropy():
                chosen = selection.low_entropy(scan.H, batch.mask, part.share)
            case s.RandomTokens():
                chosen = selection.random_tokens(batch.mask, part.share, generator)
            case s.PlanningTokens():
                chosen = batch.mask & _planning(batch)
            case _:
                assert_never(part)
        kept = kept & chosen
        if part.norm == "kept":
            divisor = divisor & chosen
    share = float(kept.sum() / batch.mask.sum().clamp(min=1))
    return kept, divisor, {"kept_share": share} if objective.masks else {}


def _stopped(
    objective: s.ObjectiveSpec, batch: TokenBatch, scan: Scan, A: Tensor, upper: float
) -> Tensor:
    """The tokens whose gradient the clip stops already, bool (B, T)."""
    part, old = objective.surrogate, batch.logp_old
    if old is None or not isinstance(part, s.PpoClip | s.Adapo):
        return torch.zeros_like(batch.mask)
    ratio = (
        surrogates.sequence_ratio(scan.lp, old, batch.mask)
        if objective.ratio == "sequence"
        else surrogates.token_ratio(scan.lp, old)
    )
    below, above = surrogates.clipped(ratio, A, part.low, upper)
    return below | above


def _selections(
    objective: s.ObjectiveSpec,
    mask: Tensor,
    free: Tensor,
    cov: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The tokens that Clip-Cov drops, and those that KL-Cov penalises, among the `free` ones."""
    dropped = penalised = torch.zeros_like(mask)
    tokens = int(mask.sum())
    if (part := objective.dropping) is not None:
        count = selection.selected_count(part.share, tokens, part.at_least_one)
        dropped = selection.clip_cov(cov, free, count, part.low, part.high, generator)
    if isinstance(objective.surrogate, s.KlCov):
        count = selection.selected_count(objective.surrogate.share, tokens, at_least_one=True)
        penalised = selection.top_covariance(cov, free, count)
    return dropped, penalised


def _upper_clip(surrogate: s.SurrogateSpec, controllers: Controllers) -> float:
    match surrogate:
        case s.Adapo():
            return controllers.value(surrogate.kind)
        case s.PpoClip() | s.Gppo():
            return surrogate.high
    return float("inf")


def _aggregate(part: s.AggregationSpec, kept: Tensor, divisor: Tensor, max_tokens: int) -> Tensor:
    match part:
        case s.TokenMean():
            return terms.token_mean(kept, divisor)
        case s.SequenceMean():
            return terms.sequence_mean(kept, divisor)
        case s.Constant():
            return terms.constant(kept, part.tokens or max_tokens)
    assert_never(part)


def _bonus(objective: s.ObjectiveSpec, controllers: Controllers, entropy: float) -> float:
    fixed = sum(t.coefficient for t in objective.terms if isinstance(t, s.EntropyBonus))
    return fixed + controllers.bonus(entropy)


def _share_right(batch: TokenBatch) -> Tensor:
    """Of each row's group, the share of right replies (B,)."""
    _, where, counts = batch.group.unique(return_inverse=True, return_counts=True)
    right = torch.zeros(len(counts), device=where.device)
    right.index_add_(0, where, batch.correct.float())
    shares: Tensor = right / counts
    return shares[where]
