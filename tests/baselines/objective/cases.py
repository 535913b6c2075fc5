"""What the tests of the objective share: one worked example, small random batches, many objectives.

Everything is float64, so that equalities can be asserted to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from baselines.batch import TokenBatch
from baselines.objective import spec as s
from baselines.objective.advantages import GroupRewards, estimate
from baselines.objective.controllers import Controllers
from baselines.objective.loss import objective_loss
from baselines.objective.plan import Plan, Scan, make_plan

MAX_TOKENS = 8


def f64(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# the worked example: two replies of 4 and 3 tokens --------------------------------------------

MASK = torch.tensor([[True, True, True, True], [True, True, True, False]])
LP = f64([-0.1, -2.3, -0.05, -1.2], [-0.7, -0.01, -3.0, -0.4])
LP_OLD = f64([-0.2, -2.0, -0.05, -1.6], [-0.7, -0.05, -2.6, -0.1])
ENTROPY = f64([0.01, 2.0, 0.02, 1.0], [0.5, 0.03, 1.5, 9.0])
A = f64(1.5, -0.5)


def golden_batch() -> TokenBatch:
    return TokenBatch(
        ids=torch.zeros(2, 5, dtype=torch.long),
        prompt=torch.ones(2, dtype=torch.long),
        targets=torch.zeros(2, 4, dtype=torch.long),
        mask=MASK,
        group=torch.tensor([0, 0]),
        rewards=f64(1.0, 0.0),
        correct=torch.tensor([True, False]),
        advantages=A,
        logp_rollout=LP_OLD,
        entropy_rollout=ENTROPY,
        logp_old=LP_OLD,
    )


# random batches -------------------------------------------------------------------------------


def random_batch(
    seed: int = 0,
    groups: int = 2,
    size: int = 4,
    width: int = 6,
    on_policy: bool = False,
    estimator: s.EstimatorSpec | None = None,
    rewards: Tensor | None = None,
) -> TokenBatch:
    """Replies of 0 to `width` tokens, group by group; the first group has a reply of no token.

    Each group has right and wrong replies unless `rewards` says otherwise. On-policy batches have
    no `logp_old`.
    """
    draw = torch.Generator().manual_seed(seed)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(rows, width, generator=draw, dtype=torch.float64)

    rows = groups * size
    lengths = torch.randint(1, width + 1, (rows,), generator=draw)
    lengths[1], lengths[-1] = 0, width
    mask = torch.arange(width) < lengths[:, None]
    prompt = torch.randint(1, 4, (rows,), generator=draw)
    if rewards is None:
        rewards = (torch.rand(rows, generator=draw) < 0.5).double()
        rewards[::size], rewards[size - 1 :: size] = 1.0, 0.0
    lp = -torch.rand(rows, width, generator=draw, dtype=torch.float64) * 3
    batch = TokenBatch(
        ids=torch.randint(0, 9, (rows, int((prompt + lengths).max())), generator=draw),
        prompt=prompt,
        targets=torch.randint(0, 9, (rows, width), generator=draw),
        mask=mask,
        group=torch.arange(groups).repeat_interleave(size),
        rewards=rewards,
        correct=rewards > 0,
        advantages=torch.zeros(rows),
        logp_rollout=lp + noise(0.05),
        entropy_rollout=torch.rand(rows, width, generator=draw, dtype=torch.float64) * 2,
        planning=torch.rand(rows, width, generator=draw) < 0.4,
        logp_old=None if on_policy else lp + noise(0.3),
        logp_ref=lp + noise(0.5),
    )
    return with_advantages(batch, estimator or s.Grpo())


def with_advantages(batch: TokenBatch, estimator: s.EstimatorSpec) -> TokenBatch:
    found = torch.zeros(len(batch.rewards), dtype=torch.float64)
    for number in batch.group.unique():
        rows = (batch.group == number).nonzero()[:, 0]
        lengths = batch.lengths[rows].tolist()
        found[rows] = f64(*estimate(estimator, GroupRewards(batch.rewards[rows].tolist(), lengths)))
    return replace(batch, advantages=found)


def current(batch: TokenBatch, seed: int = 1) -> Scan:
    """Log-probabilities and entropies of the weights as they are, a little off the old ones."""
    draw = torch.Generator().manual_seed(seed)
    shape = batch.mask.shape
    base = batch.logp_rollout if batch.logp_old is None else batch.logp_old
    step = 0.3 * torch.randn(shape, generator=draw, dtype=torch.float64)
    return Scan((base + step).clamp(max=-1e-3), torch.rand(shape, generator=draw).double() * 2)


def plan_of(
    objective: s.ObjectiveSpec,
    batch: TokenBatch,
    scan: Scan | None,
    controllers: Controllers | None = None,
    seed: int = 0,
) -> Plan:
    generator = torch.Generator().manual_seed(seed)
    controllers = controllers or started(objective)
    return make_plan(objective, batch, scan, controllers, generator, MAX_TOKENS)


def started(objective: s.ObjectiveSpec) -> Controllers:
    """Controllers one update on, with a coefficient that does something."""
    controllers = Controllers(objective)
    controllers.update(0.0)
    return controllers


def gradient(
    objective: s.ObjectiveSpec, batch: TokenBatch, plan: Plan, scan: Scan
) -> tuple[float, Tensor, Tensor, Mapping[str, float]]:
    """The loss, its gradients by lp and by H, and the tally."""
    lp = scan.lp.clone().requires_grad_()
    H = scan.H.clone().requires_grad_()
    loss, sums = objective_loss(objective, batch, plan, lp, H)
    by_lp, by_H = torch.autograd.grad(loss, (lp, H), allow_unused=True)
    nothing = torch.zeros_like(lp)
    return (
        loss.item(),
        nothing if by_lp is None else by_lp,
        nothing if by_H is None else by_H,
        {name: value.item() for name, value in sums.items()},
    )


def on_columns(batch: TokenBatch, change: Callable[[str, Tensor], Tensor]) -> TokenBatch:
    """The batch with every (B, T) tensor changed; `ids` stay."""
    found = {
        f.name: change(f.name, value)
        for f in fields(batch)
        if f.name != "ids" and (value := getattr(batch, f.name)) is not None and value.ndim == 2
    }
    return replace(batch, **found)


# objectives -----------------------------------------------------------------------------------

PG = s.PolicyGradient()
HIGHER = s.PpoClip(high=0.28)
TERMS: tuple[s.Kl | s.EntropyBonus | s.AdaptiveEntropy, ...] = (
    *(s.Kl(estimator=name, coefficient=0.1) for name in ("k1", "k2", "k3", "k3_is")),
    s.EntropyBonus(coefficient=0.1),
    s.AdaptiveEntropy(target=5.0),
)
TRANSFORMS: tuple[s.TransformSpec, ...] = (
    s.EntropyShaped(),
    s.EntropyUncapped(),
    s.Hicra(),
    s.RepoR(zeta=0.05),
    s.RepoD(zeta=0.3),
    s.Delightful(),
)
MASKS: tuple[s.MaskSpec, ...] = tuple(
    kind(norm=norm)
    for kind in (s.HighEntropy, s.LowEntropy, s.RandomTokens, s.PlanningTokens)
    for norm in ("kept", "all")
)
SURROGATES: Mapping[str, s.SurrogateSpec] = {
    "policy_gradient": PG,
    "ppo_clip": s.PpoClip(),
    "clip_higher": HIGHER,
    "dual_clip": s.PpoClip(dual=1.1),
    "adapo": s.Adapo(),
    "gppo": s.Gppo(),
    "ce_gppo": s.Gppo(beta_low=0.5, beta_high=0.25, dual=None),
    "cispo": s.Cispo(),
    "kl_cov": s.KlCov(share=0.2),
    "nft": s.Nft(),
    "nft_2": s.Nft(weight=2, negative=0.5),
    "nft_0": s.Nft(weight=0),
}
DROP_SOME = s.ClipCov(share=0.1, low=0.0, high=9.0)
DROP_ALL = s.ClipCov(share=1.0, low=0.0, high=9.0)


def of(**stages: Any) -> s.ObjectiveSpec:
    return s.ObjectiveSpec(**stages)


OBJECTIVES: Mapping[str, s.ObjectiveSpec] = {
    **{name: of(surrogate=part) for name, part in SURROGATES.items()},
    "gspo": of(
        surrogate=s.PpoClip(low=3e-4, high=4e-4), ratio="sequence", aggregation=s.SequenceMean()
    ),
    "sequence_cispo": of(surrogate=s.Cispo(), ratio="sequence"),
    "sequence_masked": of(surrogate=HIGHER, ratio="sequence", masks=(s.HighEntropy(share=0.5),)),
    **{f"transform_{part.kind}": of(surrogate=PG, transforms=(part,)) for part in TRANSFORMS},
    "transforms": of(surrogate=HIGHER, transforms=(s.EntropyShaped(), s.Hicra())),
    **{f"mask_{p.kind}_{p.norm}": of(surrogate=HIGHER, masks=(p,)) for p in MASKS},
    "masks": of(masks=(s.HighEntropy(share=0.5), s.PlanningTokens(norm="all"))),
    "clip_cov": of(surrogate=s.PpoClip(low=1.0, high=1.0), dropping=DROP_SOME),
    "clip_cov_all": of(surrogate=HIGHER, dropping=DROP_ALL),
    **{
        f"correction_{level}_{mode}": of(correction=s.Truncated(cap=1.1, level=level, mode=mode))
        for level in ("token", "sequence")
        for mode in ("truncate", "mask")
    },
    **{f"term_{getattr(t, 'estimator', t.kind)}": of(terms=(t,)) for t in TERMS},
    "terms": of(surrogate=PG, terms=(s.Kl(), s.EntropyBonus()), aggregation=s.SequenceMean()),
    "sequence_mean": of(aggregation=s.SequenceMean()),
    "constant": of(aggregation=s.Constant()),
    "constant_tokens": of(aggregation=s.Constant(tokens=5), masks=(s.HighEntropy(),)),
    "all_at_once": of(
        estimator=s.Rloo(),
        transforms=(s.EntropyShaped(), s.RepoR(zeta=0.01)),
        masks=(s.HighEntropy(share=0.7),),
        surrogate=s.Gppo(),
        dropping=DROP_ALL,
        correction=s.Truncated(),
        terms=(s.Kl(estimator="k2"), s.EntropyBonus()),
        aggregation=s.SequenceMean(),
    ),
}
