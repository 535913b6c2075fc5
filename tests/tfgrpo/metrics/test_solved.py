from __future__ import annotations

import math
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.metrics.estimate import sign_flip_p
from tfgrpo.metrics.solved import accuracy_histogram, mcnemar_mid_p, mcnemar_p, solved_sets
from tfgrpo.types import TaskOutcome


def arm(solved: set[int], tasks: range, c: int = 1) -> list[TaskOutcome]:
    none = (None,) * 4
    return [
        TaskOutcome(
            f"{i:03}", "aime", tuple(i in solved and j < c for j in range(4)), none, none, none,
            (1,) * 4,
        )
        for i in tasks
    ]  # fmt: skip


def test_limit_of_rlvr_table_4() -> None:
    base_only, neither = {4, 11, 17, 19}, set(range(23, 30))
    base = set(range(30)) - neither
    found = solved_sets(arm(base, range(30)), arm(base - base_only, range(30)))
    assert found.a_only == ("004", "011", "017", "019")
    assert (len(found.both), found.b_only, len(found.neither)) == (19, (), 7)
    assert found.p_value == 0.125
    assert found.mid_p == 0.0625
    assert (found.retained, found.discovered) == (19 / 23, 0.0)


def test_limit_of_rlvr_table_5() -> None:
    tasks = range(400, 450)
    base = {409, 432, 436, 448} | set(range(400, 409)) | set(range(410, 420))
    tuned = base - {409, 432, 436, 448} | {430}
    found = solved_sets(arm(base, tasks), arm(tuned, tasks))
    assert found.a_only == ("409", "432", "436", "448")
    assert found.b_only == ("430",)
    assert found.p_value == 0.375
    assert found.mid_p == 7 / 32
    assert (found.retained, found.discovered) == (19 / 23, 1 / 20)


def test_robust_solving_asks_for_more_than_one_lucky_sample() -> None:
    a, b = arm({0, 1}, range(3), c=2), arm({1, 2}, range(3), c=1)
    assert solved_sets(a, b).both == ("001",)
    robust = solved_sets(a, b, at_least=2)
    assert (robust.a_only, robust.neither) == (("000", "001"), ("002",))


def test_unequal_samples_are_set_aside_and_named() -> None:
    a, b = arm({0, 1}, range(3)), arm({0}, range(1, 4))
    short = TaskOutcome("001", "aime", (False,), (None,), (None,), (None,), (1,))
    found = solved_sets(a, [short, *b[1:]])
    assert found.unmatched == ("000", "001", "003")
    assert found.neither == ("002",)


@given(st.integers(0, 10), st.integers(0, 10))
def test_mcnemar_is_the_sign_flip_test_of_unit_differences(a: int, b: int) -> None:
    assert mcnemar_p(a, b) == mcnemar_p(b, a)
    assert mcnemar_p(a, b) == pytest.approx(sign_flip_p([0.0] + [-1.0] * a + [1.0] * b, seed=0))


@given(st.integers(0, 12), st.integers(0, 12))
def test_mid_p_takes_half_the_observed_weight(a: int, b: int) -> None:
    n = a + b
    pmf = [comb(n, i) / 2**n for i in range(n + 1)]
    at_least_as_far = sum(w for i, w in enumerate(pmf) if abs(2 * i - n) >= abs(a - b))
    as_far = sum(w for i, w in enumerate(pmf) if abs(2 * i - n) == abs(a - b))
    assert mcnemar_mid_p(a, b) == mcnemar_mid_p(b, a) <= mcnemar_p(a, b)
    if a != b:
        assert mcnemar_mid_p(a, b) == pytest.approx(at_least_as_far - as_far / 2)
    else:
        assert mcnemar_mid_p(a, b) == 1.0


def test_mid_p_is_nearer_the_nominal_level() -> None:
    """Rejections at 5% with 20 discordant problems under equal arms."""
    law = [comb(20, a) / 2**20 for a in range(21)]
    exact = sum(w for a, w in enumerate(law) if mcnemar_p(a, 20 - a) <= 0.05)
    mid = sum(w for a, w in enumerate(law) if mcnemar_mid_p(a, 20 - a) <= 0.05)
    assert exact == pytest.approx(0.0414, abs=5e-5)
    assert exact <= mid <= 0.05


def test_shares_of_nothing_are_undefined() -> None:
    found = solved_sets(arm(set(), range(3)), arm(set(), range(3)))
    assert math.isnan(found.retained)
    assert math.isnan(found.discovered)
    assert (found.p_value, found.mid_p) == (1.0, 1.0)


def test_histogram_of_accuracies() -> None:
    def task(n: int, c: int) -> TaskOutcome:
        none = (None,) * n
        return TaskOutcome("t", "sum", tuple(i < c for i in range(n)), none, none, none, (1,) * n)

    outcomes = [task(10, c) for c in range(11)] + [task(100, 29), task(100, 31), task(1000, 999)]
    assert accuracy_histogram(outcomes) == (1, 1, 1, 2, 2, 1, 1, 1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="1 of 2 tasks have fewer than 1"):
        accuracy_histogram([task(0, 0), task(1, 1)])


def test_large_and_impossible_counts() -> None:
    assert mcnemar_p(0, 2000) == 0.0 or mcnemar_p(0, 2000) < 1e-300
    assert mcnemar_p(1, 5) == 2 * (comb(6, 0) + comb(6, 1)) / 64
    with pytest.raises(ValueError, match="counts >= 0"):
        mcnemar_p(-1, 3)
