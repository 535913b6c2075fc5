"""From sums over replies to means over problems, and what a nat buys."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from statistics import fmean, stdev

import pytest
import torch

from baselines.shift.estimates import ReplyShift, gain_of, per_nat, shift_of
from tfgrpo.types import TaskOutcome

A = (ReplyShift("a", 2, 1.0, 3.0, 0.4, 0.6, 0.8), ReplyShift("a", 6, 2.0, 5.0, 1.2, 1.0, 1.6))
B = (ReplyShift("b", 4, 2.0, 2.0, 0.8, 0.4, 0.4),)
C = (ReplyShift("c", 1, 0.5, 1.5, 0.6, 0.1, 0.2),)
ALL = (*A, *B, *C)


def outcome(task_id: str, correct: int, n: int = 4) -> TaskOutcome:
    marks = tuple(i < correct for i in range(n))
    return TaskOutcome(task_id, "sum", marks, (None,) * n, (None,) * n, (None,) * n, (1,) * n)


def test_sums_of_a_reply_are_those_of_its_tokens() -> None:
    figures = torch.tensor([[-1.0, -2.0], [-3.0, -0.5], [0.25, 0.5], [1.0, 2.0], [0.5, 0.125]])
    assert ReplyShift.of("x", figures) == ReplyShift("x", 2, 3.0, 3.5, 0.75, 3.0, 0.625)


def test_tokens_weigh_alike_in_a_problem_and_problems_alike_in_the_mean() -> None:
    shift = shift_of(ALL, 0)
    assert (shift.problems, shift.samples, shift.tokens) == (3, 4, 13)
    assert shift.kl_per_token.value == pytest.approx(fmean([1.6 / 8, 0.8 / 4, 0.6]))
    assert shift.kl_per_reply.value == pytest.approx(fmean([0.8, 0.8, 0.6]))
    assert shift.nll.value == pytest.approx(fmean([3 / 8, 2 / 4, 0.5]))
    assert shift.nll_base.value == pytest.approx(fmean([8 / 8, 2 / 4, 1.5]))
    assert shift.entropy.value == pytest.approx(fmean([1.6 / 8, 0.4 / 4, 0.1]))
    assert shift.entropy_base.value == pytest.approx(fmean([2.4 / 8, 0.4 / 4, 0.2]))
    assert all(e.n == 3 for e in (shift.kl_per_token, shift.kl_per_reply, shift.nll))
    assert list(shift.row()) == list(type(shift).__slots__)


def test_perplexities_are_powers_of_the_nats() -> None:
    """Log-probabilities -.1, -.2 and -.3 are a perplexity of 1.2214."""
    reply = ReplyShift("a", 3, 0.6, 0.3, 0.0, 0.0, 0.0)
    shift = shift_of([reply, replace(reply, task_id="b")], 0)
    assert shift.perplexity.value == pytest.approx(1.2214, abs=1e-4)
    assert shift.perplexity_base.value == pytest.approx(math.exp(0.1))
    spread = shift_of(ALL, 0)
    ends = [math.log(x) for x in (spread.perplexity_base.low, spread.perplexity_base.high)]
    assert ends == pytest.approx([spread.nll_base.low, spread.nll_base.high])


def test_the_order_of_replies_does_not_count() -> None:
    shuffled = list(ALL)
    for seed in range(5):
        random.Random(seed).shuffle(shuffled)
        assert shift_of(shuffled, 1) == shift_of(ALL, 1)


def test_points_a_nat_are_a_ratio_of_means() -> None:
    gains, nats = {"a": 10.0, "b": -2.0, "c": 7.0}, {"a": 2.0, "b": 1.0, "c": 0.5, "d": 99.0}
    rate = per_nat(gains, nats, 0)
    assert rate is not None
    assert rate.value == pytest.approx(15 / 3.5)
    assert (rate.n, rate.low < rate.value < rate.high) == (3, True)
    halved = per_nat(gains, {k: 2 * v for k, v in nats.items()}, 0)
    assert halved is not None
    doubled = (2 * halved.value, 2 * halved.low, 2 * halved.high)
    assert doubled == pytest.approx((rate.value, rate.low, rate.high))


def test_the_interval_of_the_ratio_is_near_the_delta_method_for_many_problems() -> None:
    rng = random.Random(0)
    nats = {str(i): rng.uniform(0.5, 1.5) for i in range(400)}
    gains = {name: 3 * d + rng.gauss(0, 2) for name, d in nats.items()}
    rate = per_nat(gains, nats, 0)
    assert rate is not None
    residuals = [gains[name] - rate.value * nats[name] for name in nats]
    half = 1.96 * stdev(residuals) / math.sqrt(400) / fmean(nats.values())
    assert (rate.low, rate.high) == pytest.approx((rate.value - half, rate.value + half), abs=0.02)
    assert rate.low < 3 < rate.high


def test_a_ratio_on_which_all_problems_agree_has_no_width() -> None:
    rate = per_nat({"a": 2.0, "b": 6.0}, {"a": 1.0, "b": 3.0}, 0)
    assert rate is not None
    assert (rate.value, rate.low, rate.high, rate.method) == (2.0, 2.0, 2.0, "constant")
    idle = per_nat({"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 3.0}, 0)
    assert idle is not None
    assert (idle.value, idle.low, idle.high) == (0.0, 0.0, 0.0)


def test_nothing_is_bought_for_nothing() -> None:
    assert per_nat({"a": 1.0, "b": 2.0}, {"a": 0.0, "b": 1e-9}, 0) is None
    assert per_nat({"a": 1.0}, {"a": 1.0}, 0) is None


def test_the_gain_is_over_the_problems_that_were_scored() -> None:
    before = [outcome("a", 1), outcome("b", 2), outcome("c", 0), outcome("e", 4)]
    after = [outcome("a", 3), outcome("b", 2), outcome("d", 4), outcome("e", 0)]
    gain, rate = gain_of(ALL, before, after, 0)
    assert gain is not None
    assert rate is not None
    assert (gain.a, gain.b, gain.difference.n) == (pytest.approx(0.375), pytest.approx(0.625), 2)
    assert rate.value == pytest.approx(100 * 0.25 / 0.8)
    assert gain_of(C, before, after, 0) == (None, None)


def test_a_problem_without_graded_samples_has_no_gain() -> None:
    before = [outcome("a", 1), outcome("b", 2), outcome("c", 0, n=0)]
    after = [outcome("a", 2), outcome("b", 4), outcome("c", 4)]
    gain, _ = gain_of(ALL, before, after, 0)
    assert gain is not None
    assert gain.difference.n == 2
