"""Evaluation: one outcome for each problem, in their order, whatever comes first."""

from __future__ import annotations

import asyncio

from tfgrpo.evaluation import evaluate, outcome_of
from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.policy import BlockPolicy
from tfgrpo.prompts import load_pack
from tfgrpo.rewards.table import make_reward
from tfgrpo.rollout import Sampling, gold_grader
from tfgrpo.types import (
    ChatRequest,
    Completion,
    FailedRollout,
    Failure,
    Rollout,
    RolloutGroup,
    SamplingParams,
    Score,
    Task,
    TaskOutcome,
    Usage,
)

PACK = load_pack("default")
GRADER = gold_grader(make_reward("exact"))
TASKS = [Task(f"t{i}", f"problem {i}", str(i), "made-up", "test") for i in range(6)]


def number(request: ChatRequest) -> int:
    return int(request.messages[-1].content.split()[-1])


def test_outcomes_stand_in_the_order_of_the_tasks() -> None:
    model = ScriptedModel(
        lambda request, index: f"Answer: {number(request) + index}",
        latency=lambda request: 0.05 * (5 - number(request)),
    )
    arrived: list[str] = []
    outcomes = asyncio.run(
        evaluate(
            BlockPolicy(model, PACK), TASKS, GRADER, Sampling(2, SamplingParams(), "evaluate"),
            lambda group: arrived.append(group.task.task_id),
        )
    )  # fmt: skip
    assert arrived[0] == "t5"
    assert arrived[-1] == "t0"
    assert sorted(arrived) == [task.task_id for task in TASKS]
    assert [o.task_id for o in outcomes] == [task.task_id for task in TASKS]
    for i, outcome in enumerate(outcomes):
        assert (outcome.n, outcome.c, outcome.correct) == (2, 1, (True, False))
        assert outcome.answers == (str(i), str(i + 1))
    assert {call.phase for call in model.calls} == {"evaluate"}


def test_no_tasks_give_no_outcomes() -> None:
    model = ScriptedModel([])
    assert asyncio.run(
        evaluate(BlockPolicy(model, PACK), [], GRADER, Sampling(2, SamplingParams()))
    ) == ()  # fmt: skip


def test_an_outcome_holds_what_every_metric_needs() -> None:
    usage = Usage(calls=1, prompt_tokens=9, completion_tokens=3)
    hosted = Completion("z", "stop", Usage(), entropy_bounds=(0.1, 0.3))
    replies = [
        (Completion("x", "stop", usage, entropies=(0.5, 1.0)), Score(1.0, True, "4", "once")),
        (Completion("y", "length", Usage(completion_tokens=8)), Score(0.5, False, None)),
        (hosted, Score(0.0, False, "5", "columns")),
    ]
    group = RolloutGroup(
        TASKS[4],
        tuple(Rollout("t4", i, "p", c, s) for i, (c, s) in enumerate(replies)),
        (FailedRollout("t4", 3, "p", Failure("transport", "gone")),),
    )
    assert outcome_of(group) == TaskOutcome(
        task_id="t4",
        dataset="made-up",
        correct=(True, False, False),
        answers=("4", None, "5"),
        modes=("once", None, "columns"),
        entropies=(0.75, None, None),
        lengths=(3, 8, 0),
        truncated=1,
        failures=1,
        entropy_bounds=(None, None, (0.1, 0.3)),
    )


def test_a_problem_with_failures_alone_keeps_its_row() -> None:
    model = ScriptedModel(lambda request, index: Failure("refused", "no"))
    outcomes = asyncio.run(
        evaluate(BlockPolicy(model, PACK), TASKS[:2], GRADER, Sampling(3, SamplingParams()))
    )
    assert [(o.n, o.c, o.failures) for o in outcomes] == [(0, 0, 3)] * 2
