from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.credit import Utility
from memory.read.rank import (
    ByModel,
    BySimilarity,
    ByValue,
    Candidate,
    Decision,
    ReadPolicy,
    Softmax,
    Thompson,
    TopK,
    rank,
    z_scores,
)
from memory.search.embed import unit_rows


def candidate(case_id: int, similarity: float, **fields: object) -> Candidate:
    return Candidate(case_id, similarity, **fields)


def by_id(decisions: tuple[Decision, ...]) -> dict[int, Decision]:
    return {d.case_id: d for d in decisions}


def reasons(candidates: list[Candidate], policy: ReadPolicy) -> dict[int, str | None]:
    return {d.case_id: d.reason for d in rank(candidates, policy).decisions}


SIMILAR = ReadPolicy(k=2, score=BySimilarity(), max_negative=None)
FOUR = [candidate(i, s) for i, s in [(4, 0.5), (1, 0.9), (3, 0.7), (2, 0.7)]]

finite = st.floats(-1, 1, allow_nan=False)
utilities = st.builds(
    lambda credits: sum_of(credits), st.lists(st.sampled_from([-0.5, 0.0, 0.25, 1.0]), max_size=4)
)
vectors = st.integers(0, 99).map(lambda s: unit_rows(np.random.default_rng(s).normal(size=(1, 3))))
candidate_lists = st.lists(
    st.builds(
        Candidate,
        case_id=st.integers(0, 20),
        similarity=finite | st.sampled_from([0.5, 0.9]),
        utility=utilities,
        prior=finite,
        positive=st.sampled_from([True, False, None]),
        tokens=st.integers(0, 30),
        source=st.sampled_from(["", "a", "b"]),
        blocked=st.sampled_from([None, None, "same item"]),
        vector=vectors.map(lambda rows: rows[0]),
        value=st.floats(0, 1) | st.sampled_from([0.2, 0.7]),
    ),
    max_size=12,
    unique_by=lambda c: c.case_id,
)
limits = {
    "k": st.integers(0, 6),
    "floor": st.sampled_from([-1.0, 0.5]),
    "max_positive": st.none() | st.integers(0, 3),
    "max_negative": st.none() | st.integers(0, 3),
    "per_source": st.none() | st.integers(0, 2),
    "diversity": st.sampled_from([0.0, 0.5]),
    "token_budget": st.none() | st.integers(0, 60),
}
values = st.builds(
    ByValue, weight=st.sampled_from([0.0, 0.5, 1.0]), exploration=st.sampled_from([0.0, 1.0])
)
policies = st.one_of(
    st.builds(
        ReadPolicy,
        score=values | st.sampled_from([BySimilarity(), ByModel()]),
        draw=st.sampled_from([TopK(), Softmax(0.3)]),
        **limits,
    ),
    st.builds(ReadPolicy, score=values, draw=st.just(Thompson()), **limits),
)


def sum_of(credits: list[float]) -> Utility:
    utility = Utility()
    for credit in credits:
        utility = utility.add(credit)
    return utility


def test_similarity_read_is_the_nearest_ties_by_id() -> None:
    ranking = rank(FOUR, SIMILAR)
    assert ranking.shown == (1, 2)
    assert [d.case_id for d in ranking.decisions] == [1, 2, 3, 4]
    assert [d.rank for d in ranking.decisions] == [0, 1, None, None]
    assert [d.reason for d in ranking.decisions] == [None, None, "outranked", "outranked"]
    assert [d.score for d in ranking.decisions] == [0.9, 0.7, 0.7, 0.5]


def test_value_read_blends_z_scores() -> None:
    """Golden values by hand: z of (0.2, 0.4, 0.6) is ±sqrt(3/2); U = 4 u0 / 4 without credits."""
    cases = [
        candidate(1, 0.2, prior=1.0),
        candidate(2, 0.4, utility=sum_of([1.0, 0.0, 0.5, 0.5]), prior=0.5),
        candidate(3, 0.6, prior=0.0),
    ]
    found = by_id(rank(cases, ReadPolicy(k=3, score=ByValue(weight=0.25))).decisions)
    assert [found[i].utility for i in (1, 2, 3)] == [1.0, 0.5, 0.0]
    assert [found[i].n for i in (1, 2, 3)] == [0, 4, 0]
    assert found[1].z_similarity == pytest.approx(-math.sqrt(1.5))
    assert found[1].z_utility == pytest.approx(math.sqrt(1.5))
    assert found[1].score == pytest.approx((-0.75 + 0.25) * math.sqrt(1.5))
    assert found[2].score == pytest.approx(0)
    assert [d.case_id for d in sorted(found.values(), key=lambda d: d.rank or 0)] == [3, 2, 1]


@pytest.mark.parametrize(("weight", "first"), [(0.0, 1), (1.0, 2)])
def test_the_weight_runs_from_similarity_to_utility(weight: float, first: int) -> None:
    cases = [candidate(1, 0.9, prior=-0.5), candidate(2, 0.6, prior=0.5)]
    assert rank(cases, ReadPolicy(k=1, score=ByValue(weight=weight))).shown == (first,)


def test_the_model_decides_alone_ties_by_id() -> None:
    """Neither likeness nor credits enter; the blocked and those below the floor stay out."""
    cases = [
        candidate(1, 0.9, value=0.2, prior=1.0),
        candidate(2, 0.5, value=0.8),
        candidate(3, 0.6, value=0.8, utility=sum_of([-1.0])),
        candidate(4, 0.7, value=0.99, blocked="same item"),
        candidate(5, 0.1, value=0.99),
    ]
    ranking = rank(cases, ReadPolicy(k=2, score=ByModel(), floor=0.3))
    assert ranking.shown == (2, 3)
    found = by_id(ranking.decisions)
    assert [found[i].score for i in (1, 2, 3, 4, 5)] == [0.2, 0.8, 0.8, None, None]
    assert found[3].z_utility is None


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_model_must_have_scored_every_candidate(value: float | None) -> None:
    cases = [candidate(1, 0.9, value=0.5), candidate(2, 0.8, value=value)]
    with pytest.raises(ValueError, match="scores every candidate"):
        rank(cases, ReadPolicy(score=ByModel()))
    assert rank(cases, SIMILAR).shown == (1, 2)


def test_a_constant_has_z_score_0() -> None:
    assert z_scores([0.1] * 3) == (0.0, 0.0, 0.0)
    assert z_scores([]) == ()
    assert z_scores([1.0, 3.0]) == (-1.0, 1.0)
    assert all(map(math.isfinite, z_scores([0.0, 5e-324])))


def test_the_bonus_lifts_what_was_rarely_tried() -> None:
    often, never = sum_of([0.0] * 8), Utility()
    cases = [candidate(1, 0.7, utility=often), candidate(2, 0.7, utility=never)]
    assert rank(cases, ReadPolicy(k=1)).shown == (1,)
    curious = rank(cases, ReadPolicy(k=1, score=ByValue(exploration=0.5)))
    assert curious.shown == (2,)
    found = by_id(curious.decisions)
    assert found[2].bonus == pytest.approx(0.5 * math.sqrt(math.log(9)))
    assert found[1].bonus == pytest.approx(0.5 * math.sqrt(math.log(9) / 9))


def test_few_credits_do_not_overturn_the_prior() -> None:
    """One lucky credit of 1 against prior 0.5 of a case with none: U = 0.2 < 0.5."""
    cases = [candidate(1, 0.7, utility=sum_of([1.0])), candidate(2, 0.7, prior=0.5)]
    value = ReadPolicy(k=1, score=ByValue(weight=1.0))
    assert rank(cases, value).shown == (2,)
    many = [replace(cases[0], utility=sum_of([1.0] * 8)), cases[1]]
    assert rank(many, value).shown == (1,)


@pytest.mark.parametrize(
    ("tau", "score"), [(0.2, BySimilarity()), (1.0, BySimilarity()), (0.5, ByModel())]
)
def test_softmax_draws_with_its_probabilities(tau: float, score: BySimilarity | ByModel) -> None:
    """Pairs without replacement: p(a) p(b) / (1 - p(a)), Plackett-Luce."""
    cases = [candidate(i, s, value=1 - s) for i, s in [(1, 0.9), (2, 0.7), (3, 0.4)]]
    policy = ReadPolicy(k=2, score=score, draw=Softmax(tau))
    draws = 4_000
    seen = [rank(cases, policy, seed).shown for seed in range(draws)]
    scores = {d.case_id: d.score for d in rank(cases, policy).decisions}
    weight = {case_id: math.exp(score / tau) for case_id, score in scores.items()}
    total = sum(weight.values())
    for first, second in permutations(weight, 2):
        p = weight[first] / total * weight[second] / (total - weight[first])
        error = math.sqrt(p * (1 - p) / draws)
        assert seen.count((first, second)) / draws == pytest.approx(p, abs=4 * error)


def test_a_cold_softmax_is_the_top_k() -> None:
    cold = replace(SIMILAR, draw=Softmax(1e-6))
    distinct = [candidate(i, i / 10) for i in range(5)]
    assert all(rank(distinct, cold, seed).shown == (4, 3) for seed in range(20))


def test_thompson_prefers_the_better_case_and_doubts_the_untried() -> None:
    good, bad = sum_of([0.5, 0.4] * 10), sum_of([-0.4, -0.5] * 10)
    policy = ReadPolicy(k=1, score=ByValue(weight=1.0), draw=Thompson())
    sure = [candidate(1, 0.7, utility=good), candidate(2, 0.7, utility=bad)]
    assert {rank(sure, policy, seed).shown for seed in range(200)} == {(1,)}
    unsure = [sure[0], candidate(3, 0.7, prior=0.3)]
    untried = sum(rank(unsure, policy, seed).shown == (3,) for seed in range(400))
    # N(0.375, 0.054^2) against N(0.3, 0.25^2): P(untried wins) = Phi(-0.075 / 0.256) = 0.385
    assert untried / 400 == pytest.approx(0.385, abs=0.1)


def test_the_luck_of_a_case_does_not_depend_on_its_company() -> None:
    policy = ReadPolicy(k=4, score=BySimilarity(), draw=Softmax(0.5))
    all_four, two = rank(FOUR, policy, 5).decisions, rank(FOUR[:2], policy, 5).decisions
    assert by_id(two)[1].noise == by_id(all_four)[1].noise != by_id(all_four)[2].noise


def test_quotas_pass_over_and_say_so() -> None:
    cases = [
        candidate(1, 0.9, positive=False),
        candidate(2, 0.8, positive=False),
        candidate(3, 0.7, positive=True),
        candidate(4, 0.6, positive=True),
        candidate(5, 0.5),
        candidate(6, 0.4),
    ]
    policy = ReadPolicy(k=3, score=BySimilarity(), max_negative=1, max_positive=1)
    assert rank(cases, policy).shown == (1, 3, 5)
    assert reasons(cases, policy) == {
        1: None,
        2: "quota of failures",
        3: None,
        4: "quota of successes",
        5: None,
        6: "outranked",
    }
    assert rank(cases, replace(policy, max_negative=0, k=6)).shown == (3, 5, 6)


def test_a_source_fills_its_quota_only_if_it_is_known() -> None:
    cases = [candidate(i, 1 - i / 10, source=s) for i, s in enumerate(["a", "a", "", "", "b"])]
    policy = ReadPolicy(k=5, score=BySimilarity(), per_source=1)
    assert rank(cases, policy).shown == (0, 2, 3, 4)
    assert reasons(cases, policy)[1] == "quota of its source"


def test_the_token_budget_is_hard_and_a_shorter_case_may_still_fit() -> None:
    cases = [candidate(i, 1 - i / 10, tokens=t) for i, t in enumerate([60, 50, 40, 1])]
    policy = ReadPolicy(k=4, score=BySimilarity(), token_budget=100)
    assert rank(cases, policy).shown == (0, 2)
    assert reasons(cases, policy) == {0: None, 1: "token budget", 2: None, 3: "token budget"}


def test_diversity_avoids_what_is_already_shown() -> None:
    directions = unit_rows(np.array([[1.0, 0.0], [0.99, 0.1], [0.0, 1.0]]))
    cases = [
        candidate(i, s, vector=v)
        for i, s, v in zip((1, 2, 3), (0.9, 0.85, 0.6), directions, strict=True)
    ]
    assert rank(cases, SIMILAR).shown == (1, 2)
    found = rank(cases, replace(SIMILAR, diversity=0.5))
    assert found.shown == (1, 3)
    assert by_id(found.decisions)[3].redundancy == pytest.approx(0)
    assert rank(cases, replace(SIMILAR, diversity=0.1)).shown == (1, 2)


def test_the_ineligible_are_reported_and_do_not_move_the_scores() -> None:
    unfit = [candidate(1, 0.9, blocked="same item"), candidate(2, 0.2)]
    cases = [*unfit, candidate(3, 0.7), candidate(5, 0.8)]
    policy = ReadPolicy(k=2, floor=0.5)
    ranking = rank(cases, policy)
    assert ranking.shown == (5, 3)
    assert reasons(cases, policy) == {
        5: None, 3: None, 1: "blocked: same item", 2: "below floor",
    }  # fmt: skip
    assert [d.case_id for d in ranking.decisions] == [5, 3, 1, 2]
    alone = by_id(rank(cases[2:], policy).decisions)
    for case_id, decision in alone.items():
        assert by_id(ranking.decisions)[case_id] == decision
    assert by_id(ranking.decisions)[1].score is None


def test_memory_off_shows_nothing() -> None:
    assert set(reasons(FOUR, ReadPolicy(k=0)).values()) == {"memory off"}
    assert rank([], SIMILAR).decisions == ()


@given(candidate_lists, policies, st.integers(0, 2**63 - 1), st.randoms(use_true_random=False))
def test_rank_is_a_pure_function_of_the_set(
    cases: list[Candidate], policy: ReadPolicy, seed: int, random: object
) -> None:
    first = rank(cases, policy, seed)
    shuffled = list(cases)
    random.shuffle(shuffled)
    np.random.seed(seed % 1000)  # no global state is read
    assert rank(shuffled, policy, seed) == first


@given(candidate_lists, policies, st.integers(0, 1000))
def test_every_ranking_keeps_its_promises(
    cases: list[Candidate], policy: ReadPolicy, seed: int
) -> None:
    decisions = rank(cases, policy, seed).decisions
    known = {c.case_id: c for c in cases}
    assert sorted(d.case_id for d in decisions) == sorted(known)
    assert all((d.rank is None) != (d.reason is None) for d in decisions)
    shown = [known[d.case_id] for d in decisions if d.rank is not None]
    assert [d.rank for d in decisions[: len(shown)]] == list(range(len(shown)))
    assert len(shown) <= policy.k
    assert all(c.blocked is None and c.similarity >= policy.floor for c in shown)
    for limit, count in (
        (policy.max_positive, sum(c.positive is True for c in shown)),
        (policy.max_negative, sum(c.positive is False for c in shown)),
        (policy.per_source, max(sum(c.source == s for c in shown) for s in "ab")),
        (policy.token_budget, sum(c.tokens for c in shown)),
    ):
        assert limit is None or count <= limit
    for d in decisions:
        if d.score is not None and isinstance(policy.score, ByValue):
            w = policy.score.weight
            assert d.score == (1 - w) * d.z_similarity + w * d.z_utility + d.bonus
            assert d.key == d.score + d.noise
    if any(d.reason == "outranked" for d in decisions):
        assert len(shown) == policy.k


@given(candidate_lists, st.integers(0, 100))
def test_without_chance_the_seed_changes_nothing(cases: list[Candidate], seed: int) -> None:
    assert rank(cases, ReadPolicy(), seed) == rank(cases, ReadPolicy(), 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"k": -1},
        {"max_negative": -1},
        {"diversity": -0.1},
        {"draw": Softmax(0.0)},
        {"draw": Softmax(math.nan)},
        {"draw": Thompson(), "score": BySimilarity()},
        {"draw": Thompson(), "score": ByModel()},
        {"score": ByValue(weight=1.1)},
        {"score": ByValue(exploration=-1.0)},
        {"score": ByValue(strength=0.0)},
    ],
)
def test_nonsense_cannot_be_written(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        ReadPolicy(**fields)


def test_candidates_are_checked() -> None:
    with pytest.raises(ValueError, match="once"):
        rank([FOUR[0], FOUR[0]], SIMILAR)
    with pytest.raises(ValueError, match="finite"):
        rank([candidate(1, math.nan)], SIMILAR)
    with pytest.raises(ValueError, match="vector"):
        rank(FOUR, replace(SIMILAR, diversity=0.5))
