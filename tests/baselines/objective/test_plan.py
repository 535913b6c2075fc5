from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.batch import TokenBatch
from baselines.objective import spec as s
from baselines.objective import surrogates
from baselines.objective.controllers import Controllers
from baselines.objective.plan import Plan, Scan, needs_scan
from tests.baselines.objective.cases import (
    HIGHER,
    OBJECTIVES,
    PG,
    TERMS,
    current,
    f64,
    gradient,
    of,
    on_columns,
    plan_of,
    random_batch,
)

GARBAGE = 7e3
every_objective = pytest.mark.parametrize("name", OBJECTIVES)
ALL_NAMES = tuple(OBJECTIVES)
DRAWN = ("clip_cov", "mask_random_tokens_kept", "mask_random_tokens_all")
"""Objectives that draw tokens: what is drawn hangs on the order of the rows."""


def same_plan(one: Plan, other: Plan) -> bool:
    pairs = ((getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def rows(scan: Scan, index: Tensor, width: int) -> Scan:
    return Scan(scan.lp[index][:, :width], scan.H[index][:, :width])


# micro-batches --------------------------------------------------------------------------------


@every_objective
@settings(max_examples=6)
@given(order=st.permutations(range(8)), cuts=st.sets(st.integers(1, 7)))
def test_a_minibatch_may_be_cut_anywhere(name: str, order: list[int], cuts: set[int]) -> None:
    """Loss, gradients and tallies of the micro-batches add up to those of the whole."""
    objective, batch = OBJECTIVES[name], random_batch()
    scan = current(batch)
    plan = plan_of(objective, batch, scan)
    loss, by_lp, by_H, sums = gradient(objective, batch, plan, scan)
    total, summed_lp, summed_H = 0.0, torch.zeros_like(by_lp), torch.zeros_like(by_H)
    tally = dict.fromkeys(sums, 0.0)
    edges = [0, *sorted(cuts), 8]
    for start, stop in pairwise(edges):
        index = torch.tensor(order[start:stop])
        micro = batch.rows(index)
        width = micro.mask.shape[1]
        found = gradient(objective, micro, plan.rows(index, width), rows(scan, index, width))
        total += found[0]
        summed_lp[index, :width] += found[1]
        summed_H[index, :width] += found[2]
        tally = {key: tally[key] + found[3][key] for key in tally}
    assert total == pytest.approx(loss, rel=1e-9, abs=1e-12)
    assert torch.allclose(summed_lp, by_lp, rtol=1e-9, atol=1e-15)
    assert torch.allclose(summed_H, by_H, rtol=1e-9, atol=1e-15)
    assert tally == pytest.approx(sums)
    assert (by_lp != 0).any()


@pytest.mark.parametrize("name", [name for name in ALL_NAMES if "nft" not in name])
def test_rows_without_gradient_can_be_left_out(name: str) -> None:
    """`active` rows are enough: the others, passed through, would add nothing."""
    rewards = f64(*[1.0, 0.0, 0.0, 1.0], *[0.0] * 4)
    objective = OBJECTIVES[name]
    batch = random_batch(rewards=rewards, estimator=objective.estimator)
    scan = current(batch)
    plan = plan_of(objective, batch, scan)
    _, by_lp, by_H, _ = gradient(objective, batch, plan, scan)
    idle = ~plan.active
    assert (by_lp[idle] == 0).all()
    assert (by_H[idle] == 0).all()
    assert idle[1]  # the reply of no token


@pytest.mark.parametrize("estimator", [s.Grpo(), s.Signed(negative=0.0)], ids=repr)
def test_nft_learns_from_groups_with_both_whatever_the_advantages(
    estimator: s.EstimatorSpec,
) -> None:
    rewards = f64(*[1.0, 0.0, 0.0, 1.0], *[0.0] * 4)
    objective = of(estimator=estimator, surrogate=s.Nft())
    batch = random_batch(rewards=rewards, estimator=estimator)
    scan = current(batch)
    plan = plan_of(objective, batch, scan)
    by_lp = gradient(objective, batch, plan, scan)[1]
    assert plan.active.nonzero()[:, 0].tolist() == [0, 2, 3]
    assert (by_lp != 0).any(-1).nonzero()[:, 0].tolist() == [0, 2, 3]


def test_only_some_rows_are_active() -> None:
    rewards = f64(*[1.0, 0.0, 0.0, 1.0], *[0.0] * 4)
    batch = random_batch(rewards=rewards)
    scan = current(batch)
    first, all_ = [0, 2, 3], [0, 2, 3, 4, 5, 6, 7]
    kl_cov = of(surrogate=s.KlCov(share=1.0))
    for objective, expected in (
        (of(), first),
        (of(transforms=(s.RepoR(), s.Hicra())), first),
        (of(transforms=(s.RepoD(),)), all_),
        (of(terms=(s.Kl(),)), all_),
        (of(terms=(s.EntropyBonus(),)), all_),
        (kl_cov, all_),
    ):
        assert plan_of(objective, batch, scan).active.nonzero()[:, 0].tolist() == expected


# what must not matter -------------------------------------------------------------------------


@every_objective
def test_what_padding_holds_does_not_matter(name: str) -> None:
    objective, batch = OBJECTIVES[name], random_batch()
    scan = current(batch)

    def spoil(_: str, value: Tensor) -> Tensor:
        if value is batch.mask:
            return value
        full = True if value.dtype == torch.bool else GARBAGE
        return torch.where(batch.mask, value, torch.as_tensor(full, dtype=value.dtype))

    dirty = on_columns(batch, spoil)
    dirty_scan = Scan(*(spoil("", x) for x in (scan.lp, scan.H)))
    plan, dirty_plan = plan_of(objective, batch, scan), plan_of(objective, dirty, dirty_scan)
    clean = gradient(objective, batch, plan, scan)
    found = gradient(objective, dirty, dirty_plan, dirty_scan)
    assert found[0] == pytest.approx(clean[0], rel=1e-12)
    for ours, theirs in zip(found[1:3], clean[1:3], strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=0)
        assert (ours[~batch.mask] == 0).all()
    assert found[3] == pytest.approx(clean[3])


@pytest.mark.parametrize("name", [name for name in ALL_NAMES if "random" not in name])
def test_how_wide_padding_is_does_not_matter(name: str) -> None:
    objective, batch = OBJECTIVES[name], random_batch()
    scan = current(batch)

    def widen(_: str, value: Tensor) -> Tensor:
        more = torch.full((len(value), 3), 0 if value.dtype == torch.bool else int(GARBAGE))
        return torch.cat([value, more.to(value.dtype)], dim=1)

    wide = on_columns(batch, widen)
    wide_scan = Scan(*(widen("", x) for x in (scan.lp, scan.H)))
    narrow = gradient(objective, batch, plan_of(objective, batch, scan), scan)
    found = gradient(objective, wide, plan_of(objective, wide, wide_scan), wide_scan)
    assert found[0] == pytest.approx(narrow[0], rel=1e-12)
    for ours, theirs in zip(found[1:3], narrow[1:3], strict=True):
        assert torch.allclose(ours[:, :6], theirs, rtol=1e-9, atol=0)
        assert (ours[:, 6:] == 0).all()


@pytest.mark.parametrize("name", [name for name in ALL_NAMES if name not in DRAWN])
@settings(max_examples=4)
@given(order=st.permutations(range(8)))
def test_the_order_of_the_rows_does_not_matter(name: str, order: list[int]) -> None:
    objective, batch, index = OBJECTIVES[name], random_batch(), torch.tensor(order)
    scan = current(batch)
    moved, moved_scan = batch.rows(index), rows(scan, index, 6)
    plain = gradient(objective, batch, plan_of(objective, batch, scan), scan)
    found = gradient(objective, moved, plan_of(objective, moved, moved_scan), moved_scan)
    assert found[0] == pytest.approx(plain[0], rel=1e-6)
    assert torch.allclose(found[1], plain[1][index], rtol=1e-6, atol=1e-12)
    assert torch.allclose(found[2], plain[2][index], rtol=1e-6, atol=1e-12)


@every_objective
def test_the_same_seed_makes_the_same_plan(name: str) -> None:
    objective, batch = OBJECTIVES[name], random_batch()
    scan = current(batch)
    assert same_plan(
        plan_of(objective, batch, scan, seed=3), plan_of(objective, batch, scan, seed=3)
    )


@pytest.mark.parametrize("name", DRAWN)
def test_another_seed_draws_other_tokens(name: str) -> None:
    objective, batch = OBJECTIVES[name], random_batch()
    scan = current(batch)
    plans = [plan_of(objective, batch, scan, seed=seed).weights != 0 for seed in range(5)]
    assert not all(torch.equal(plans[0], plan) for plan in plans)


@every_objective
def test_one_number_per_reply_is_the_same_number_at_each_token(name: str) -> None:
    """Advantages of a critic are (B, T); those of groups may be written so as well."""
    objective, batch = OBJECTIVES[name], random_batch()
    scan = current(batch)
    spread = replace(batch, advantages=batch.advantages[:, None] * batch.mask)
    assert same_plan(plan_of(objective, batch, scan), plan_of(objective, spread, scan))


@every_objective
def test_single_precision_is_enough(name: str) -> None:
    objective, batch = OBJECTIVES[name], random_batch()
    scan = current(batch)
    single = on_columns(batch, lambda _, x: x.float() if x.is_floating_point() else x)
    single_scan = Scan(scan.lp.float(), scan.H.float())
    double = gradient(objective, batch, plan_of(objective, batch, scan), scan)
    found = gradient(objective, single, plan_of(objective, single, single_scan), single_scan)
    assert found[0] == pytest.approx(double[0], rel=1e-5, abs=1e-7)
    assert torch.allclose(found[1].double(), double[1], rtol=1e-4, atol=1e-6)


# nothing to learn -----------------------------------------------------------------------------


@every_objective
def test_a_batch_of_no_tokens_is_no_trouble(name: str) -> None:
    objective, full = OBJECTIVES[name], random_batch()
    batch = replace(full, mask=torch.zeros_like(full.mask))
    scan = current(full)
    plan = plan_of(objective, batch, scan)
    loss, by_lp, by_H, sums = gradient(objective, batch, plan, scan)
    assert loss == 0
    assert (by_lp == 0).all()
    assert (by_H == 0).all()
    assert sums["tokens"] == 0
    assert not plan.active.any()


SILENT = f64(*[1.0, 0.0, 0.0, 1.0], *[1.0] * 4)
RELATIVE = (
    s.Grpo(), s.Grpo(ddof=0), s.DrGrpo(), s.Rloo(), s.Opo(), s.PassAtK(k=2), s.MaxRl()
)  # fmt: skip
QUIET: dict[str, dict[str, Any]] = {
    "ppo_clip": {},
    "gppo": {"surrogate": s.Gppo()},
    "cispo": {"surrogate": s.Cispo()},
    "gspo": {"ratio": "sequence"},
    "hicra": {"transforms": (s.Hicra(),)},
    "entropy_shaped": {"transforms": (s.EntropyShaped(),)},
    "repo_r": {"transforms": (s.RepoR(zeta=0.05),)},
    "delightful": {"transforms": (s.Delightful(),), "surrogate": PG},
    "clip_cov": {"dropping": s.ClipCov(share=0.1, low=0.0)},
    "high_entropy": {"masks": (s.HighEntropy(share=0.6),)},
    "truncated": {"correction": s.Truncated()},
}
LOUD: dict[str, dict[str, Any]] = {
    "repo_d": {"transforms": (s.RepoD(zeta=0.3),)},
    "entropy_uncapped": {"transforms": (s.EntropyUncapped(),)},
    "kl": {"terms": (s.Kl(),)},
    "entropy_bonus": {"terms": (s.EntropyBonus(),)},
    "kl_cov": {"surrogate": s.KlCov(share=1.0)},
    "reinforce": {"estimator": s.Reinforce()},
    "signed": {"estimator": s.Signed()},
    "plain_maxrl": {"estimator": s.MaxRl(centred=False)},
}


def size_of_silent(objective: s.ObjectiveSpec) -> tuple[float, float]:
    """The gradient of the group with spread, and of the one without."""
    batch = random_batch(rewards=SILENT, estimator=objective.estimator)
    scan = current(batch)
    plan = plan_of(objective, batch, scan)
    _, by_lp, by_H, _ = gradient(objective, batch, plan, scan)
    size = by_lp.abs() + by_H.abs()
    return float(size[:4].sum()), float(size[4:].sum())


@pytest.mark.parametrize("estimator", RELATIVE, ids=repr)
@pytest.mark.parametrize("name", QUIET)
def test_a_group_without_spread_teaches_nothing(name: str, estimator: s.EstimatorSpec) -> None:
    spread, silent = size_of_silent(of(**{"estimator": estimator, **QUIET[name]}))
    assert spread > 0
    assert silent == 0


@pytest.mark.parametrize("name", LOUD)
def test_these_move_groups_without_spread_as_well(name: str) -> None:
    spread, silent = size_of_silent(of(**LOUD[name]))
    assert spread > 0
    assert silent > 0


# detachment -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@every_objective
def test_a_plan_carries_no_gradient(name: str) -> None:
    objective, batch = OBJECTIVES[name], random_batch(on_policy=True)
    scan = current(batch)
    live = Scan(scan.lp.clone().requires_grad_(), scan.H.clone().requires_grad_())
    plan = plan_of(objective, batch, live)
    tensors = [v for f in fields(plan) if isinstance(v := getattr(plan, f.name), Tensor)]
    assert not any(tensor.requires_grad for tensor in tensors)


@every_objective
def test_gradients_run_through_the_entropy_only_where_a_term_asks(name: str) -> None:
    objective, batch = OBJECTIVES[name], random_batch()
    scan = current(batch)
    plan = plan_of(objective, batch, scan)
    by_H = gradient(objective, batch, plan, scan)[2]
    wanted = objective.requires("entropy_gradient")
    assert bool((by_H != 0).any()) == wanted == bool(plan.bonus)
    if wanted:
        assert torch.allclose(by_H, (-plan.bonus * batch.mask / batch.mask.sum()).double())


# scans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_policy", [True, False], ids=["on_policy", "off_policy"])
@every_objective
def test_plans_that_need_no_scan_do_not_change_with_one(name: str, on_policy: bool) -> None:
    objective, batch = OBJECTIVES[name], random_batch(on_policy=on_policy)
    if needs_scan(objective):
        return
    one, other = plan_of(objective, batch, None), plan_of(objective, batch, current(batch))
    assert same_plan(one, other)


@pytest.mark.parametrize(
    "objective",
    [
        of(masks=(s.HighEntropy(),)),
        of(masks=(s.LowEntropy(),)),
        of(dropping=s.ClipCov(share=0.2, low=0.0)),
        of(surrogate=s.KlCov(share=0.2)),
        of(transforms=(s.EntropyShaped(),)),
        of(transforms=(s.RepoD(),)),
        of(surrogate=s.Adapo()),
        of(terms=(s.AdaptiveEntropy(),)),
    ],
    ids=lambda o: "+".join(p.kind for p in o.parts),
)
def test_these_need_a_scan(objective: s.ObjectiveSpec) -> None:
    assert needs_scan(objective)


@pytest.mark.parametrize(
    "objective", [of(), of(surrogate=s.Gppo(), terms=(s.Kl(), s.EntropyBonus())), of(surrogate=PG)]
)
def test_these_need_none(objective: s.ObjectiveSpec) -> None:
    assert not needs_scan(objective)


def test_a_correction_corrects_the_sampler_on_policy_too() -> None:
    """Without `logp_old` it is the current weights' lp that the sampler's is held against."""
    batch = random_batch(on_policy=True)
    scan = current(batch)
    objective = of(surrogate=PG, correction=s.Truncated(cap=9.0))
    found = plan_of(objective, batch, scan if needs_scan(objective) else None)
    plain = plan_of(of(surrogate=PG), batch, scan)
    ratio = (scan.lp - batch.logp_rollout).exp()
    assert torch.allclose(found.weights.double(), plain.weights.double() * ratio, rtol=1e-5)


# parts ----------------------------------------------------------------------------------------


def test_replies_without_advantage_stay_in_the_divisor() -> None:
    """NSR keeps right replies, at 0, where its published code leaves them out."""
    batch = random_batch(estimator=s.Signed(positive=0.0))
    scan = current(batch)
    objective = of(surrogate=PG)
    by_lp = gradient(objective, batch, plan_of(objective, batch, scan), scan)[1]
    wrong = (batch.mask & ~batch.correct[:, None]).double()
    assert torch.allclose(by_lp, wrong / batch.mask.sum())
    assert wrong.sum() < batch.mask.sum()


def test_transforms_are_applied_in_their_order() -> None:
    batch = random_batch()
    scan = current(batch)
    both = (s.Hicra(alpha=0.5), s.EntropyUncapped(alpha=1.0))
    forward, backward = (
        plan_of(of(transforms=order), batch, scan).A for order in (both, both[::-1])
    )
    A, extra = batch.advantages[:, None] * batch.mask, (scan.H - 0.5).clamp(min=0)
    planning = batch.planning
    assert planning is not None
    expected = (A + 0.5 * A.abs() * planning + extra) * batch.mask
    assert torch.allclose(forward.double(), expected, atol=1e-6)
    assert not torch.allclose(forward, backward)


def test_hicra_without_planning_tokens_is_the_identity() -> None:
    batch = replace(random_batch(), planning=None)
    plan = plan_of(of(transforms=(s.Hicra(),)), batch, current(batch))
    assert torch.allclose(plan.A.double(), batch.advantages[:, None] * batch.mask)


def test_masks_are_anded_and_each_says_what_it_divides_by() -> None:
    batch = random_batch()
    scan = current(batch)
    planning = batch.planning
    assert planning is not None
    high = plan_of(of(masks=(s.HighEntropy(share=0.5),)), batch, scan).weights != 0
    both = plan_of(of(masks=(s.HighEntropy(share=0.5), s.PlanningTokens(norm="all"))), batch, scan)
    kept = high & planning
    expected = kept / high.sum()
    assert torch.allclose(both.weights, expected)
    assert both.numbers["kept_share"] == pytest.approx(float(kept.sum() / batch.mask.sum()))


def test_covariances_are_of_the_untransformed_advantages() -> None:
    batch = random_batch()
    scan = current(batch)
    plain = plan_of(of(surrogate=s.KlCov(share=0.3)), batch, scan)
    shaped = plan_of(
        of(surrogate=s.KlCov(share=0.3), transforms=(s.EntropyUncapped(alpha=9.0),)), batch, scan
    )
    assert torch.equal(plain.penalised, shaped.penalised)
    assert not torch.equal(plain.A, shaped.A)


def test_terms_reach_tokens_that_masks_leave_out() -> None:
    batch = random_batch()
    scan = current(batch)
    for term in TERMS:
        objective = of(surrogate=HIGHER, masks=(s.HighEntropy(share=0.2),), terms=(term,))
        _, by_lp, by_H, _ = gradient(objective, batch, plan_of(objective, batch, scan), scan)
        assert ((by_lp + by_H)[batch.mask] != 0).all()


def test_the_kl_is_aggregated_as_the_policys_loss_and_the_bonus_over_tokens() -> None:
    batch = random_batch()
    scan = current(batch)
    terms = (s.Kl(estimator="k1", coefficient=0.5), s.EntropyBonus(coefficient=0.25))
    objective = of(surrogate=PG, terms=terms, aggregation=s.SequenceMean())
    silent = replace(batch, advantages=torch.zeros_like(batch.advantages))
    _, by_lp, by_H, _ = gradient(objective, silent, plan_of(objective, silent, scan), scan)
    lengths = batch.lengths.clamp(min=1)[:, None]
    assert torch.allclose(by_lp, (0.5 * batch.mask / (8 * lengths)).double())
    assert torch.allclose(by_H, (-0.25 * batch.mask / batch.mask.sum()).double())


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "k3_is"])
def test_the_kl_is_of_tokens_even_where_the_ratio_is_of_sequences(estimator: str) -> None:
    batch = random_batch()
    scan = current(batch)
    term = s.Kl(estimator=estimator)
    silent = replace(batch, advantages=torch.zeros_like(batch.advantages))
    found = []
    for ratio in ("token", "sequence"):
        objective = of(ratio=ratio, terms=(term,))
        found.append(gradient(objective, silent, plan_of(objective, silent, scan), scan))
    assert found[0][0] == found[1][0] != 0
    assert torch.equal(found[0][1], found[1][1])


def test_the_upper_clip_of_adapo_is_its_controllers() -> None:
    batch = random_batch()
    assert batch.logp_old is not None
    scan = Scan((batch.logp_old + 0.4), batch.entropy_rollout)  # a ratio of 1.49 everywhere
    objective = of(surrogate=s.Adapo(high=0.4, step=0.2))
    controllers = Controllers(objective)
    controllers.update(1.0)
    right = batch.mask & (batch.advantages > 0)[:, None]
    for entropy, upper, stopped in ((None, 0.4, True), (0.5, 0.6, False), (2.0, 0.4, True)):
        if entropy is not None:
            controllers.update(entropy)
        plan = plan_of(objective, batch, scan, controllers)
        by_lp = gradient(objective, batch, plan, scan)[1]
        assert plan.upper_clip == pytest.approx(upper)
        assert bool((by_lp[right] == 0).all()) == stopped


def loss_by_hand(part: s.SurrogateSpec, batch: TokenBatch, plan: Plan, lp: Tensor) -> Tensor:
    """What `objective_loss` should find, each parameter by its name."""
    assert batch.logp_old is not None
    old, A = batch.logp_old, plan.A
    ratio = surrogates.token_ratio(lp, old)
    match part:
        case s.PolicyGradient():
            return surrogates.policy_gradient(lp, A)
        case s.PpoClip():
            return surrogates.ppo_clip(ratio, A, low=part.low, high=part.high, dual=part.dual)
        case s.Adapo():
            return surrogates.ppo_clip(ratio, A, low=part.low, high=part.high)
        case s.Gppo():
            names = ("low", "high", "beta_low", "beta_high", "dual")
            return surrogates.gppo(ratio, A, **{name: getattr(part, name) for name in names})
        case s.Cispo():
            return surrogates.cispo(ratio, lp, A, cap=part.cap)
        case s.KlCov():
            return surrogates.kl_cov(
                ratio, lp, old, A, plan.penalised, coefficient=part.coefficient
            )
        case s.Nft():
            return surrogates.nft(
                ratio, batch.correct, plan.share_right, weight=part.weight, negative=part.negative
            )
    raise AssertionError(part)


@pytest.mark.parametrize(
    "part",
    [
        PG,
        s.PpoClip(low=0.05, high=0.1, dual=1.15),
        s.Adapo(low=0.05, high=0.2),
        s.Gppo(low=0.05, high=0.1, beta_low=0.5, beta_high=0.25, dual=1.15),
        s.Cispo(cap=1.05),
        s.KlCov(share=0.3, coefficient=0.5),
        s.Nft(weight=2, negative=0.5),
        s.Nft(weight=0),
    ],
    ids=lambda part: part.kind,
)
def test_the_loss_is_the_weighted_sum_of_the_surrogate(part: s.SurrogateSpec) -> None:
    batch = random_batch()
    scan = current(batch)
    objective = of(surrogate=part)
    plan = plan_of(objective, batch, scan, Controllers(objective))
    loss, by_lp, _, _ = gradient(objective, batch, plan, scan)
    lp = scan.lp.clone().requires_grad_()
    expected = (loss_by_hand(part, batch, plan, lp) * plan.weights).sum()
    assert loss == pytest.approx(expected.item(), rel=1e-9)
    assert torch.allclose(by_lp, torch.autograd.grad(expected, lp)[0], rtol=1e-9, atol=0)


def test_the_share_right_is_of_the_group() -> None:
    rewards = f64(*[1.0, 0.0, 0.0, 0.0], *[1.0, 1.0, 0.0, 0.0])
    batch = random_batch(rewards=rewards)
    index = torch.tensor([7, 0, 5, 2, 4, 1, 6, 3])
    found = plan_of(of(), batch.rows(index), None).share_right
    assert found.tolist() == pytest.approx([0.5, 0.25, 0.5, 0.25, 0.5, 0.25, 0.5, 0.25])


def test_constant_aggregation_takes_the_budget_unless_told_otherwise() -> None:
    batch = random_batch()
    for tokens, divisor in ((None, 8), (5, 5)):
        plan = plan_of(of(aggregation=s.Constant(tokens=tokens)), batch, None)
        assert torch.allclose(plan.weights, batch.mask / (8 * divisor))


def test_rows_of_a_plan_are_its_rows() -> None:
    batch = random_batch()
    plan = plan_of(OBJECTIVES["all_at_once"], batch, current(batch))
    index = torch.tensor([3, 0])
    part = plan.rows(index, 4)
    assert torch.equal(part.A, plan.A[index, :4])
    assert torch.equal(part.weights, plan.weights[index, :4])
    assert torch.equal(part.share_right, plan.share_right[index])
    assert part.numbers == plan.numbers
    assert part.bonus == plan.bonus


@pytest.mark.parametrize(
    "stages",
    [
        {"surrogate": s.PpoClip(low=0.1, high=0.1)},
        {"surrogate": s.Adapo(low=0.1, high=0.1)},
        {"surrogate": s.PpoClip(low=3e-4, high=4e-4), "ratio": "sequence"},
        {"surrogate": s.PpoClip(low=0.1, high=0.1), "transforms": (s.EntropyUncapped(alpha=9.0),)},
    ],
    ids=["ppo_clip", "adapo", "gspo", "signs_turned"],
)
def test_clip_cov_draws_no_token_that_the_clip_stops(stages: dict[str, Any]) -> None:
    """What has no gradient anyway would use up the count of tokens to drop."""
    batch = random_batch()
    scan = current(batch)
    plain = of(**stages)
    controllers = Controllers(plain)
    plan = plan_of(plain, batch, scan, controllers)
    stopped = (plan.A != 0) & batch.mask & (gradient(plain, batch, plan, scan)[1] == 0)
    dropping = of(**stages, dropping=s.ClipCov(share=1.0, low=0.0, high=9.0))
    dropped = batch.mask & (plan_of(dropping, batch, scan, controllers).weights == 0)
    assert stopped.any()
    assert dropped.any()
    assert not (dropped & stopped).any()


def test_the_tally_counts_what_the_clip_stops() -> None:
    batch = random_batch(rewards=SILENT, estimator=s.DrGrpo())
    assert batch.logp_old is not None
    swing = 0.5 * torch.sin(torch.arange(48.0)).view(8, 6)
    scan = Scan(batch.logp_old + swing, batch.entropy_rollout)
    objective = of(surrogate=HIGHER)
    _, by_lp, _, sums = gradient(objective, batch, plan_of(objective, batch, scan), scan)
    moved = (batch.advantages != 0)[:, None] & batch.mask
    assert sums["clip_low"] + sums["clip_high"] == int((moved & (by_lp == 0)).sum())
    assert min(sums["clip_low"], sums["clip_high"]) > 0
    assert sums["tokens"] == int(batch.mask.sum())
    assert sums["entropy"] == pytest.approx(float(scan.H[batch.mask].sum()))
    x = swing[batch.mask].double()
    assert sums["kl_old"] == pytest.approx(float((x.exp() - x - 1).sum()))


def test_a_batch_knows_no_old_or_reference_log_probability_unless_given() -> None:
    batch: TokenBatch = replace(random_batch(on_policy=True), logp_ref=None)
    scan = current(batch)
    sums = gradient(of(surrogate=PG), batch, plan_of(of(surrogate=PG), batch, None), scan)[3]
    assert "kl_reference" not in sums
    assert sums["kl_old"] == 0
