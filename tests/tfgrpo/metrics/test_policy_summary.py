from __future__ import annotations

import math
from random import Random

import pytest

from tfgrpo.metrics.diversity import answer_entropy, distinct_correct_at_k, rarefied_entropy
from tfgrpo.metrics.pass_at_k import mean_pass_at_k
from tfgrpo.metrics.summary import compare, compare_averages, summarise
from tfgrpo.types import TaskOutcome


def outcome(task_id: str, n: int, skill: float, seed: int = 0, failures: int = 0) -> TaskOutcome:
    rng = Random(f"{task_id}-{seed}")
    correct = tuple(rng.random() < skill for _ in range(n))
    answers = tuple(rng.choice("ab") if ok else rng.choice(["7", "8", None]) for ok in correct)
    modes = tuple(rng.choice(["once", "columns", None]) for _ in correct)
    entropies = tuple(rng.random() for _ in correct)
    lengths = tuple(rng.randint(1, 9) for _ in correct)
    return TaskOutcome(
        task_id, "sum", correct, answers, modes, entropies, lengths, failures=failures
    )


def arm(size: int, n: int, skill: float, seed: int = 0) -> list[TaskOutcome]:
    return [outcome(f"t{i}", n, skill * (i % 5) / 4, seed) for i in range(size)]


def test_summary_agrees_with_the_formulas() -> None:
    outcomes = arm(12, 8, 0.6)
    s = summarise(outcomes, (1, 4, 8), seed=0)
    assert (s.n_tasks, s.n_samples) == (12, 96)
    for k in (1, 4, 8):
        assert s.pass_at_k[k].value == pytest.approx(mean_pass_at_k(outcomes, k))
        assert s.pass_at_k[k].low < s.pass_at_k[k].value < s.pass_at_k[k].high
        assert s.pass_at_k[k].n == 12
        for key, found in (("answers", s.distinct_correct), ("modes", s.distinct_modes)):
            values = [distinct_correct_at_k(o, k, key) for o in outcomes]  # type: ignore[arg-type]
            assert found[k].value == pytest.approx(sum(values) / 12)
    assert s.mean == s.pass_at_k[1]
    entropies = [answer_entropy(o.answers) for o in outcomes]
    assert s.answer_entropy.value == pytest.approx(sum(entropies) / 12)
    assert s.mean_length == sum(sum(o.lengths) for o in outcomes) / 96
    weighted = sum(
        h * t for o in outcomes for h, t in zip(o.entropies, o.lengths, strict=True) if h
    )
    assert s.token_entropy == pytest.approx(weighted / sum(sum(o.lengths) for o in outcomes))


def test_order_of_tasks_and_of_samples_does_not_matter() -> None:
    outcomes = arm(10, 6, 0.7)
    backwards = [
        TaskOutcome(
            o.task_id, o.dataset, o.correct[::-1], o.answers[::-1], o.modes[::-1],
            o.entropies[::-1], o.lengths[::-1],
        )
        for o in reversed(outcomes)
    ]  # fmt: skip
    forth, back = summarise(outcomes, (1, 4), 3), summarise(backwards, (1, 4), 3)
    assert forth.pass_at_k == back.pass_at_k
    assert forth.answer_entropy.low == pytest.approx(back.answer_entropy.low)
    assert forth.distinct_correct[4].high == pytest.approx(back.distinct_correct[4].high)
    other = arm(10, 6, 0.4, seed=1)
    assert compare(outcomes, other, (2,), 3)[0] == compare(backwards, other[::-1], (2,), 3)[0]


def test_summary_is_reproducible_by_seed() -> None:
    outcomes = arm(10, 6, 0.7)
    assert summarise(outcomes, (4,), 3) == summarise(outcomes, (4,), 3)
    assert summarise(outcomes, (4,), 3) != summarise(outcomes, (4,), 4)


def test_failures_are_counted_apart_and_never_wrong_answers() -> None:
    outcomes = [outcome("t0", 3, 1.0, failures=1), outcome("t1", 4, 1.0)]
    s = summarise(outcomes, (1, 2), seed=0)
    assert (s.mean.value, s.failures, s.n_samples) == (1.0, 1, 7)
    with pytest.raises(ValueError, match="1 of 2 tasks have fewer than 4"):
        summarise(outcomes, (4,), seed=0)
    assert summarise(outcomes, (4,), seed=0, allow_missing=True).pass_at_k[4].n == 1


def test_tasks_without_samples_are_dropped_only_when_allowed() -> None:
    outcomes = [*arm(4, 4, 0.5), TaskOutcome("broken", "sum", (), (), (), (), (), failures=4)]
    with pytest.raises(ValueError, match="1 of 5 tasks have fewer than 1"):
        summarise(outcomes, (1,), seed=0)
    s = summarise(outcomes, (1,), seed=0, allow_missing=True)
    assert (s.n_tasks, s.mean.n, s.failures) == (5, 4, 4)
    found = compare(
        outcomes, [outcome("broken", 4, 0.5), *arm(4, 4, 0.5)], (1,), 0, allow_missing=True
    )
    assert [c.difference.n for c in found] == [4] * 4


def test_a_policy_that_solves_nothing_still_has_an_interval() -> None:
    s = summarise([outcome(f"t{i}", 4, 0.0) for i in range(30)], (1, 4), seed=0)
    assert (s.pass_at_k[4].value, s.pass_at_k[4].low) == (0.0, 0.0)
    assert s.pass_at_k[4].high == pytest.approx(0.1157, abs=5e-5)
    assert s.distinct_correct[4].high == pytest.approx(4 * s.pass_at_k[4].high)


def test_a_policy_against_itself_differs_by_nothing() -> None:
    outcomes = arm(8, 4, 0.6)
    found = compare(outcomes, outcomes, (1, 2), seed=0)
    assert [c.name for c in found] == [
        "pass@1", "pass@2", "distinct_correct@1", "distinct_correct@2", "distinct_modes@1",
        "distinct_modes@2", "answer_entropy",
    ]  # fmt: skip
    for c in found:
        assert c.a == c.b
        assert (c.difference.low, c.difference.value, c.difference.high) == (0.0, 0.0, 0.0)
        assert c.p_value == 1.0


def test_swapping_policies_negates_every_difference() -> None:
    a, b = arm(15, 4, 0.9), arm(15, 4, 0.3, seed=1)
    for forth, back in zip(compare(a, b, (1, 4), 0), compare(b, a, (1, 4), 0), strict=True):
        assert (forth.a, forth.b, forth.p_value) == (back.b, back.a, back.p_value)
        assert forth.difference.value == -back.difference.value
        assert forth.difference.low == pytest.approx(-back.difference.high, abs=1e-9)


def test_a_clear_gain_is_found_in_the_right_direction() -> None:
    a = [outcome(f"t{i}", 8, 0.1) for i in range(40)]
    b = [outcome(f"t{i}", 8, 0.8) for i in range(40)]
    gain = compare(a, b, (1,), seed=0)[0]
    assert gain.difference.low > 0.5
    assert gain.p_value < 0.001


def test_only_shared_tasks_with_enough_samples_in_both_arms_count() -> None:
    a = [outcome("x", 8, 0.5), outcome("y", 8, 0.5), outcome("z", 8, 0.5), outcome("u", 2, 0.5)]
    b = [outcome("x", 8, 0.5), outcome("y", 8, 0.5), outcome("z", 2, 0.5), outcome("v", 2, 0.5)]
    with pytest.raises(ValueError, match="1 of 3 tasks have fewer than 4"):
        compare(a, b, (4,), seed=0)
    by_name = {c.name: c for c in compare(a, b, (1, 4), seed=0, allow_missing=True)}
    assert by_name["pass@1"].difference.n == 3
    assert by_name["pass@4"].difference.n == 2
    with pytest.raises(ValueError, match="share no task"):
        compare(a[3:], b[3:], (1,), seed=0)


def test_entropies_are_compared_at_a_common_number_of_samples() -> None:
    def uniform(task_id: str, n: int) -> TaskOutcome:
        none = (None,) * n
        answers = tuple(str(i % 4) for i in range(n))
        return TaskOutcome(task_id, "sum", (True,) * n, answers, none, none, (1,) * n)

    few, many = ([uniform(t, n) for t in "xyz"] for n in (4, 64))
    found = compare(few, many, (1,), seed=0)[-1]
    assert found.a == pytest.approx(math.log(4))
    assert found.b == pytest.approx(rarefied_entropy([16] * 4, 4))


def test_a_task_listed_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="listed twice"):
        summarise([outcome("x", 4, 0.5)] * 2, (1,), seed=0)


def test_averages_over_seeds_are_those_of_the_single_comparisons() -> None:
    base = arm(30, 16, 0.3)
    runs = [arm(30, 16, 0.5, seed) for seed in range(3)]
    averaged = {c.name: c for c in compare_averages([base] * 3, runs, (1, 8), 0)}
    single = [{c.name: c for c in compare(base, run, (1, 8), 0)} for run in runs]
    assert set(averaged) == {"pass@1", "pass@8", "distinct_correct@1", "distinct_correct@8"}
    for name, found in averaged.items():
        mean = sum(own[name].difference.value for own in single) / 3
        assert found.difference.value == pytest.approx(mean)
        widest = max(own[name].difference.high - own[name].difference.low for own in single)
        assert found.difference.high - found.difference.low < widest


def test_averages_leave_out_a_task_that_one_run_lacks_samples_of() -> None:
    full, short = arm(5, 8, 0.5), arm(5, 8, 0.5, 1)
    short[0] = outcome("t0", 4, 0.5)
    (at_1, at_8, *_) = compare_averages([full, full], [full, short], (1, 8), 0)
    assert (at_1.difference.n, at_8.difference.n) == (5, 4)
    with pytest.raises(ValueError, match="share no task with 16 samples"):
        compare_averages([full], [short], (16,), 0)
