from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from baselines.objective import surrogates, terms
from tests.baselines.objective.cases import f64

# Schulman's estimators over three symbols: pi, its logits, and the reference
P = f64(0.6, 0.3, 0.1)
Q = f64(0.5, 0.2, 0.3)
KL = 0.121171
REVERSE = [0.036690, 0.085288, -0.121978]
FORWARD = [0.1, 0.1, -0.2]

lengths = st.lists(st.integers(0, 6), min_size=1, max_size=5)
masks = lengths.map(lambda ls: torch.arange(6) < torch.tensor(ls)[:, None])


def expected(estimator: str) -> tuple[float, list[float]]:
    """The estimator's mean over pi's own symbols, and the mean of its gradient by the logits."""
    z = P.log().requires_grad_()
    lp = z.log_softmax(-1)
    rho = surrogates.token_ratio(lp, lp.detach())
    mean = (P * terms.kl(lp, Q.log(), rho, estimator)).sum()
    return float(mean.detach()), torch.autograd.grad(mean, z)[0].tolist()


@pytest.mark.parametrize(
    ("estimator", "value", "direction"),
    [
        ("k1", KL, [0.0, 0.0, 0.0]),
        ("k2", None, REVERSE),
        ("k3", KL, FORWARD),
        ("k3_is", KL, REVERSE),
    ],
)
def test_kl_estimators(estimator: str, value: float | None, direction: list[float]) -> None:
    mean, gradient = expected(estimator)
    assert gradient == pytest.approx(direction, abs=5e-7)
    if value is None:
        assert abs(mean - KL) > 1e-3
    else:
        assert mean == pytest.approx(value, abs=5e-7)


def test_the_golden_directions_are_those_of_the_two_divergences() -> None:
    for own_first, direction in ((True, REVERSE), (False, FORWARD)):
        z = P.log().requires_grad_()
        lp = z.log_softmax(-1)
        kl = (lp.exp() * (lp - Q.log())).sum() if own_first else (Q * (Q.log() - lp)).sum()
        assert torch.autograd.grad(kl, z)[0].tolist() == pytest.approx(direction, abs=5e-7)


@given(st.floats(-10, 0), st.floats(-10, 0))
def test_k2_and_k3_are_never_negative(lp: float, lp_ref: float) -> None:
    ours, other = f64(lp), f64(lp_ref)
    one = torch.ones_like(ours)
    x = lp - lp_ref
    found = {k: float(terms.kl(ours, other, one, k)) for k in ("k1", "k2", "k3", "k3_is")}
    assert found["k1"] == pytest.approx(x)
    assert found["k2"] == pytest.approx(x * x / 2)
    assert found["k3"] == pytest.approx(math.exp(-x) + x - 1, abs=1e-9)
    assert found["k3_is"] == found["k3"]
    assert found["k2"] >= 0
    assert found["k3"] >= -1e-12


def test_k3_never_overflows() -> None:
    assert torch.isfinite(terms.k3(f64(-1e5, 0.0), f64(0.0, -1e5))).all()


# importance weights ---------------------------------------------------------------------------

OLD = f64([-1.0, -2.0, -1.0], [-1.0, -1.0, 50.0])
ROLLOUT = f64([-1.5, -1.0, -2.0], [-1.0, -1.2, -90.0])
INSIDE = torch.tensor([[True, True, True], [True, True, False]])


@pytest.mark.parametrize(
    ("level", "mode", "weights"),
    [
        ("token", "truncate", [math.exp(0.5), math.exp(-1), 2.0, 1.0, math.exp(0.2)]),
        ("token", "mask", [math.exp(0.5), math.exp(-1), 0.0, 1.0, math.exp(0.2)]),
        ("sequence", "truncate", [math.exp(0.5)] * 3 + [math.exp(0.2)] * 2),
        ("sequence", "mask", [math.exp(0.5)] * 3 + [math.exp(0.2)] * 2),
    ],
)
def test_importance_weights(level: str, mode: str, weights: list[float]) -> None:
    found = terms.importance(OLD, ROLLOUT, INSIDE, 2.0, level, mode)
    assert found[INSIDE].tolist() == pytest.approx(weights)


@pytest.mark.parametrize(("mode", "cut"), [("truncate", 1.3), ("mask", 0.0)])
def test_a_whole_reply_is_cut_at_once(mode: str, cut: float) -> None:
    found = terms.importance(OLD, ROLLOUT, INSIDE, 1.3, "sequence", mode)
    assert found[0].tolist() == pytest.approx([cut] * 3)
    assert found[1, :2].tolist() == pytest.approx([math.exp(0.2)] * 2)


def test_importance_has_no_gradient_and_equal_samplers_no_weight() -> None:
    old = OLD.clone().requires_grad_()
    found = terms.importance(old, ROLLOUT, INSIDE, 2.0, "token", "truncate")
    assert not found.requires_grad
    for level in ("token", "sequence"):
        same = terms.importance(OLD, OLD, INSIDE, 2.0, level, "truncate")
        assert torch.equal(same, torch.ones_like(OLD))


# aggregation ----------------------------------------------------------------------------------

TWO_AND_SIX = torch.arange(6) < torch.tensor([[2], [6]])


@pytest.mark.parametrize(
    ("weights", "rows"),
    [
        (terms.token_mean(TWO_AND_SIX, TWO_AND_SIX), [0.25, 0.75]),
        (terms.sequence_mean(TWO_AND_SIX, TWO_AND_SIX), [0.5, 0.5]),
        (terms.constant(TWO_AND_SIX, 8), [0.125, 0.375]),
    ],
    ids=["token_mean", "sequence_mean", "constant"],
)
def test_what_a_reply_of_two_tokens_weighs_beside_one_of_six(
    weights: Tensor, rows: list[float]
) -> None:
    assert weights.sum(-1).tolist() == pytest.approx(rows)
    assert (weights[~TWO_AND_SIX] == 0).all()


@given(masks)
def test_weights_are_means(mask: Tensor) -> None:
    replies, tokens = int(mask.any(-1).sum()), int(mask.sum())
    assert float(terms.token_mean(mask, mask).sum()) == pytest.approx(1.0 if tokens else 0.0)
    found = float(terms.sequence_mean(mask, mask).sum())
    assert found == pytest.approx(replies / len(mask))
    assert float(terms.constant(mask, 6).sum()) == pytest.approx(tokens / (6 * len(mask)))


def test_a_constant_divisor_does_not_tie_replies_together() -> None:
    longer = torch.arange(6) < torch.tensor([[4], [6]])
    assert torch.equal(terms.constant(TWO_AND_SIX, 8)[1], terms.constant(longer, 8)[1])
    before, after = (terms.token_mean(m, m)[1] for m in (TWO_AND_SIX, longer))
    assert not torch.equal(before, after)


def test_the_divisor_may_count_more_than_is_kept() -> None:
    kept = TWO_AND_SIX & (torch.arange(6) % 2 == 0)
    assert float(terms.token_mean(kept, TWO_AND_SIX).sum()) == pytest.approx(0.5)
    assert terms.sequence_mean(kept, TWO_AND_SIX).sum(-1).tolist() == pytest.approx([0.25, 0.25])


@pytest.mark.parametrize("garbage", [1e30, math.inf, math.nan])
def test_padding_cannot_reach_the_sum(garbage: float) -> None:
    loss = f64([1.0, garbage], [3.0, 5.0]).requires_grad_()
    weights = f64([0.5, 0.0], [0.25, 0.25])
    total = terms.weighted_sum(loss, weights)
    assert total.item() == 2.5
    assert torch.equal(torch.autograd.grad(total, loss)[0], weights)
