"""math-verify behind a process boundary: right where it is right, and killable."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tfgrpo.errors import GradingError
from tfgrpo.rewards.math_verify import MathVerifyReward
from tfgrpo.types import Failure, Score, Task

pytest.importorskip("math_verify")

TOWER = r"\boxed{9^{9^{9^{9}}}}"


def task(gold: str | None) -> Task:
    return Task("t1", "?", gold, "maths", "test")


@pytest.fixture(scope="module")
def reward() -> Iterator[MathVerifyReward]:
    with MathVerifyReward(workers=2, timeout_s=30) as made:
        yield made


@pytest.mark.parametrize(
    ("gold", "reply", "correct"),
    [
        ("42", "Answer: 42.0", True),
        ("42", "Answer: x = 42", True),
        ("42", r"\boxed{6 \cdot 7}", True),
        ("1/2", r"\boxed{\frac{2}{4}}", True),
        (r"\frac{\sqrt{2}}{2}", r"\boxed{\frac{1}{\sqrt{2}}}", True),
        ("x^2+2x+1", r"\boxed{(x+1)^2}", True),
        (r"\{1,2\}", r"\boxed{\{2,1\}}", True),
        ("(1,2)", "Answer: (1, 2)", True),
        ("(1,2)", "Answer: [1, 2]", False),
        (r"\text{Even}", "Answer: even", True),
        ("five", "Answer: 5", False),
        ("five", "Answer: vife", False),
        ("42", "Answer: 43", False),
        ("42", "no answer", False),
        ("42", "Answer: 41 = 42", False),
        ("42", r"Answer: 41 \\ 42", False),
        ("42", r"\boxed{41 \text{ or } 42}", False),
        ("42", r"\boxed{41} \boxed{42}", False),
        ("42", "Answer: $41$ or $42$", False),
        ("42", "Answer: " + "4" * 10_000, False),
        ("42", r"\boxed{\frac}", False),
    ],
)
def test_verdicts(reward: MathVerifyReward, gold: str, reply: str, correct: bool) -> None:
    score = reward.score(task(gold), reply)
    assert isinstance(score, Score)
    assert (score.correct, score.reward) == (correct, float(correct))


def test_equal_answers_are_counted_under_one_name(reward: MathVerifyReward) -> None:
    replies = [r"\boxed{\sqrt{2}/2}", r"\boxed{1/\sqrt{2}}"]
    scores = [reward.score(task(r"\frac{\sqrt{2}}{2}"), reply) for reply in replies]
    assert len({score.answer for score in scores if isinstance(score, Score)}) == 1
    assert reward.read("Answer: 1,000") == "1000"


@pytest.mark.parametrize("gold", [None, r"\frac", "$$"])
def test_a_gold_that_cannot_be_read_aborts(reward: MathVerifyReward, gold: str | None) -> None:
    with pytest.raises(GradingError, match=r"task t1\b|Task t1 of maths has no gold"):
        reward.score(task(gold), "Answer: 1")


def test_an_item_out_of_time_is_killed_and_the_next_one_is_graded() -> None:
    with MathVerifyReward(workers=1, timeout_s=1) as reward:
        hung = reward.score(task("42"), TOWER)
        assert hung == Failure("grading", "grading took longer than 1 s")
        after = reward.score(task("x+1"), r"\boxed{1+x}")
        assert isinstance(after, Score)
        assert after.correct


def test_a_killed_process_is_a_failure_and_is_replaced() -> None:
    outcomes: list[Score | Failure] = []
    with MathVerifyReward(workers=1, timeout_s=20) as reward:
        grading = threading.Thread(target=lambda: outcomes.append(reward.score(task("42"), TOWER)))
        assert isinstance(reward.score(task("x"), r"\boxed{y}"), Score)
        grading.start()
        time.sleep(0.5)
        (pid,) = reward.pids()
        os.kill(pid, signal.SIGKILL)
        grading.join()
        assert outcomes == [Failure("grading", "the grading process died with code -9")]
        assert isinstance(reward.score(task("x"), r"\boxed{y}"), Score)


def test_closing_leaves_no_process() -> None:
    with MathVerifyReward() as reward:
        reward.score(task("x"), r"\boxed{y}")
        (pid,) = reward.pids()
    assert reward.pids() == ()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_threads_share_the_workers(reward: MathVerifyReward) -> None:
    outcomes: dict[int, Score | Failure] = {}

    def grade(i: int) -> None:
        outcomes[i] = reward.score(task(f"x+{i}"), rf"\boxed{{{i % 3}+x}}")

    threads = [threading.Thread(target=grade, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    correct = [i for i in range(6) if isinstance(s := outcomes[i], Score) and s.correct]
    assert correct == [0, 1, 2]
