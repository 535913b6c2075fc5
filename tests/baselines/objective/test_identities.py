"""What a step does to a softmax policy and to its entropy, to first order and on a toy problem.

dH/dz_a = -p_a (log p_a + H), hence Delta H = -Cov_p(log p, Delta z) + O(|Delta z|^2)
(arXiv 2505.22617). A step is minus the gradient of the loss under test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from baselines.objective import selection, shaping, surrogates
from baselines.objective import spec as s
from baselines.objective.advantages import GroupRewards, signed
from baselines.objective.controllers import Controllers
from baselines.objective.loss import objective_loss
from baselines.objective.plan import Scan, make_plan
from tests.baselines.objective.cases import f64, golden_batch, of, with_advantages

Z = f64(1.2, 0.3, -0.5, 0.0, -1.1)
LOGP = Z.log_softmax(-1)
P = LOGP.exp()
RAW = f64(1.0, -0.2, 0.5, -0.8, 0.3)
ADVANTAGE = RAW - (P * RAW).sum()


def entropy(z: Tensor) -> Tensor:
    logp = z.log_softmax(-1)
    return -(logp.exp() * logp).sum(-1)


def step_of(loss: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The descent direction of `loss`, a function of the symbols' log-probabilities."""
    z = z.clone().requires_grad_()
    return -torch.autograd.grad(loss(z.log_softmax(-1)), z)[0]


def slope(z: Tensor, step: Tensor) -> float:
    z = z.clone().requires_grad_()
    return float(torch.autograd.grad(entropy(z), z)[0] @ step)


def secant(z: Tensor, step: Tensor, rate: float) -> float:
    return float(entropy(z + rate * step) - entropy(z)) / rate


def vanilla(lp: Tensor) -> Tensor:
    """The expected loss of plain policy gradient."""
    return (P * surrogates.policy_gradient(lp, ADVANTAGE)).sum()


def natural(zeta: float = 0.0) -> Tensor:
    return shaping.repo_d(ADVANTAGE, LOGP, entropy(Z).expand(5), zeta)


# the covariance identity ----------------------------------------------------------------------


def test_policy_gradient_moves_logits_by_probability_times_advantage() -> None:
    assert float(entropy(Z)) == pytest.approx(1.325702, abs=5e-7)
    assert torch.allclose(step_of(vanilla, Z), P * ADVANTAGE)


@pytest.mark.parametrize(
    ("step", "golden", "finite"),
    [
        (step_of(vanilla, Z), -0.117861446, -0.1178637),
        (natural(), -0.325059462, -0.3250817),
    ],
    ids=["vanilla", "natural"],
)
def test_the_entropy_falls_by_the_covariance(step: Tensor, golden: float, finite: float) -> None:
    mean = (P * step).sum()
    covariance = float((P * LOGP * (step - mean)).sum())
    assert -covariance == pytest.approx(golden, abs=5e-10)
    assert slope(Z, step) == pytest.approx(-covariance, rel=1e-12)
    assert secant(Z, step, 1e-4) == pytest.approx(finite, abs=5e-8)


@pytest.mark.parametrize(
    "step", [step_of(vanilla, Z), natural(), natural(0.3)], ids=["vanilla", "natural", "repo_d"]
)
def test_the_identity_is_of_first_order(step: Tensor) -> None:
    errors = [abs(secant(Z, step, 1e-4 / 2**i) - slope(Z, step)) for i in range(4)]
    assert errors[0] < 1e-3 * abs(slope(Z, step))
    halved = [late / early for early, late in pairwise(errors)]
    assert halved == pytest.approx([0.5] * 3, rel=0.02)


def test_repo_d_adds_its_coefficient_times_the_variance() -> None:
    centre = LOGP + entropy(Z)
    variance = float((P * centre**2).sum())
    expected = slope(Z, natural()) + 0.3 * variance
    assert slope(Z, natural(0.3)) == pytest.approx(expected, rel=1e-12)


def test_the_steps_of_single_samples_average_to_policy_gradients() -> None:
    slopes = [
        slope(Z, step_of(lambda lp, a=a: surrogates.policy_gradient(lp[a], ADVANTAGE[a]), Z))
        for a in range(5)
    ]
    golden = [-0.117504, -0.106727, 0.021812, -0.251019, -0.021051]
    assert slopes == pytest.approx(golden, abs=5e-7)
    assert float(P @ f64(*slopes)) == pytest.approx(-0.117861446, abs=5e-10)


def test_the_token_covariance_is_the_natural_gradients_integrand() -> None:
    """Twenty tokens, each symbol as often as its probability says."""
    counts = torch.tensor([8, 5, 4, 2, 1])
    logp = (counts / 20.0).double().log()
    A = RAW - (counts * RAW).sum() / 20
    tokens = torch.arange(5).repeat_interleave(counts)[None]
    cov = selection.covariance(logp[tokens], A[tokens], torch.ones_like(tokens, dtype=torch.bool))
    assert -float(cov.mean()) == pytest.approx(slope(logp, A), rel=1e-7)
    assert -float(cov.mean()) == pytest.approx(secant(logp, A, 1e-6), rel=1e-4)


def test_policy_gradient_favours_the_more_likely_of_two_right_answers() -> None:
    p, A = f64(0.5, 0.2, 0.3), f64(0.3, 0.3, -0.7)
    z = p.log()
    step = step_of(lambda lp: (p * surrogates.policy_gradient(lp, A)).sum(), z)
    assert step.tolist() == pytest.approx([0.15, 0.06, -0.21])
    before, after = (float(x[0] - x[1]) for x in (z, z + step))
    assert (before, after) == pytest.approx((0.916291, 1.006291), abs=5e-7)
    assert float((z + A)[0] - (z + A)[1]) == pytest.approx(before)


# negative samples -----------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_a_negative_sample_hands_its_mass_to_the_others_as_they_are(drawn: int) -> None:
    """dz_y = -(1 - p_y) and dz_v = p_v (arXiv 2506.01347)."""
    z = f64(2.0, 1.0, 0.0)
    (A,) = signed(GroupRewards((0.0,), (1,)), positive=0.0, negative=1.0)
    step = step_of(lambda lp: surrogates.policy_gradient(lp[drawn], f64(A)[0]), z)
    expected = z.softmax(-1) - torch.eye(3, dtype=torch.float64)[drawn]
    assert torch.allclose(step, expected)


def test_negative_samples_raise_the_entropy_where_the_wrong_answer_was_likely() -> None:
    z = f64(2.0, 1.0, 0.0)
    slopes = [
        slope(z, step_of(lambda lp, y=y: surrogates.policy_gradient(lp[y], f64(-1.0)[0]), z))
        for y in range(2)
    ]
    assert slopes == pytest.approx([0.14182, -0.28154], abs=5e-6)


# a toy problem --------------------------------------------------------------------------------

CONTEXTS, ARMS, RIGHT, GROUP = 32, 30, 4, 16


def modes_when_mostly_right(objective: s.ObjectiveSpec, seed: int) -> float:
    """Effective number of right arms in use when the policy is first right four times in five.

    A table of logits, one-token replies, four updates per rollout batch; arms 0 to 3 are right.
    """
    draw = torch.Generator().manual_seed(seed)
    table = torch.randn(CONTEXTS, ARMS, generator=draw, dtype=torch.float64).requires_grad_()
    context = torch.arange(CONTEXTS).repeat_interleave(GROUP)
    inside = torch.ones(len(context), 1, dtype=torch.bool)
    controllers = Controllers(objective)
    for _ in range(200):
        logp = table.detach().log_softmax(-1)
        right = logp[:, :RIGHT].exp()
        if float(right.sum(-1).mean()) >= 0.8:
            share = right / right.sum(-1, keepdim=True)
            return float((-(share * share.log()).sum(-1)).exp().mean())
        arms = torch.multinomial(logp.exp(), GROUP, replacement=True, generator=draw).flatten()
        old = logp[context, arms][:, None]
        batch = replace(
            golden_batch(),
            mask=inside,
            group=context,
            rewards=(arms < RIGHT).double(),
            correct=arms < RIGHT,
            logp_old=old,
            logp_rollout=old,
            entropy_rollout=entropy(table.detach())[context][:, None],
        )
        batch = with_advantages(batch, objective.estimator)
        for _ in range(4):
            logp = table.log_softmax(-1)
            lp = logp[context, arms][:, None]
            H = entropy(table)[context][:, None]
            scan = Scan(lp.detach(), H.detach())
            plan = make_plan(objective, batch, scan, controllers, draw, 1)
            loss, _ = objective_loss(objective, batch, plan, lp, H)
            (gradient,) = torch.autograd.grad(loss, table)
            with torch.no_grad():
                table -= 20.0 * gradient
    return math.nan


def test_repo_d_keeps_more_right_answers_alive_than_grpo() -> None:
    for seed in range(3):
        grpo, repo = (
            modes_when_mostly_right(of(transforms=transforms), seed)
            for transforms in ((), (s.RepoD(zeta=0.3),))
        )
        assert repo > grpo + 0.1
