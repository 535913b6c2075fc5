"""Rewards of a user: what they may say, and the signatures of other libraries."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tfgrpo.modules import install
from tfgrpo.errors import ConfigError
from tfgrpo.evaluation import outcome_of
from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.policy import BlockPolicy
from tfgrpo.prompts import load_pack
from tfgrpo.protocols import Reward
from tfgrpo.rewards.adapters import STYLES
from tfgrpo.rewards.custom import FunctionReward, load_reward
from tfgrpo.rollout import Sampling, gold_grader, sample_group
from tfgrpo.types import Failure, SamplingParams, Score, Task

TASK = Task("t1", "How far?", "42", "made-up", "train", {"unit": "km", "solution": "6 * 7"})
REPLY = "So it is far.\nAnswer: 42"


def said(value: object, threshold: float | None = None) -> Score | Failure:
    reward = FunctionReward("m:f", lambda text, answer, task: value, threshold=threshold)
    return reward.score(TASK, REPLY)


# what a reward may say ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, 1, 1.0, np.float32(1), np.bool_(True), np.array(1.0)])
def test_one_is_right_and_zero_is_wrong(value: object) -> None:
    assert said(value) == Score(1.0, True, "42")
    assert said(0 if isinstance(value, int) else value * 0) == Score(0.0, False, "42")  # type: ignore[operator]


def test_other_numbers_need_a_threshold() -> None:
    assert said(0.5, 0.5) == Score(0.5, True, "42")
    assert said(0.49, 0.5) == Score(0.49, False, "42")
    assert said(-3, -4) == Score(-3.0, True, "42")
    assert said(Fraction(1, 4), 0.2) == Score(0.25, True, "42")
    assert said(True, 2.0) == Score(1.0, False, "42")
    for value in (0.5, -1, 2):
        with pytest.raises(ConfigError, match=r"m:f gave \S+, .* set reward\.threshold"):
            said(value)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-9, 9))
def test_a_threshold_decides_and_the_reward_stands(value: float, threshold: float) -> None:
    assert said(value, threshold) == Score(value, value >= threshold, "42")


def test_a_score_stands_as_it_is() -> None:
    score = Score(0.3, True, "far", mode="guess")
    assert said(score) is score


@pytest.mark.parametrize(
    "value",
    [None, "1", [1.0], {"score": 1}, math.nan, math.inf, np.nan, 1j, Score(math.nan, True, None),
     Score("1", True, None)],  # type: ignore[arg-type]
)  # fmt: skip
def test_whatever_else_it_says_is_a_failure(value: object) -> None:
    failed = said(value, threshold=0.5)
    assert isinstance(failed, Failure)
    assert failed.stage == "grading"
    assert failed.reason.startswith("m:f gave ")


def test_what_it_raises_is_a_failure_and_never_a_zero() -> None:
    def reward(text: str, answer: str | None, task: Task) -> bool:
        raise KeyError("line one\nline two")

    failed = FunctionReward("m:f", reward).score(TASK, REPLY)
    assert failed == Failure("grading", "m:f failed with KeyError: 'line one\\nline two'")
    assert len(said("x" * 9999).reason) <= 200  # type: ignore[union-attr]


def test_failures_of_a_reward_are_counted_and_no_row_is_lost() -> None:
    def reward(text: str, answer: str | None, task: Task) -> bool:
        return float(text) == float(answer or "nan")

    policy = BlockPolicy(ScriptedModel(["42", "41", "forty-two", "42.0"]), load_pack("abacus"))
    grader = gold_grader(FunctionReward("m:f", reward))
    sampling = Sampling(4, SamplingParams(seed=1))
    group = asyncio.run(sample_group(policy, TASK, grader, sampling))
    assert (group.n, group.c, group.rewards) == (3, 2, (1.0, 0.0, 1.0))
    (failed,) = group.failures
    assert (failed.index, failed.failure.stage) == (2, "grading")
    assert outcome_of(group).failures == 1


def test_a_reward_that_needs_a_threshold_stops_the_run() -> None:
    policy = BlockPolicy(ScriptedModel(["42"]), load_pack("abacus"))
    grader = gold_grader(FunctionReward("m:f", lambda text, answer, task: 0.5))
    with pytest.raises(ConfigError, match=r"reward\.threshold"):
        asyncio.run(sample_group(policy, TASK, grader, Sampling(1, SamplingParams())))


def test_the_answer_is_that_of_the_reply() -> None:
    reward = FunctionReward("m:f", lambda text, answer, task: True)
    assert isinstance(reward, Reward)
    assert reward.score(TASK, "nothing") == Score(1.0, True, None)
    assert reward.read(TASK, r"\boxed{1,000}") == "1000"


# signatures of other libraries --------------------------------------------------------------------

Seen = dict[str, Any]


def seen_by(style: str, write: Callable[[Seen], Callable[..., Any]], task: Task = TASK) -> Seen:
    """What a function of `style` is given for one reply; it must be graded right."""
    seen: Seen = {}
    reward = FunctionReward("m:f", write(seen), style)
    reward.check(task)
    assert reward.score(task, REPLY) == Score(1.0, True, "42")
    return seen


def test_our_own() -> None:
    def write(seen: Seen) -> Callable[..., Any]:
        def reward(text: str, answer: str, task: Task) -> bool:
            seen.update(text=text, answer=answer, task=task)
            return True

        return reward

    assert seen_by("tfgrpo", write) == {"text": REPLY, "answer": "42", "task": TASK}


def test_trl_gets_lists_and_every_column() -> None:
    def write(seen: Seen) -> Callable[..., Any]:
        def reward(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
            seen.update(prompts=prompts, completions=completions, **columns)
            return [1.0] * len(completions)

        return reward

    assert seen_by("trl", write) == {
        "prompts": ["How far?"], "completions": [REPLY], "answer": ["42"], "ground_truth": ["42"],
        "solution": ["6 * 7"], "unit": ["km"],
    }  # fmt: skip


def test_trl_chat_gets_messages_and_only_what_it_names() -> None:
    def write(seen: Seen) -> Callable[..., Any]:
        def accuracy(completions: list[list[dict[str, str]]], unit: list[str]) -> Any:
            seen.update(
                said=completions[0][0]["content"], role=completions[0][0]["role"], unit=unit
            )
            return np.ones(1)

        return accuracy

    assert seen_by("trl-chat", write) == {"said": REPLY, "role": "assistant", "unit": ["km"]}


@pytest.mark.parametrize("answer", [1.0, {"score": 1.0, "acc": True}])
def test_verl(answer: object) -> None:
    def write(seen: Seen) -> Callable[..., Any]:
        def compute_score(
            data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None
        ) -> object:
            seen.update(a=data_source, b=solution_str, c=ground_truth, d=extra_info)
            return answer

        return compute_score

    expected = {"a": "made-up", "b": REPLY, "c": "42", "d": dict(TASK.metadata)}
    assert seen_by("verl", write) == expected
    named = replace(TASK, metadata={"data_source": "math_dapo"})
    assert seen_by("verl", write, named)["a"] == "math_dapo"


class Feedback:
    score = 1.0
    feedback = "well done"


@pytest.mark.parametrize("answer", [True, 1, Feedback(), {"score": 1, "feedback": "well done"}])
def test_dspy_and_gepa(answer: object) -> None:
    def write(seen: Seen) -> Callable[..., Any]:
        def metric(
            gold: Any, pred: Any, trace: Any, pred_name: Any = "", pred_trace: Any = 1
        ) -> Any:
            seen.update(q=gold.question, a=gold["answer"], unit=gold.unit, trace=trace)
            seen.update(said=pred.answer, all=pred.text, name=pred_name, more=hasattr(gold, "x"))
            return answer

        return metric

    assert seen_by("dspy", write) == {
        "q": "How far?", "a": "42", "unit": "km", "trace": None, "said": "42", "all": REPLY,
        "name": "", "more": False,
    }  # fmt: skip


def test_dspy_finds_an_empty_answer_where_a_reply_has_none() -> None:
    reward = FunctionReward("m:f", lambda ex, pred, trace=None: pred.answer.lower() == "x", "dspy")
    assert reward.score(TASK, "no answer") == Score(0.0, False, None)


@pytest.mark.parametrize("wait", [False, True])
def test_verifiers_by_name_also_asynchronous(wait: bool) -> None:
    def write(seen: Seen) -> Callable[..., Any]:
        def reward(completion: Any, answer: str, state: Any, info: Any) -> float:
            seen.update(said=completion[-1]["content"], a=answer, info=info, task=state["task"])
            seen.update(prompt=state["prompt"])
            return 1.0

        async def later(completion: Any, answer: str, state: Any, info: Any) -> float:
            await asyncio.sleep(0)
            return reward(completion, answer, state, info)

        return later if wait else reward

    assert seen_by("verifiers", write) == {
        "said": REPLY, "a": "42", "info": dict(TASK.metadata), "task": "made-up",
        "prompt": [{"role": "user", "content": "How far?"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("style", "function", "message"),
    [
        ("tfgrpo", lambda text: 1, r"m:f\(text\) cannot be called \(too many positional"),
        (
            "trl",
            lambda completions, level: [1],
            r"missing .*'level'.* is answer, completions, ground_",
        ),
        ("trl", lambda completions, completion_ids: [1], r"missing .*'completion_ids'"),
        ("verl", lambda solution_str, ground_truth: 1, r"cannot be called \(got an unexpected"),
        ("dspy", lambda example: 1, r"too many positional"),
        ("verifiers", lambda completion, parser: 1, r"missing .*'parser'.* name another style"),
    ],
)
def test_a_signature_that_does_not_fit_is_told_before_the_run(
    style: str, function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        FunctionReward("m:f", function, style).check(TASK)


@pytest.mark.parametrize(
    ("style", "answer"),
    [("trl", 1.0), ("trl", [1.0, 1.0]), ("trl", []), ("trl", None), ("trl", [None]),
     ("verl", {"acc": 1}), ("dspy", {}), ("dspy", None), ("verifiers", [1.0])],
)  # fmt: skip
def test_an_answer_of_another_form_is_a_failure(style: str, answer: object) -> None:
    reward = FunctionReward("m:f", lambda *args, **kwargs: answer, style)
    assert isinstance(reward.score(TASK, REPLY), Failure)


def test_functions_that_tell_no_signature_are_called_all_the_same() -> None:
    assert FunctionReward("m:f", max, "verifiers").check(TASK) is None


def test_rewards_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def f(completions, **columns):\n    return [0.75]\n"
    install(monkeypatch, tmp_path, code, rewards__near="users_own:f")
    for target in ("users_own:f", "plugin:near"):
        reward = load_reward(target, "trl", 0.7)
        assert reward.name == f"trl:{target}"
        assert reward.score(TASK, REPLY) == Score(0.75, True, "42")
    assert set(STYLES) == {"tfgrpo", "trl", "trl-chat", "verl", "dspy", "verifiers"}
