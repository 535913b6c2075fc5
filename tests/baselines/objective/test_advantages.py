from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.objective import advantages as adv
from baselines.objective import spec as s
from baselines.objective.advantages import GroupRewards
from tfgrpo.errors import ConfigError
from tfgrpo.metrics.pass_at_k import pass_at_k

Estimator = Callable[[GroupRewards], Sequence[float]]
R = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
LENGTHS = (10, 20, 40, 30, 5, 15, 25, 55)
RELATIVE = (
    s.Grpo(), s.Grpo(ddof=0), s.DrGrpo(), s.Rloo(), s.Opo(), s.PassAtK(k=1), s.PassAtK(k=3),
    s.MaxRl(), s.MaxRl(centred=False),
)  # fmt: skip
ESTIMATORS = (*RELATIVE, s.Reinforce(baseline=0.3), s.Signed(positive=0.1))

floats = st.floats(-10, 10).map(lambda x: round(x, 3))
groups = st.lists(st.tuples(floats, st.integers(1, 50)), min_size=2, max_size=9).map(
    lambda rows: GroupRewards(*zip(*rows, strict=True))
)
binary_groups = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0]), st.integers(1, 50)), min_size=2, max_size=9
).map(lambda rows: GroupRewards(*zip(*rows, strict=True)))
probabilities = st.floats(0.05, 0.95)


def group(*rewards: float) -> GroupRewards:
    return GroupRewards(rewards, (1,) * len(rewards))


def replies(rewards: tuple[float, ...] = R) -> GroupRewards:
    return GroupRewards(rewards, LENGTHS[: len(rewards)])


# worked examples ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "right", "wrong"),
    [
        (s.Grpo(), 1.620182, -0.540061),
        (s.Grpo(epsilon=1e-4), 1.619835, -0.539945),
        (s.Grpo(ddof=0), 1.732047, -0.577349),
        (s.DrGrpo(), 0.75, -0.25),
        (s.Rloo(), 6 / 7, -2 / 7),
        (s.Reinforce(), 1.0, 0.0),
        (s.Reinforce(baseline=0.25), 0.75, -0.25),
        (s.Opo(), 0.8, -0.2),
        (s.PassAtK(k=1), 1.732051, -0.577350),
        (s.PassAtK(k=2), 1.074172, -0.358057),
        (s.PassAtK(k=4), 0.522233, -0.174078),
        (s.PassAtK(k=6), 0.192450, -0.064150),
        (s.PassAtK(k=7), 0.0, 0.0),
        (s.PassAtK(k=8), 0.0, 0.0),
        (s.PassAtK(k=9), 0.0, 0.0),
        (s.MaxRl(), 3.0, -1.0),
        (s.MaxRl(centred=False), 4.0, 0.0),
        (s.Signed(), 1.0, -1.0),
        (s.Signed(positive=1.0, negative=0.0), 1.0, 0.0),
        (s.Signed(positive=0.0, negative=1.0), 0.0, -1.0),
        (s.Signed(positive=0.1, negative=1.0), 0.1, -1.0),
    ],
)
def test_two_right_of_eight(estimator: s.EstimatorSpec, right: float, wrong: float) -> None:
    expected = [right if r else wrong for r in R]
    assert adv.estimate(estimator, replies()) == pytest.approx(expected, abs=5e-7)


def test_generalised_advantages_come_from_a_critic() -> None:
    with pytest.raises(ConfigError, match="--method ppo"):
        adv.estimate(s.Gae(), replies())


# sums -----------------------------------------------------------------------------------------


@given(groups)
@pytest.mark.parametrize("estimator", [s.Grpo(), s.Grpo(ddof=0), s.DrGrpo(), s.Rloo()])
def test_group_relative_advantages_sum_to_zero(
    estimator: s.EstimatorSpec, group: GroupRewards
) -> None:
    assert math.fsum(adv.estimate(estimator, group)) == pytest.approx(0, abs=1e-8)


@given(binary_groups, st.integers(1, 9))
def test_binary_group_relative_advantages_sum_to_zero(group: GroupRewards, k: int) -> None:
    for estimator in (s.PassAtK(k=k), s.MaxRl()):
        assert math.fsum(adv.estimate(estimator, group)) == pytest.approx(0, abs=1e-9)


def test_these_do_not_sum_to_zero() -> None:
    for estimator in (s.Signed(), s.Signed(positive=0.1), s.Reinforce(), s.MaxRl(centred=False)):
        assert abs(math.fsum(adv.estimate(estimator, replies()))) > 1


@given(groups)
def test_opo_sums_to_zero_over_tokens(group: GroupRewards) -> None:
    total = math.fsum(a * n for a, n in zip(adv.opo(group), group.lengths, strict=True))
    assert total == pytest.approx(0, abs=1e-9)


@given(groups, st.floats(-1, 1))
def test_no_baseline_has_less_length_weighted_variance_than_opos(
    group: GroupRewards, off: float
) -> None:
    def second_moment(baseline: float) -> float:
        rows = zip(group.rewards, group.lengths, strict=True)
        return math.fsum(n * (r - baseline) ** 2 for r, n in rows)

    best = group.rewards[0] - adv.opo(group)[0]
    assert second_moment(best) <= second_moment(best + off) * (1 + 1e-9) + 1e-9


# equalities between estimators ----------------------------------------------------------------


@given(groups)
def test_rloo_leaves_one_out_and_is_a_multiple_of_dr_grpo(group: GroupRewards) -> None:
    found, n = adv.rloo(group), group.n
    others = [(math.fsum(group.rewards) - r) / (n - 1) for r in group.rewards]
    direct = [r - b for r, b in zip(group.rewards, others, strict=True)]
    assert found == pytest.approx(direct, abs=1e-12)
    assert found == pytest.approx([a * n / (n - 1) for a in adv.dr_grpo(group)], abs=1e-12)


@given(binary_groups)
def test_pass_at_1_is_grpo_with_the_populations_deviation(group: GroupRewards) -> None:
    grpo = adv.grpo(group, ddof=0, epsilon=0.0)
    assert adv.pass_at_k_advantage(group, 1) == pytest.approx(grpo, abs=1e-9)


@given(groups)
def test_opo_of_equal_lengths_is_dr_grpo(group: GroupRewards) -> None:
    equal = GroupRewards(group.rewards, (7,) * group.n)
    assert adv.opo(equal) == pytest.approx(adv.dr_grpo(group), abs=1e-12)


@given(binary_groups)
def test_signed_of_one_and_one_is_reinforce_on_plus_and_minus_one(group: GroupRewards) -> None:
    flipped = GroupRewards([2 * r - 1 for r in group.rewards], group.lengths)
    assert adv.signed(group) == adv.reinforce(flipped)


@given(binary_groups)
def test_w_reinforce_is_nsr_plus_a_share_of_psr(group: GroupRewards) -> None:
    psr, nsr = adv.signed(group, 1.0, 0.0), adv.signed(group, 0.0, 1.0)
    parts = [0.1 * p + n for p, n in zip(psr, nsr, strict=True)]
    assert adv.signed(group, 0.1, 1.0) == pytest.approx(parts)


# scale, shift, order --------------------------------------------------------------------------


@given(groups, st.floats(0.1, 10), st.floats(-5, 5))
def test_grpo_ignores_scale_and_shift(group: GroupRewards, scale: float, shift: float) -> None:
    if max(group.rewards) - min(group.rewards) < 0.01:
        return
    moved = GroupRewards([scale * r + shift for r in group.rewards], group.lengths)
    assert adv.grpo(moved, 1, 0.0) == pytest.approx(adv.grpo(group, 1, 0.0), abs=1e-9)


@given(groups, st.floats(0.1, 10), st.floats(-5, 5))
@pytest.mark.parametrize("estimator", [s.DrGrpo(), s.Rloo(), s.Opo()])
def test_without_a_deviation_advantages_scale_with_rewards(
    estimator: s.EstimatorSpec, group: GroupRewards, scale: float, shift: float
) -> None:
    moved = GroupRewards([scale * r + shift for r in group.rewards], group.lengths)
    expected = [scale * a for a in adv.estimate(estimator, group)]
    assert adv.estimate(estimator, moved) == pytest.approx(expected, abs=1e-9)


@given(binary_groups, st.randoms(use_true_random=False))
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_order_of_replies_does_not_matter(
    estimator: s.EstimatorSpec, group: GroupRewards, random: Any
) -> None:
    order = list(range(group.n))
    random.shuffle(order)
    moved = GroupRewards([group.rewards[i] for i in order], [group.lengths[i] for i in order])
    expected = [adv.estimate(estimator, group)[i] for i in order]
    assert adv.estimate(estimator, moved) == pytest.approx(expected, abs=1e-12)


# nothing to compare ---------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", RELATIVE, ids=repr)
@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_a_group_of_one_has_nothing_to_compare(estimator: s.EstimatorSpec, reward: float) -> None:
    assert adv.estimate(estimator, group(reward)) == (0.0,)


@pytest.mark.parametrize("estimator", [*RELATIVE[:-1]], ids=repr)
@pytest.mark.parametrize("reward", [0.0, 1.0])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_equal_rewards_teach_nothing(estimator: s.EstimatorSpec, reward: float, size: int) -> None:
    assert adv.estimate(estimator, group(*[reward] * size)) == (0.0,) * size


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_grpo_without_spread_is_zero_whatever_the_reward(epsilon: float) -> None:
    """The mean of equal floats need not be that float; its rounding must not be blown up."""
    for reward, size in product((0.1, 0.7, 1e6 + 0.1), (3, 6, 7, 8)):
        assert adv.grpo(group(*[reward] * size), 1, epsilon) == (0.0,) * size


@given(st.floats(-100, 100), st.integers(2, 9))
def test_equal_fractional_rewards_teach_nothing_beyond_rounding(reward: float, size: int) -> None:
    for estimator in (s.DrGrpo(), s.Rloo(), s.Opo()):
        found = adv.estimate(estimator, group(*[reward] * size))
        assert found == pytest.approx([0.0] * size, abs=1e-13 * (1 + abs(reward)))


def test_these_teach_without_spread() -> None:
    right, wrong = group(1.0, 1.0), group(0.0, 0.0)
    assert adv.estimate(s.Reinforce(), right) == (1.0, 1.0)
    assert adv.estimate(s.Signed(), right) == (1.0, 1.0)
    assert adv.estimate(s.Signed(), wrong) == (-1.0, -1.0)
    assert adv.estimate(s.MaxRl(centred=False), right) == (1.0, 1.0)


def test_opo_of_replies_without_tokens_is_zero() -> None:
    assert adv.opo(GroupRewards((1.0, 0.0), (0, 0))) == (0.0, 0.0)


# pass@k by enumeration ------------------------------------------------------------------------


def pass_at_k_by_hand(rewards: tuple[float, ...], k: int) -> list[float]:
    """Every subset of k replies is a sample whose reward is its best; a reply gets their mean."""
    subsets = list(combinations(range(len(rewards)), k))
    best = [max(rewards[i] for i in subset) for subset in subsets]
    mean = math.fsum(best) / len(best)
    spread = math.sqrt(math.fsum((b - mean) ** 2 for b in best) / len(best))
    if not spread:
        return [0.0] * len(rewards)
    found = []
    for i in range(len(rewards)):
        own = [b for b, subset in zip(best, subsets, strict=True) if i in subset]
        found.append((math.fsum(own) / len(own) - mean) / spread)
    return found


@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_pass_at_k_is_the_mean_over_all_subsets(n: int) -> None:
    for right, k in product(range(n + 1), range(1, n + 1)):
        rewards = (1.0,) * right + (0.0,) * (n - right)
        found = adv.pass_at_k_advantage(group(*rewards), k)
        assert found == pytest.approx(pass_at_k_by_hand(rewards, k), abs=1e-9), (right, k)


def test_larger_k_looks_at_harder_problems() -> None:
    def strongest(k: int) -> int:
        def push(right: int) -> float:
            rewards = (1.0,) * right + (0.0,) * (32 - right)
            return math.fsum(map(abs, adv.pass_at_k_advantage(group(*rewards), k)))

        return max(range(33), key=push)

    assert [strongest(k) for k in (1, 8)] == [16, 4]


# unbiasedness by enumeration: a Bernoulli policy of logit theta, so grad log pi = r - p -------


def expected_gradient(
    n: int, p: float, advantages_of: Callable[[GroupRewards], Sequence[float]]
) -> float:
    """E[(1/n) sum_i A_i grad log pi(r_i)] over all 2^n outcomes."""
    terms = []
    for outcome in product((0.0, 1.0), repeat=n):
        weight = math.prod(p if r else 1 - p for r in outcome)
        found = advantages_of(group(*outcome))
        terms.append(weight * math.fsum(a * (r - p) for a, r in zip(found, outcome, strict=True)))
    return math.fsum(terms) / n


def series(p: float, order: int) -> float:
    """sum_{k <= order} (1/k) grad pass@k, with grad pass@k = k (1 - p)^(k - 1) p (1 - p)."""
    return math.fsum((1 - p) ** (k - 1) * p * (1 - p) for k in range(1, order + 1))


@pytest.mark.parametrize(("centred", "expected"), [(False, 0.53193), (True, 0.45990)])
def test_maxrl_of_four_replies(centred: bool, expected: float) -> None:
    assert expected_gradient(4, 0.3, lambda g: adv.maxrl(g, centred)) == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 3, 4, 6])
@given(p=probabilities)
def test_maxrl_is_unbiased_for_the_cut_series(n: int, p: float) -> None:
    plain = expected_gradient(n, p, lambda g: adv.maxrl(g, centre=False))
    centred = expected_gradient(n, p, lambda g: adv.maxrl(g, centre=True))
    assert plain == pytest.approx(series(p, n), rel=1e-9)
    assert centred == pytest.approx(series(p, n - 1), rel=1e-9)


def test_maxrl_approaches_the_log_likelihood() -> None:
    p = 0.6
    found = [expected_gradient(n, p, lambda g: adv.maxrl(g, centre=False)) for n in (2, 4, 8)]
    gaps = [(1 - p) - value for value in found]  # grad log p = 1 - p
    assert gaps == pytest.approx([(1 - p) ** (n + 1) for n in (2, 4, 8)])


@given(probabilities)
def test_maxrl_of_two_centred_is_reinforce_in_expectation(p: float) -> None:
    reinforce = expected_gradient(2, p, adv.reinforce)
    assert expected_gradient(2, p, adv.maxrl) == pytest.approx(reinforce)


@pytest.mark.parametrize("estimator", [s.Reinforce(), s.Reinforce(baseline=0.4), s.Rloo()])
@given(p=probabilities)
def test_unbiased_estimators_have_the_gradient_of_the_mean_reward(
    estimator: s.EstimatorSpec, p: float
) -> None:
    found = expected_gradient(4, p, lambda g: adv.estimate(estimator, g))
    assert found == pytest.approx(p * (1 - p))


@given(probabilities)
def test_dr_grpo_is_short_of_it_by_its_own_reply(p: float) -> None:
    found = expected_gradient(4, p, adv.dr_grpo)
    assert found == pytest.approx(p * (1 - p) * 3 / 4)


@pytest.mark.parametrize(("n", "k"), [(4, 1), (4, 2), (5, 3), (6, 4)])
@given(p=probabilities)
def test_pass_at_k_points_along_its_gradient(n: int, k: int, p: float) -> None:
    """Before the division by the deviation: (1/k - 1/n) grad pass@k, exactly."""

    def undivided(g: GroupRewards) -> list[float]:
        mean = pass_at_k(g.n, int(sum(g.rewards)), k)
        spread = math.sqrt(mean * (1 - mean))
        return [a * spread for a in adv.pass_at_k_advantage(g, k)]

    expected = (1 / k - 1 / n) * k * (1 - p) ** (k - 1) * p * (1 - p)
    assert expected_gradient(n, p, undivided) == pytest.approx(expected, rel=1e-7)
