from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from memory.credit import (
    GroupCredit,
    Shown,
    Utility,
    credit_group,
    fold,
    leave_one_out,
    memory_off,
    on_off_effect,
)
from memory.read.rank import BySimilarity, Candidate, ReadPolicy, Softmax, rank

rewards = st.sampled_from([0.0, 0.25, 0.5, 1.0])
groups = st.lists(
    st.builds(
        Shown,
        reward=st.none() | rewards,
        cases=st.lists(st.integers(0, 6), max_size=3, unique=True).map(tuple),
    ),
    max_size=8,
)


def test_leave_one_out_by_hand() -> None:
    assert leave_one_out([1.0, 0.0, 0.0, 1.0]) == pytest.approx((2 / 3, -2 / 3, -2 / 3, 2 / 3))
    assert leave_one_out([1.0, 0.0]) == (1.0, -1.0)


@pytest.mark.parametrize("group", [[], [1.0], [0.1] * 3, [0.0] * 8])
def test_no_spread_no_advantage(group: list[float]) -> None:
    assert leave_one_out(group) == (0.0,) * len(group)


@given(st.lists(rewards, min_size=2, max_size=9))
def test_leave_one_out_is_its_definition(group: list[float]) -> None:
    for i, advantage in enumerate(leave_one_out(group)):
        others = group[:i] + group[i + 1 :]
        assert advantage == pytest.approx(group[i] - sum(others) / len(others), abs=1e-12)


@given(groups, st.integers(-8, 8))
def test_the_difficulty_of_an_item_cancels(group: list[Shown], shift: int) -> None:
    easier = [
        Shown(None if r.reward is None else r.reward + shift, r.cases) for r in group
    ]  # fmt: skip
    first, second = credit_group(group), credit_group(easier)
    assert first.informative == second.informative
    assert first.credits.keys() == second.credits.keys()
    for case, credits in first.credits.items():
        assert second.credits[case] == pytest.approx(credits, abs=1e-9)


def test_only_shown_cases_are_credited_each_with_its_rollouts() -> None:
    group = credit_group([Shown(1.0, (7, 8)), Shown(0.0, (8,)), Shown(0.0, ()), Shown(1.0, (9,))])
    assert set(group.credits) == {7, 8, 9}
    assert group.credits[7] == group.credits[9] == pytest.approx((2 / 3,))
    assert group.credits[8] == pytest.approx((2 / 3, -2 / 3))
    shared = credit_group([Shown(1.0, (7, 8)), Shown(0.0, (8,))], divide=True)
    assert shared.credits == {7: (0.5,), 8: (0.5, -1.0)}


def test_an_unscored_rollout_is_no_reward_of_0() -> None:
    group = credit_group([Shown(1.0, (1,)), Shown(None, (2,)), Shown(0.0, (3,))])
    assert group == GroupCredit({1: (1.0,), 3: (-1.0,)}, informative=True, unscored=1)


@pytest.mark.parametrize(
    "group",
    [
        [],
        [Shown(1.0, (1,))],
        [Shown(1.0, (1,)), Shown(None, (2,))],
        [Shown(0.5, (1,)), Shown(0.5, (2,)), Shown(0.5, ())],
    ],
)
def test_an_all_equal_group_credits_nothing_and_is_counted(group: list[Shown]) -> None:
    credit = credit_group(group)
    assert credit.credits == {}
    assert not credit.informative
    assert fold([credit], {1: Utility(2, 0.5)}) == {1: Utility(2, 0.5)}


@given(groups)
def test_what_every_rollout_was_shown_earns_nothing(group: list[Shown]) -> None:
    common = [Shown(r.reward, (*r.cases, 99)) for r in group]
    credits = credit_group(common).credits.get(99, ())
    assert math.fsum(credits) == pytest.approx(0, abs=1e-12)


def test_rollouts_are_checked() -> None:
    with pytest.raises(ValueError, match="name it once"):
        credit_group([Shown(1.0, (1, 1))])
    with pytest.raises(ValueError, match="finite"):
        credit_group([Shown(math.nan, (1,)), Shown(0.0)])
    with pytest.raises(ValueError, match="finite"):
        Utility().add(math.inf)


credit_lists = st.lists(st.floats(-10, 10), max_size=20)


@given(credit_lists, credit_lists)
def test_welford_is_the_mean_and_variance(left: list[float], right: list[float]) -> None:
    def total(credits: list[float]) -> Utility:
        return fold([GroupCredit({1: tuple(credits)}, True, 0)]).get(1, Utility())

    whole, merged = total(left + right), total(left).merge(total(right))
    assert whole.n == merged.n == len(left + right)
    if whole.n:
        for each in (whole, merged):
            assert each.mean == pytest.approx(np.mean(left + right), abs=1e-9)
    if whole.n >= 2:
        for each in (whole, merged):
            assert each.variance == pytest.approx(np.var(left + right, ddof=1), abs=1e-9)


def test_welford_keeps_digits_where_sums_of_squares_lose_them() -> None:
    utility = Utility()
    for credit in (1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16):
        utility = utility.add(credit)
    assert utility.variance == 30.0


@given(st.lists(groups, max_size=5), st.integers(0, 5))
def test_folding_in_two_parts_is_folding_at_once(parts: list[list[Shown]], cut: int) -> None:
    credits = [credit_group(group) for group in parts]
    assert fold(credits[cut:], fold(credits[:cut])) == fold(credits)


def test_a_variance_needs_two() -> None:
    with pytest.raises(ValueError, match="two credits"):
        _ = Utility(1, 0.5, 0.0).variance


def test_shrinkage_by_hand() -> None:
    assert Utility().shrunk(prior=0.3) == pytest.approx(0.3)
    assert Utility(4, 1.0).shrunk(prior=0.0) == 0.5
    assert Utility(12, 1.0).shrunk(prior=-1.0) == 0.5
    assert Utility(1, 1.0).shrunk(prior=0.0, strength=1.0) == 0.5


def test_certainty_grows_with_credits() -> None:
    assert Utility().standard_error() == pytest.approx(0.25)
    assert Utility(12, 0.0, 3.0).standard_error() == pytest.approx(0.125)
    assert Utility(12, 0.0, 0.0).standard_error() < 0.125


@given(st.integers(0, 12), st.fractions(0, 1, max_denominator=16), st.integers(0, 99))
def test_the_share_without_memory_is_kept(size: int, share: Fraction, seed: int) -> None:
    off = memory_off(size, float(share), seed)
    assert off == memory_off(size, float(share), seed)
    assert off <= set(range(size))
    assert math.floor(size * share) <= len(off) <= math.ceil(size * share)


def test_a_fractional_share_is_met_on_average_by_every_rollout_alike() -> None:
    drawn = [memory_off(6, 1 / 8, seed) for seed in range(4_000)]
    for rollout in range(6):
        assert np.mean([rollout in off for off in drawn]) == pytest.approx(1 / 8, abs=0.02)
    assert {len(memory_off(8, 1 / 8, seed)) for seed in range(50)} == {1}
    for bad in (-0.1, 1.1):
        with pytest.raises(ValueError, match="share"):
            memory_off(8, bad, 0)


def test_the_interval_by_hand() -> None:
    """Differences 0.5, 0, 1: mean 1/2, deviation 1/2, t(0.975, 2) = 4.302653."""
    effect = on_off_effect(
        [([1.0, 0.0], [0.0]), ([1.0], [1.0, 1.0]), ([1.0], [0.0]), ([], [1.0]), ([0.0], [])]
    )
    assert effect.value == pytest.approx(0.5)
    assert effect.high - effect.value == pytest.approx(4.302653 * 0.5 / math.sqrt(3), abs=1e-6)
    assert effect.value - effect.low == pytest.approx(effect.high - effect.value)
    assert (effect.items, effect.left_out, effect.harmful) == (3, 2, False)


def test_an_effect_needs_two_items() -> None:
    with pytest.raises(ValueError, match="two items"):
        on_off_effect([([1.0], [0.0]), ([1.0], [])])
    with pytest.raises(ValueError, match="level"):
        on_off_effect([([1.0], [0.0])] * 2, level=95)


def practice(effect: float, items: int, seed: int) -> list[tuple[list[float], list[float]]]:
    """Items of very different difficulty, 8 rollouts each, 1 of them without memory."""
    rng = np.random.default_rng(seed)
    pairs = []
    for item in range(items):
        base = rng.uniform(0.2, 0.8)
        off = memory_off(8, 1 / 8, seed=1000 * seed + item)
        won = rng.random(8) < [base + effect * (i not in off) for i in range(8)]
        pairs.append(
            ([float(w) for i, w in enumerate(won) if i not in off], [float(won[i]) for i in off])
        )
    return pairs


@pytest.mark.parametrize("planted", [-0.15, 0.0, 0.15])
def test_a_planted_effect_lies_in_its_interval(planted: float) -> None:
    """95 % intervals of 200 practices: 3 binomial errors around 190."""
    effects = [on_off_effect(practice(planted, 100, seed)) for seed in range(200)]
    covered = sum(e.low <= planted <= e.high for e in effects)
    assert 181 <= covered <= 199
    assert np.mean([e.value for e in effects]) == pytest.approx(planted, abs=0.012)


def test_harmful_memory_is_recognised() -> None:
    assert on_off_effect(practice(-0.2, 300, 1)).harmful
    assert not on_off_effect(practice(0.2, 300, 1)).harmful


@dataclass(frozen=True)
class World:
    """100 cases on 10 topics. Hard topics are hard whatever their cases do."""

    effects: np.ndarray  # (100,)
    difficulty: np.ndarray  # (10,)
    hubness: np.ndarray  # (100,): some cases are near to everything

    @staticmethod
    def make(rng: np.random.Generator) -> World:
        return World(rng.normal(0, 0.7, 100), rng.normal(0, 1.5, 10), rng.normal(0, 1, 100))


READ = ReadPolicy(k=2, score=BySimilarity(), draw=Softmax(1e3), max_negative=None)


def simulate(seed: int, questions: int) -> tuple[float, float, float]:
    """Spearman correlation of utilities with the true effects of the cases.

    Of (the nearest cases and raw outcomes, drawn cases and raw outcomes, drawn cases and
    leave-one-out advantages).
    """
    rng = np.random.default_rng(seed)
    world = World.make(rng)
    raw = np.zeros((100, 2))  # sum of rewards, count
    drawn_raw: dict[int, Utility] = {}
    credited: dict[int, Utility] = {}
    for question in range(questions):
        topic = int(rng.integers(10))
        similarity = world.hubness[10 * topic : 10 * topic + 10] + rng.normal(0, 1, 10)
        nearest = 10 * topic + np.argsort(-similarity)[:8]
        base = -world.difficulty[topic] + rng.normal(0, 0.5)

        top = nearest[:2]
        won = rng.random(8) < 1 / (1 + np.exp(-base - world.effects[top].sum()))
        raw[top] += won.sum(), 8

        candidates = [Candidate(int(case), 0.0) for case in nearest]
        drawn = [rank(candidates, READ, seed=1000 * question + i).shown for i in range(8)]
        logits = base + world.effects[np.array(drawn)].sum(axis=1)
        won = rng.random(8) < 1 / (1 + np.exp(-logits))
        group = [Shown(float(w), cases) for w, cases in zip(won, drawn, strict=True)]
        credited = fold([credit_group(group)], credited)
        outcomes = [GroupCredit(dict.fromkeys(r.cases, (r.reward,)), True, 0) for r in group]
        drawn_raw = fold(outcomes, drawn_raw)
    mean = np.divide(raw[:, 0], raw[:, 1], out=np.full(100, 0.5), where=raw[:, 1] > 0)
    arms = [
        mean,
        [drawn_raw[case].mean if case in drawn_raw else 0.5 for case in range(100)],
        [credited.get(case, Utility()).shrunk() for case in range(100)],
    ]
    nearest_raw, random_raw, advantage = (spearmanr(a, world.effects).statistic for a in arms)
    return nearest_raw, random_raw, advantage


def test_leave_one_out_finds_good_cases_where_raw_outcomes_find_easy_topics() -> None:
    """300 questions of 8 rollouts, 2 of 8 cases each; difficulty is confounded with the topic."""
    found = np.array([simulate(seed, questions=300) for seed in range(4)])
    nearest_raw, random_raw, advantage = found.mean(axis=0)
    assert advantage > nearest_raw + 0.15
    assert advantage > random_raw + 0.15
    assert advantage > 0.6
    assert (found[:, 2] > found[:, :2].max(axis=1)).all()
