from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from baselines.objective import shaping
from tests.baselines.objective.cases import f64

numbers = st.floats(-5, 5).map(lambda x: round(x, 3))
entropies = st.floats(0, 8)
logps = st.floats(-30, 0)


def value(result: Tensor) -> float:
    return float(result[0])


# entropy-shaped -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("A", "H", "expected"),
    [(1, 2, 1.5), (-1, 2, -0.5), (-1, 0.1, -0.96), (0, 2, 0), (0.1, 2, 0.15), (3, 0, 3)],
)
def test_entropy_shaped(A: float, H: float, expected: float) -> None:
    assert value(shaping.entropy_shaped(f64(A), f64(H))) == pytest.approx(expected)


@given(numbers, entropies, st.floats(0, 2), st.floats(1.01, 10))
def test_entropy_shaped_drifts_upwards_but_turns_no_sign(
    A: float, H: float, alpha: float, kappa: float
) -> None:
    found = value(shaping.entropy_shaped(f64(A), f64(H), alpha, kappa))
    assert A <= found <= A + abs(A) / kappa + 1e-12
    assert (found > 0) == (A > 0)
    assert (found < 0) == (A < 0)


@pytest.mark.parametrize(
    ("A", "H", "expected"), [(-1, 2, 0.5), (0, 2, 1.5), (-1, 0.5, -1), (1, 0.2, 1)]
)
def test_without_the_cap_signs_turn_and_silent_groups_move(
    A: float, H: float, expected: float
) -> None:
    found = value(shaping.entropy_uncapped(f64(A), f64(H), alpha=1.0, threshold=0.5))
    assert found == pytest.approx(expected)


# HICRA ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("A", "expected"), [(1, 1.2), (-1, -0.8), (0, 0)])
def test_hicra(A: float, expected: float) -> None:
    planning = torch.tensor([True, False])
    assert shaping.hicra(f64(A, A), planning).tolist() == pytest.approx([expected, A])


@given(numbers, st.floats(0, 0.99))
def test_hicra_drifts_upwards_but_turns_no_sign(A: float, alpha: float) -> None:
    found = value(shaping.hicra(f64(A), torch.tensor([True]), alpha))
    assert found >= A
    assert (found > 0, found < 0) == (A > 0, A < 0)


# REPO -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("A", "lp", "zeta", "expected"),
    [
        (2, -3, 0.1, 2.6),
        (-2, -3, 0.1, -1.4),
        (-2, -15, 0.1, 0),
        (2, -3, -0.1, 1.4),
        (-2, -3, -0.1, -2.6),
        (2, -15, -0.1, 0),
        (0, -3, 0.1, 0),
        (2, -100, 0.01, 2.4),
    ],
)
def test_repo_r(A: float, lp: float, zeta: float, expected: float) -> None:
    assert value(shaping.repo_r(f64(A), f64(lp), zeta)) == pytest.approx(expected)


@given(numbers, logps, st.floats(-0.1, 0.1))
def test_repo_r_turns_no_sign(A: float, lp: float, zeta: float) -> None:
    found = value(shaping.repo_r(f64(A), f64(lp), zeta))
    assert found * A >= 0
    assert A or not found


@given(numbers, logps, entropies, st.floats(0.1, 10))
def test_without_coefficient_every_transform_is_the_identity(
    A: float, lp: float, H: float, eta: float
) -> None:
    a, p, h = f64(A), f64(lp), f64(H)
    everywhere, nowhere = torch.tensor([True]), torch.tensor([False])
    assert torch.equal(shaping.entropy_shaped(a, h, alpha=0.0), a)
    assert torch.equal(shaping.entropy_shaped(a, 0 * h), a)
    assert torch.equal(shaping.entropy_uncapped(a, h, alpha=0.0), a)
    assert torch.equal(shaping.hicra(a, everywhere, alpha=0.0), a)
    assert torch.equal(shaping.hicra(a, nowhere), a)
    assert torch.equal(shaping.repo_r(a, p, 0.0), a)
    assert torch.equal(shaping.repo_d(a, p, h, 0.0), a)
    assert torch.allclose(2 * shaping.delightful(a, p, eta=1e12), a)
    assert torch.equal(2 * shaping.delightful(a, 0 * p, eta), a)


@given(numbers, logps, entropies, st.floats(-2, 2))
def test_repo_d_subtracts_the_centred_log_probability(
    A: float, lp: float, H: float, zeta: float
) -> None:
    found = value(shaping.repo_d(f64(A), f64(lp), f64(H), zeta))
    assert found == pytest.approx(A - zeta * (lp + H))


def test_repo_d_holds_the_entropy_still() -> None:
    """A natural-gradient step dz = A' changes H by -Cov(lp, A) + zeta Var(lp), to first order."""
    z = f64(1.2, 0.3, -0.5, 0.0, -1.1).requires_grad_()
    lp = z.log_softmax(-1)
    p = lp.exp()
    H = -(p * lp).sum()
    slope = torch.autograd.grad(H, z)[0]
    p, lp = p.detach(), lp.detach()
    A = f64(1.0, -0.2, 0.5, -0.8, 0.3)
    A = A - (p * A).sum()
    centre = lp - (p * lp).sum()
    still = float((p * centre * A).sum() / (p * centre**2).sum())
    assert still == pytest.approx(0.638756, abs=5e-7)

    def drift(zeta: float) -> float:
        return float(slope @ shaping.repo_d(A, lp, H.detach().expand(5), zeta))

    assert drift(still) == pytest.approx(0, abs=1e-15)
    assert drift(0.0) == pytest.approx(-0.325059462, abs=5e-10)
    assert drift(2 * still) == pytest.approx(-drift(0.0))


# Delightful -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("A", "surprisal", "expected"),
    [
        (1, 3, 0.952574),
        (-1, 3, -0.047426),
        (1, 0.01, 0.502500),
        (2, 5, 1.999909),
        (-2, 5, -9.08e-5),
        (0, 3, 0),
        (3, 0, 1.5),
    ],
)
def test_delightful(A: float, surprisal: float, expected: float) -> None:
    assert value(shaping.delightful(f64(A), f64(-surprisal))) == pytest.approx(expected, rel=1e-4)


@given(numbers, st.floats(0, 10), st.floats(0.1, 10))
def test_delightful_gates_of_success_and_failure_are_complements(
    A: float, surprisal: float, eta: float
) -> None:
    assume(A)
    up = value(shaping.delightful(f64(A), f64(-surprisal), eta)) / A
    down = value(shaping.delightful(f64(-A), f64(-surprisal), eta)) / -A
    assert up + down == pytest.approx(1)
    success, failure = (up, down) if A > 0 else (down, up)
    assert 0 <= failure <= 0.5 + 1e-12
    assert 0.5 - 1e-12 <= success <= 1


# all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4])
def test_no_transform_lets_a_gradient_through(size: int) -> None:
    A = torch.linspace(-1, 1, size, dtype=torch.float64)
    lp = torch.full((size,), -2.0, dtype=torch.float64, requires_grad=True)
    H = torch.full((size,), 1.5, dtype=torch.float64, requires_grad=True)
    found = (
        shaping.entropy_shaped(A, H),
        shaping.entropy_uncapped(A, H),
        shaping.hicra(A, torch.ones(size, dtype=torch.bool)),
        shaping.repo_r(A, lp, 0.1),
        shaping.repo_d(A, lp, H, 0.1),
        shaping.delightful(A, lp),
    )
    assert not any(result.requires_grad for result in found)


@given(st.integers(0, 99))
def test_transforms_act_on_each_token_alone(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    A, lp, H = torch.randn(3, 6, generator=draw, dtype=torch.float64)
    lp, H = -lp.abs(), H.abs()
    planning = torch.rand(6, generator=draw) < 0.5
    order = torch.randperm(6, generator=draw)
    for transform in (
        lambda i: shaping.entropy_shaped(A[i], H[i]),
        lambda i: shaping.entropy_uncapped(A[i], H[i]),
        lambda i: shaping.hicra(A[i], planning[i]),
        lambda i: shaping.repo_r(A[i], lp[i], 0.05),
        lambda i: shaping.repo_d(A[i], lp[i], H[i], 0.05),
        lambda i: shaping.delightful(A[i], lp[i]),
    ):
        assert torch.equal(transform(torch.arange(6))[order], transform(order))
