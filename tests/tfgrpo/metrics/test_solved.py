from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.metrics.estimate import sign_flip_p
from tfgrpo.metrics.solved import mcnemar_p, solved_sets
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


def test_limit_of_rlvr_table_5() -> None:
    tasks = range(400, 450)
    base = {409, 432, 436, 448} | set(range(400, 409)) | set(range(410, 420))
    tuned = base - {409, 432, 436, 448} | {430}
    found = solved_sets(arm(base, tasks), arm(tuned, tasks))
    assert found.a_only == ("409", "432", "436", "448")
    assert found.b_only == ("430",)
    assert found.p_value == 0.375


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


def test_large_and_impossible_counts() -> None:
    assert mcnemar_p(0, 2000) == 0.0 or mcnemar_p(0, 2000) < 1e-300
    assert mcnemar_p(1, 5) == 2 * (comb(6, 0) + comb(6, 1)) / 64
    with pytest.raises(ValueError, match="counts >= 0"):
        mcnemar_p(-1, 3)
