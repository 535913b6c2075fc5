from __future__ import annotations

import math

import numpy as np
import pytest

from tfgrpo.metrics.claims import declared_claims, detectable, non_inferior, verdict
from tfgrpo.metrics.estimate import minimum_detectable, t_interval
from tfgrpo.types import Comparison, Estimate


def interval(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 100, "paired bca")


def compared(name: str, low: float, high: float, p: float) -> Comparison:
    return Comparison(name, 0.3, 0.3 + (low + high) / 2, interval(low, high), p)


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [
        (0.01, 0.05, 0.001, "better"),
        (-0.05, -0.01, 0.001, "worse"),
        (0.01, 0.05, 0.2, "non-inferior"),
        (-0.005, 0.05, 0.2, "non-inferior"),
        (-0.01, 0.05, 0.2, "inconclusive"),
        (-0.3, 0.3, 0.9, "inconclusive"),
        (math.nan, math.nan, 0.9, "inconclusive"),
    ],
)
def test_verdicts(low: float, high: float, p: float, said: str) -> None:
    assert verdict(interval(low, high), p, margin=0.01) == said
    if said == "non-inferior":
        assert verdict(interval(low, high), p) == "inconclusive"


def test_a_small_but_certain_loss_is_worse_and_still_non_inferior() -> None:
    loss = interval(-0.004, -0.001)
    assert verdict(loss, 0.001, margin=0.01) == "worse"
    assert non_inferior(loss, 0.01)


def test_holm_counts_every_arm_and_endpoint_declared_and_no_other() -> None:
    arms = {
        "grpo": [compared("pass@1", 0.1, 0.2, 0.01), compared("pass@64", -0.2, -0.1, 0.02)],
        "memory": [
            compared("pass@64", 0.1, 0.2, 0.04),
            compared("pass@1", 0.1, 0.2, 0.005),
            compared("pass@2", 0.1, 0.2, 0.0001),
        ],
    }
    claims = declared_claims(arms, ("pass@1", "pass@64"))
    assert [(c.arm, c.comparison.name) for c in claims] == [
        ("grpo", "pass@1"), ("grpo", "pass@64"), ("memory", "pass@1"), ("memory", "pass@64"),
    ]  # fmt: skip
    assert [c.holm_p for c in claims] == pytest.approx([0.03, 0.04, 0.02, 0.04])
    assert [c.verdict for c in claims] == ["better", "worse", "better", "better"]
    one = declared_claims({"memory": arms["memory"]}, ("pass@64",))
    assert one[0].holm_p == 0.04


def test_what_holm_takes_back_is_inconclusive() -> None:
    arms = {f"arm{i}": [compared("pass@1", 0.01, 0.2, 0.03)] for i in range(2)}
    assert [c.verdict for c in declared_claims(arms, ("pass@1",))] == ["inconclusive"] * 2
    kept = declared_claims(arms, ("pass@1",), {"pass@1": 0.01})
    assert [c.verdict for c in kept] == ["non-inferior"] * 2


def test_detectable_difference_is_the_one_from_the_problems() -> None:
    d = np.random.default_rng(0).normal(size=4000)
    assert detectable(t_interval(d)) == pytest.approx(minimum_detectable(d), rel=1e-3)
    assert detectable(t_interval(d), 0.9) == pytest.approx(minimum_detectable(d, 0.9), rel=1e-3)
    assert detectable(interval(-0.05, 0.05)) == pytest.approx(1.4294 * 0.05, rel=1e-3)
    assert math.isnan(detectable(interval(math.nan, math.nan)))


def test_undeclared_or_impossible_claims_raise() -> None:
    arms = {"grpo": [compared("pass@1", 0.1, 0.2, 0.01)]}
    for endpoints, margins in (
        ((), {}),
        (("pass@1", "pass@1"), {}),
        (("pass@1",), {"pass@64": 0.01}),
    ):
        with pytest.raises(ValueError, match="declared once each"):
            declared_claims(arms, endpoints, margins)
    with pytest.raises(ValueError, match="grpo was not compared on pass@64"):
        declared_claims(arms, ("pass@64",))
    with pytest.raises(ValueError, match="must be positive"):
        non_inferior(interval(0, 1), 0.0)
