"""Costs are averaged over seeds; budgets that differ are told; break-even solves its equation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tfgrpo.verdict.outcomes import arms, evaluation
from tfgrpo.types import Usage
from tfgrpo.verdict.arms import Arm, Cost
from tfgrpo.verdict.costs import break_even, mean_cost, unmatched


def cost(generated: int, flops: int, serving_flops: int, queries: int = 10) -> Cost:
    making = {"rollout": Usage(calls=1, completion_tokens=generated)}
    rollouts = generated // 10
    return Cost(making, Usage(), queries, queries, rollouts, flops, serving_flops, None)


def arm(name: str, *costs: Cost | None) -> Arm:
    runs = [replace(evaluation(name, [1], seed=i), cost=c) for i, c in enumerate(costs)]
    return arms(*runs)[0]


def test_costs_are_averaged_over_seeds() -> None:
    found = mean_cost(arm("a", cost(100, 10, 4), cost(300, 30, 8)))
    assert found is not None
    assert found.making["rollout"].completion_tokens == 200
    assert (found.rollouts, found.flops, found.serving_flops) == (20, 20, 6)
    assert found.usd is None


def test_one_seed_without_a_ledger_leaves_the_cost_unknown() -> None:
    assert mean_cost(arm("a", cost(100, 10, 4), None)) is None


def test_unequal_budgets_are_told_and_equal_ones_are_not() -> None:
    both = [arm("a", cost(100, 10, 4)), arm("b", cost(300, 11, 4)), arm("c", cost(110, 11, 4))]
    (told,) = unmatched(both, [("a", "b"), ("a", "c"), ("b", "nobody")])
    assert told == (
        "The budgets of a and b are not matched: b took 3 times the rollouts, "
        "3 times the generated tokens."
    )


def test_it_is_told_from_when_on_the_dearer_one_pays() -> None:
    both = [arm("a", cost(100, 10, 400)), arm("b", cost(300, 5010, 300))]
    (told,) = unmatched(both, [("a", "b")])
    # 5000 FLOPs more to make, 10 fewer for each of the queries.
    assert told.endswith(" b costs fewer FLOPs in all from 500 queries on.")


FLOPS = st.integers(0, 10**6)


@given(FLOPS, FLOPS, FLOPS, FLOPS)
def test_break_even_is_where_the_totals_meet(a: int, b: int, serve_a: int, serve_b: int) -> None:
    x, y = cost(10, a, serve_a), cost(10, b, serve_b)
    found = break_even(x, y)

    def total(made: int, served: int, queries: float) -> float:
        return made + served / 10 * queries

    if found is None:
        # b never gets cheaper, or is cheaper only until a catches up.
        assert b > a or serve_b > serve_a
    elif found == 0:
        assert b <= a
        assert serve_b <= serve_a
    else:
        assert total(a, serve_a, found) == pytest.approx(total(b, serve_b, found))
        assert total(b, serve_b, found + 100) < total(a, serve_a, found + 100)


def test_break_even_needs_known_costs() -> None:
    assert break_even(replace(cost(1, 1, 1), flops=None), cost(1, 1, 1)) is None
    assert break_even(cost(1, 1, 1, queries=0), cost(1, 2, 1)) is None
