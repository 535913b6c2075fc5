"""How long a bench takes: arithmetic on made-up seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.forecast import (
    Rates,
    Work,
    cost_sentence,
    expected_seconds,
    remaining_seconds,
    spoken,
    work_of,
)
from cli.stages import Job, Order, plan_of
from cli.suites import CONTEXT, FULL

JOBS = (
    Job("learn", "", "learn", None),
    Job("a", "", "eval", None),
    Job("b", "", "eval", None, ("learn",)),
    Job("c", "", "eval", None, ("learn",)),
)
EXPECTED = {"learn": 100.0, "a": 50.0, "b": 50.0, "c": 50.0}


def test_the_work_of_the_full_suite() -> None:
    plan = plan_of(FULL, Order(Path("b"), 1, 200, 64))
    work = {job.name: work_of(job, plan) for job in plan.jobs}
    assert work["base"] == work["grpo+library-0"] == Work(sampled=200 * 64)
    assert work["learn-0"] == work["practice-0"] == Work(sampled=3 * 48 * 12)
    assert work["train-grpo-0"] == Work(stepped=20 * 16 * 16)
    assert work["imitate-rejection-0"] == Work(trained=2 * 0.5 * 3 * 48 * 12)
    assert work["imitate-distil-0"] == Work(sampled=200 * 16, trained=2 * 200 * 16)
    assert work["match-grpo-0"] == Work(sampled=8 * 32 * 8)
    expected = expected_seconds(plan, Rates(sampled=0.01, stepped=0.03))
    assert expected["base"] == pytest.approx(128)
    assert expected["train-grpo-0"] == pytest.approx(5120 * 0.03)
    assert expected["imitate-distil-0"] == pytest.approx(3200 * 0.01 + 6400 * 0.02)


def test_work_is_shared_by_the_processes_down_to_the_longest_job() -> None:
    assert remaining_seconds(JOBS, EXPECTED, {}, {}, 2) == 125
    assert remaining_seconds(JOBS, EXPECTED, {}, {}, 1) == 250
    assert remaining_seconds(JOBS, EXPECTED, {}, {}, 10) == 100


def test_what_is_over_corrects_what_is_to_come() -> None:
    twice = {"a": 100.0}  # evaluations take twice as long; of learning nobody knows better
    assert remaining_seconds(JOBS, EXPECTED, twice, {}, 2) == 200
    known = {"a": 100.0, "learn": 100.0}
    assert remaining_seconds(JOBS, EXPECTED, known, {}, 2) == 100
    assert remaining_seconds(JOBS, EXPECTED, known, {"b": 60.0}, 2) == 100
    assert remaining_seconds(JOBS, EXPECTED, known, {"b": 130.0, "c": 40.0}, 2) == 60
    assert remaining_seconds(JOBS, EXPECTED, dict.fromkeys(EXPECTED, 1.0), {}, 2) == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (90, "2 min"), (5400, "90 min"), (7500, "2 h 5 min")]
)
def test_times_as_people_say_them(seconds: float, text: str) -> None:
    assert spoken(seconds) == text


def test_a_price_bounds_the_cost_and_none_is_guessed() -> None:
    model = "model='openai/some'"

    def told(*flags: str) -> str | None:
        return cost_sentence(plan_of(CONTEXT, Order(Path("b"), 1, 100, 10, flags, "default")))

    tasks = ("tasks=sum", "train_limit=10", "epochs=1", "sampling.max_tokens=1000")
    # 10 problems x 8 to learn from, and three arms of 1000 replies.
    assert told(model, *tasks, "price.completion=2.0") == (
        "3080 replies cost at most $6.16; prompts and reflection add to it."
    )
    assert "is unknown; give --set price.prompt=USD" in (told(model, *tasks) or "")
    assert told(*tasks) is None
