from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from baselines.objective import surrogates
from tests.baselines.objective.cases import LP, LP_OLD, MASK, f64

RHO = f64(0.5, 0.9, 1.0, 1.2, 1.5, 0.5, 0.9, 1.2, 1.5, 20.0)
SIGNS = f64(*[1.0] * 5, *[-1.0] * 5)
LOSS = [-0.5, -0.9, -1.0, -1.2, -1.28, 0.8, 0.9, 1.2, 1.5, 20.0]

Surrogate = Callable[[Tensor, Tensor, Tensor], Tensor]  # of the ratio, lp and A
log_ratios = st.floats(-4, 4)
advantages = st.floats(-3, 3)


def both(surrogate: Surrogate, ratio: Tensor = RHO, A: Tensor = SIGNS) -> tuple[Tensor, Tensor]:
    """The loss of each token, and its gradient by lp."""
    lp = (ratio.log() - 1.0).requires_grad_()
    rho = surrogates.token_ratio(lp, torch.full_like(lp, -1.0))
    loss = surrogate(rho, lp, A)
    return loss.detach(), torch.autograd.grad(loss.sum(), lp)[0]


def higher(rho: Tensor, lp: Tensor, A: Tensor) -> Tensor:
    return surrogates.ppo_clip(rho, A, 0.2, 0.28)


def gppo_of(low: float, high: float, dual: float | None = None) -> Surrogate:
    return lambda rho, lp, A: surrogates.gppo(rho, A, 0.2, 0.28, low, high, dual)


# worked examples ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("surrogate", "gradients"),
    [
        (higher, [-0.5, -0.9, -1.0, -1.2, 0.0, 0.0, 0.9, 1.2, 1.5, 20.0]),
        (gppo_of(1, 1), [-0.5, -0.9, -1.0, -1.2, -1.28, 0.8, 0.9, 1.2, 1.5, 20.0]),
        (gppo_of(0, 0), [-0.5, -0.9, -1.0, -1.2, 0.0, 0.0, 0.9, 1.2, 1.5, 20.0]),
        (gppo_of(0.5, 0.25), [-0.5, -0.9, -1.0, -1.2, -0.32, 0.4, 0.9, 1.2, 1.5, 20.0]),
    ],
)
def test_clip_higher_and_its_relatives(surrogate: Surrogate, gradients: list[float]) -> None:
    loss, gradient = both(surrogate)
    assert loss.tolist() == pytest.approx(LOSS)
    assert gradient.tolist() == pytest.approx(gradients)


@pytest.mark.parametrize(
    ("surrogate", "single"),
    [
        (lambda rho, lp, A: surrogates.ppo_clip(rho, A, 0.2, 0.28, dual=3.0), higher),
        (gppo_of(1, 1, dual=3.0), gppo_of(1, 1)),
    ],
)
def test_dual_clip_bounds_the_loss_of_the_last_token(
    surrogate: Surrogate, single: Surrogate
) -> None:
    loss, gradient = both(surrogate)
    assert loss.tolist() == pytest.approx([*LOSS[:-1], 3.0])
    assert gradient.tolist() == [*both(single)[1][:-1].tolist(), 0.0]


def test_cispo_never_loses_a_gradient() -> None:
    _, gradient = both(lambda rho, lp, A: surrogates.cispo(rho, lp, A, 1.28))
    expected = [-0.5, -0.9, -1.0, -1.2, -1.28, 0.5, 0.9, 1.2, 1.28, 1.28]
    assert gradient.tolist() == pytest.approx(expected)


def test_policy_gradient_is_minus_the_advantage() -> None:
    loss, gradient = both(lambda rho, lp, A: surrogates.policy_gradient(lp, A))
    assert torch.equal(gradient, -SIGNS)
    assert torch.allclose(loss, -SIGNS * (RHO.log() - 1))


def test_kl_cov_pays_for_the_selected_tokens_only() -> None:
    selected = torch.tensor([True, False] * 5)
    penalised = both(lambda r, lp, A: surrogates.kl_cov(r, lp, lp * 0 - 1, A, selected, 0.5))
    plain = both(lambda rho, lp, A: -A * rho)
    assert torch.allclose(penalised[0] - plain[0], 0.5 * RHO.log().abs() * selected)
    assert torch.allclose(penalised[1] - plain[1], 0.5 * RHO.log().sign() * selected)


def test_kl_cov_is_inert_where_nothing_moved() -> None:
    one, everywhere = torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.bool)
    found = both(
        lambda r, lp, A: surrogates.kl_cov(r, lp, lp.detach(), A, everywhere), one, f64(1.0, -2.0)
    )
    assert found[1].tolist() == [-1.0, 2.0]


# clips ----------------------------------------------------------------------------------------


@given(log_ratios, advantages, st.floats(0, 1), st.floats(0, 1))
def test_a_clip_stops_exactly_the_clipped_tokens(
    log_ratio: float, A: float, low: float, high: float
) -> None:
    rho, a = f64(log_ratio).exp(), f64(A)
    _, gradient = both(lambda r, lp, A: surrogates.ppo_clip(r, A, low, high), rho, a)
    again = surrogates.token_ratio(rho.log() - 1.0, f64(-1.0))
    below, above = surrogates.clipped(again, a, low, high)
    expected = torch.where(below | above, 0.0, -a * rho)
    assert torch.allclose(gradient, expected, atol=1e-12)


@given(log_ratios, advantages, st.floats(0, 2), st.floats(0, 2))
def test_gppo_has_clip_highers_value_for_any_beta(
    log_ratio: float, A: float, beta_low: float, beta_high: float
) -> None:
    rho, a = f64(log_ratio).exp(), f64(A)
    assert torch.equal(both(gppo_of(beta_low, beta_high), rho, a)[0], both(higher, rho, a)[0])


@given(log_ratios, advantages)
def test_gppo_without_betas_is_clip_higher(log_ratio: float, A: float) -> None:
    rho, a = f64(log_ratio).exp(), f64(A)
    assert torch.equal(both(gppo_of(0, 0), rho, a)[1], both(higher, rho, a)[1])


@given(log_ratios, advantages)
def test_a_dual_clip_out_of_reach_changes_nothing(log_ratio: float, A: float) -> None:
    rho, a = f64(log_ratio).exp(), f64(A)
    for part in (surrogates.ppo_clip, surrogates.gppo):
        far = both(lambda r, lp, A, part=part: part(r, A, dual=1e6), rho, a)
        none = both(lambda r, lp, A, part=part: part(r, A), rho, a)
        assert torch.equal(far[0], none[0])
        assert torch.equal(far[1], none[1])


@given(log_ratios, advantages)
def test_gradients_are_bounded_as_published(log_ratio: float, A: float) -> None:
    rho, a = f64(log_ratio).exp(), f64(A)
    slack = 1 + 1e-12

    def size(surrogate: Surrogate) -> float:
        return float(both(surrogate, rho, a)[1].abs())

    most = 1.28 * abs(A) * slack
    assert size(lambda r, lp, A: surrogates.cispo(r, lp, A, 1.28)) <= most
    if A > 0:
        assert size(higher) <= most
        assert size(gppo_of(1, 1)) <= most
    else:
        assert size(lambda r, lp, A: surrogates.ppo_clip(r, A, dual=3.0)) <= 3 * abs(A) * slack


def test_without_a_dual_clip_negative_advantages_have_no_bound() -> None:
    _, gradient = both(higher, f64(1000.0), f64(-1.0))
    assert gradient.tolist() == pytest.approx([1000.0])


@given(log_ratios, advantages)
def test_cispo_has_a_gradient_wherever_there_is_an_advantage(log_ratio: float, A: float) -> None:
    rho, a = f64(log_ratio).exp(), f64(A)
    _, gradient = both(lambda r, lp, A: surrogates.cispo(r, lp, A, 1.28), rho, a)
    assert torch.allclose(gradient, -a * rho.clamp(max=1.28))


# ratios ---------------------------------------------------------------------------------------


def test_a_ratio_never_overflows() -> None:
    lp = f64(-1e4, 1e4, 0.0).requires_grad_()
    rho = surrogates.token_ratio(lp, torch.zeros(3, dtype=torch.float64))
    gradient = torch.autograd.grad(rho.sum(), lp)[0]
    assert torch.isfinite(rho).all()
    assert rho[2] == 1
    assert gradient.tolist() == [0.0, 0.0, 1.0]


def test_the_sequence_ratio_is_the_geometric_mean() -> None:
    found = surrogates.sequence_ratio(LP, LP_OLD, MASK)
    assert found.shape == (2, 4)
    assert found[0].tolist() == pytest.approx([1.051271] * 4, abs=5e-7)
    assert found[1, :3].tolist() == pytest.approx([0.886920] * 3, abs=5e-7)


def test_token_gradients_of_the_sequence_ratio_add_up_to_gspos() -> None:
    """(1/B) sum_i -A_i s_i with s_i a plain function of all the reply's tokens."""
    A = f64([1.5], [-0.5])
    lengths = MASK.sum(-1)
    lp = LP.clone().requires_grad_()
    direct = -(A[:, 0] * (((lp - LP_OLD) * MASK).sum(-1) / lengths).exp()).mean()
    expected = torch.autograd.grad(direct, lp)[0]
    losses = -A * surrogates.sequence_ratio(lp, LP_OLD, MASK)
    loss = (losses * MASK / (2 * lengths[:, None])).sum()
    found = torch.autograd.grad(loss, lp)[0]
    assert torch.allclose(loss, direct)
    assert torch.allclose(found, expected)
    assert found[0].tolist() == pytest.approx([-1.5 * 1.0512710964 / 8] * 4)


def test_a_sequence_is_clipped_whole() -> None:
    lp = LP.clone().requires_grad_()
    ratio = surrogates.sequence_ratio(lp, LP_OLD, MASK)
    losses = surrogates.ppo_clip(ratio, f64([1.5], [-0.5]), 3e-4, 4e-4)
    assert torch.autograd.grad(losses[MASK].sum(), lp)[0].abs().sum() == 0
    assert losses[MASK].detach().tolist() == pytest.approx([-1.5 * 1.0004] * 4 + [0.5 * 0.9997] * 3)


def test_a_reply_without_tokens_has_a_sequence_ratio_of_one() -> None:
    ratio = surrogates.sequence_ratio(LP, LP_OLD, torch.zeros_like(MASK))
    assert torch.equal(ratio, torch.ones_like(LP))


# NFT ------------------------------------------------------------------------------------------


def nft(ratio: Tensor, right: bool, share: float, **more: float) -> tuple[Tensor, Tensor]:
    lp = ratio.log()[None].requires_grad_()
    rho = surrogates.token_ratio(lp, torch.zeros_like(lp))
    loss = surrogates.nft(rho, torch.tensor([right]), f64(share), **more)
    return loss[0].detach(), torch.autograd.grad(loss.sum(), lp)[0][0]


def test_nft_of_wrong_replies_off_policy() -> None:
    loss, gradient = nft(f64(0.5, 1.0, 1.5, 3.0), False, 0.5, weight=0)
    assert loss.tolist() == pytest.approx([-0.405465, 0.0, 0.0, 0.0], abs=5e-7)
    assert gradient.tolist() == pytest.approx([1 / 3, 1.0, 1.5, 3.0])


def test_nft_of_right_replies_is_their_likelihood() -> None:
    ratio = f64(0.5, 1.0, 3.0)
    loss, gradient = nft(ratio, True, 0.25, weight=0)
    assert torch.allclose(loss, -ratio.log())
    assert gradient.tolist() == pytest.approx([-1.0] * 3)


@given(log_ratios, st.floats(0.02, 0.98), st.sampled_from([0, 1, 2]))
def test_nft_of_wrong_replies_never_costs_and_always_pushes_down(
    log_ratio: float, share: float, weight: int
) -> None:
    loss, gradient = nft(f64(log_ratio).exp(), False, share, weight=weight)
    assert float(loss) <= 1e-12
    assert float(gradient) > 0


@pytest.mark.parametrize("right", [1, 2, 4, 7])
def test_nfts_coefficients_on_policy(right: int) -> None:
    """Of a group of eight: weight 1 has Dr.GRPO's, weight 2 GRPO's of the population's std."""
    share, one = right / 8, f64(1.0)
    spread = (share * (1 - share)) ** 0.5
    for weight, scale in ((1, 1.0), (2, spread)):
        up = -nft(one, True, share, weight=weight)[1]
        down = -nft(one, False, share, weight=weight)[1]
        assert up.tolist() == pytest.approx([(1 - share) / scale])
        assert down.tolist() == pytest.approx([-share / scale])


def test_nft_of_weight_two_at_a_quarter() -> None:
    up, down = (-nft(f64(1.0), right, 0.25, weight=2)[1] for right in (True, False))
    assert [float(up), float(down)] == pytest.approx([1.732051, -0.577350], abs=5e-7)


def test_nft_without_negatives_is_rejection_fine_tuning() -> None:
    _, gradient = nft(f64(0.5, 1.0, 3.0), False, 0.5, negative=0.0)
    assert gradient.abs().sum() == 0


def test_nft_stays_finite_at_the_ends() -> None:
    for share in (0.0, 1.0):
        for right in (True, False):
            for part in nft(f64(-30.0, 0.0, 30.0).exp(), right, share, weight=2):
                assert torch.isfinite(part).all()
