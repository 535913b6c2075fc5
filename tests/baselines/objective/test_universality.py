"""At lp = lp_old all surrogates are one: policy gradient, each token with its own weight."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from baselines.objective import spec as s
from baselines.objective.plan import Scan
from tests.baselines.objective.cases import (
    DROP_SOME,
    OBJECTIVES,
    SURROGATES,
    gradient,
    of,
    plan_of,
    random_batch,
    with_advantages,
)

AGGREGATIONS = (s.TokenMean(), s.SequenceMean(), s.Constant())
LIKE_POLICY_GRADIENT = [
    name
    for name, objective in OBJECTIVES.items()
    if not isinstance(objective.surrogate, s.Nft) and not objective.terms
]


def still(seed: int = 0, fresh: bool = True) -> tuple:
    """A batch whose weights have not moved; `fresh` ones do not even know the old lp."""
    batch = random_batch(seed, on_policy=True)
    scan = Scan(batch.logp_rollout, batch.entropy_rollout)
    return (batch if fresh else replace(batch, logp_old=scan.lp)), scan


@pytest.mark.parametrize("fresh", [True, False], ids=["no_old", "equal_old"])
@pytest.mark.parametrize("name", LIKE_POLICY_GRADIENT)
def test_the_gradient_is_minus_the_advantage_times_its_weight(name: str, fresh: bool) -> None:
    batch, scan = still(fresh=fresh)
    plan = plan_of(OBJECTIVES[name], batch, scan)
    _, by_lp, by_H, _ = gradient(OBJECTIVES[name], batch, plan, scan)
    assert torch.allclose(by_lp, (-plan.A * plan.weights).double(), rtol=1e-6, atol=0)
    assert (by_lp != 0).any()
    assert (by_H == 0).all()


@pytest.mark.parametrize("aggregation", AGGREGATIONS, ids=lambda part: part.kind)
@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("name", [n for n, p in SURROGATES.items() if not isinstance(p, s.Nft)])
def test_surrogates_cannot_be_told_apart(
    name: str, ratio: str, aggregation: s.AggregationSpec
) -> None:
    batch, scan = still(fresh=False)
    found = []
    for surrogate in (SURROGATES[name], s.PolicyGradient()):
        objective = of(surrogate=surrogate, ratio=ratio, aggregation=aggregation)
        found.append(gradient(objective, batch, plan_of(objective, batch, scan), scan)[1])
    assert torch.allclose(found[0], found[1], rtol=1e-12, atol=0)
    assert (found[0] != 0).any()


def test_clip_cov_drops_tokens_even_then() -> None:
    batch, scan = still()
    plain, dropping = of(surrogate=s.PolicyGradient()), of(dropping=DROP_SOME)
    before = gradient(plain, batch, plan_of(plain, batch, scan), scan)[1]
    plan = plan_of(dropping, batch, scan)
    after = gradient(dropping, batch, plan, scan)[1]
    lost = (before != 0) & (after == 0)
    assert int(lost.sum()) == plan.numbers["dropped_tokens"] == int(0.1 * batch.mask.sum()) > 0
    assert torch.allclose(after[~lost], before[~lost])


@pytest.mark.parametrize(
    ("weight", "estimator"), [(1, s.DrGrpo()), (2, s.Grpo(ddof=0, epsilon=0.0))]
)
def test_nft_is_dr_grpo_or_grpo(weight: int, estimator: s.EstimatorSpec) -> None:
    """NFT takes no advantages, so its own are set to something else."""
    batch, scan = still()
    nft = of(surrogate=s.Nft(weight=weight))
    plain = of(surrogate=s.PolicyGradient())
    found = gradient(nft, batch, plan_of(nft, batch, scan), scan)[1]
    relative = with_advantages(batch, estimator)
    expected = gradient(plain, relative, plan_of(plain, relative, scan), scan)[1]
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert (found != 0).any()


def test_off_policy_surrogates_differ() -> None:
    """Otherwise the tests above would tell nothing."""
    batch = random_batch()
    assert batch.logp_old is not None
    scan = Scan(batch.logp_old + 0.28 * torch.sin(torch.arange(6.0)), batch.entropy_rollout)
    found = []
    for name, surrogate in SURROGATES.items():
        objective = of(surrogate=surrogate)
        found.append((name, gradient(objective, batch, plan_of(objective, batch, scan), scan)[1]))
    same = {(a, b) for i, (a, x) in enumerate(found) for b, y in found[:i] if torch.allclose(x, y)}
    assert same <= {("adapo", "clip_higher")}
