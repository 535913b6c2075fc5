"""Claims on tokens: the covariance identity against autograd, planted clips, planted rounding."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from baselines.claims.tokens import (
    Floats,
    Probe,
    clip_asymmetry,
    correlation,
    covariance_advantage,
    covariance_identity,
    first_order,
    precision_bias,
    precision_spread,
    slope,
    unpack,
)
from tfgrpo.errors import RunError

Z = np.array([1.2, 0.3, -0.5, 0.0, -1.1])
RAW = np.array([1.0, -0.2, 0.5, -0.8, 0.3])
TOKENS, VOCABULARY, GROUPS = 400, 12, 20


def made(seed: int = 0, size: float = 1e-3) -> Probe:
    """A probe of random distributions that all take a step of this size."""
    rng = np.random.default_rng(seed)
    before = rng.normal(size=(TOKENS, VOCABULARY)) * 2
    predicted, measured = first_order(before, before + size * rng.normal(size=before.shape))
    lp = -rng.exponential(size=TOKENS)
    noise = rng.normal(size=TOKENS)
    return Probe(
        group=np.arange(TOKENS) % GROUPS,
        sampled=lp,
        bfloat16=lp + 0.1 * noise,
        float16=lp + 0.0125 * noise,
        at=np.arange(TOKENS),
        advantage=rng.normal(size=TOKENS),
        predicted=predicted,
        measured=measured,
        clip_group=np.arange(60) % GROUPS,
        clip_upper=np.arange(60) % 2,
        clip_probability=np.where(np.arange(60) % 2, 0.1, 0.6) + 0.01 * rng.normal(size=60),
        passed=1600,
    )


# the identity -------------------------------------------------------------------------------------


def entropy(z: torch.Tensor) -> torch.Tensor:
    logp = z.log_softmax(-1)
    return -(logp.exp() * logp).sum(-1)


def test_both_sides_of_the_identity_are_those_of_autograd() -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(size=(6, 9)) * 3
    after = before + rng.normal(size=before.shape)
    predicted, measured = first_order(before, after)
    z = torch.tensor(before, requires_grad=True)
    (gradient,) = torch.autograd.grad(entropy(z).sum(), z)
    directional = (gradient * torch.tensor(after - before)).sum(-1)
    assert predicted == pytest.approx(directional.numpy(), abs=1e-12)
    change = entropy(torch.tensor(after)) - entropy(torch.tensor(before))
    assert measured == pytest.approx(change.numpy(), abs=1e-12)


def test_the_golden_slopes_of_policy_gradients() -> None:
    """-0.117861446 for the vanilla step p A, -0.325059462 for the natural one, A."""
    p = np.exp(Z) / np.exp(Z).sum()
    A = RAW - p @ RAW
    for step, golden in ((p * A, -0.117861446), (A, -0.325059462)):
        predicted, measured = first_order(Z[None], (Z + 1e-4 * step)[None])
        assert predicted[0] / 1e-4 == pytest.approx(golden, abs=5e-9)
        assert measured[0] == pytest.approx(predicted[0], rel=1e-3)


def test_a_constant_added_to_all_logits_changes_nothing() -> None:
    predicted, measured = first_order(Z[None], Z[None] + 1000.0)
    assert (predicted[0], measured[0]) == pytest.approx((0, 0), abs=1e-12)


def test_slope_and_correlation_are_numpys() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=50)
    y = 2 * x + rng.normal(size=50) + 7
    totals = np.array([50, x.sum(), y.sum(), x @ x, x @ y, y @ y])
    assert float(slope(totals)) == pytest.approx(np.polyfit(x, y, 1)[0])
    assert float(correlation(totals)) == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_small_steps_follow_the_identity_and_large_ones_leave_it() -> None:
    small = covariance_identity([made(), made(1)])
    assert small.value == pytest.approx(1, abs=2e-3)
    assert small.verdict == "supported"
    assert "Correlation 1.0000 over 800 tokens" in small.detail
    assert covariance_identity([made(size=6.0)]).verdict == "not supported"
    turned = made()
    assert covariance_identity([replace(turned, measured=-turned.measured)]).value == (
        pytest.approx(-1, abs=2e-3)
    )


def test_the_sampled_covariance_is_correlated_with_the_change() -> None:
    probe = made()
    assert covariance_advantage([probe]).verdict != "supported"  # drawn without regard to it
    lp, A = probe.sampled, probe.advantage
    cov: Floats = (lp - lp.mean()) * (A - A.mean())
    driven = covariance_advantage([replace(probe, measured=-1e-4 * cov)])
    assert driven.value == pytest.approx(1)
    assert driven.verdict == "supported"
    assert covariance_advantage([replace(probe, measured=1e-4 * cov)]).verdict == "not supported"


# the clip -----------------------------------------------------------------------------------------


def test_the_clips_mean_probabilities_and_shares() -> None:
    probe = made()
    found = clip_asymmetry([probe])
    upper, lower = (probe.clip_probability[probe.clip_upper == side] for side in (1, 0))
    assert found.value == pytest.approx(upper.mean() - lower.mean())
    assert found.verdict == "supported"
    assert "Upper: 30 tokens (187.5 in 10,000)" in found.detail
    swapped = replace(probe, clip_upper=1 - probe.clip_upper)
    assert clip_asymmetry([swapped]).verdict == "not supported"


def test_a_side_that_stops_nothing_decides_nothing() -> None:
    found = clip_asymmetry([made(), replace(made(), clip_upper=np.zeros(60, dtype=int))])
    assert (found.value, found.verdict) == (None, "inconclusive")


# precision ----------------------------------------------------------------------------------------


def test_noise_of_mean_0_in_log_probabilities_biases_ratios_upwards() -> None:
    rng = np.random.default_rng(3)
    lp, noise = np.zeros(40_000), 0.3 * rng.normal(size=40_000)
    group = np.arange(40_000) % 50
    noisy = replace(made(), group=group, sampled=lp, bfloat16=noise, float16=lp)
    found = precision_bias([noisy])
    assert found.value == pytest.approx(np.exp(0.3**2 / 2) - 1, rel=0.2)
    assert found.verdict == "supported"


def test_on_the_samplers_own_tokens_the_ratio_has_mean_1_whatever_the_noise() -> None:
    """Each symbol as often as its probability says."""
    counts = np.array([8, 5, 4, 2, 1])
    p = np.repeat(counts / 20, counts)
    other = np.array([6, 6, 5, 1, 2]) / 20
    q = np.repeat(other, counts)
    own = {"sampled": np.log(p), "bfloat16": np.log(q), "float16": np.log(p)}
    probe = replace(made(), group=np.arange(20) % 4, **own)
    assert precision_bias([probe]).value == pytest.approx(0, abs=1e-12)


def test_three_bits_of_mantissa_are_a_factor_of_eight() -> None:
    found = precision_spread([made()])
    assert found.value == pytest.approx(8)
    assert found.verdict == "supported"
    equal = replace(made(), float16=made().bfloat16)
    assert precision_spread([equal]).verdict == "not supported"


# files --------------------------------------------------------------------------------------------


def test_a_probe_is_read_as_it_was_written() -> None:
    probe = made()
    again = unpack(probe.pack())
    for field in fields(Probe):
        assert np.array_equal(getattr(again, field.name), getattr(probe, field.name))
    with pytest.raises(RunError, match="delete its folder and run again"):
        unpack(probe.pack()[:-40])
