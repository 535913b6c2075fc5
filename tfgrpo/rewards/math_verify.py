"""Grade mathematical answers: exactly where we can, by math-verify in a killable process otherwise.

math-verify hands model text to sympy, which can run for minutes on `9^{9^{9^9}}`, and its own time
limit works in a main thread only. So it runs in long-lived worker processes, one item at a time
each; a worker that exceeds its time is killed and replaced, and the item is a `Failure`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import queue
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

from tfgrpo.errors import ConfigError, GradingError
from tfgrpo.rewards.exact import (
    canonical_answer,
    canonical_number,
    canonical_string,
    exact_equal,
)
from tfgrpo.rewards.extract import extract_answer
from tfgrpo.types import Failure, Score, Task

MAX_ANSWER = 1000
START_TIMEOUT_S = 120.0

_ASSIGNED = re.compile(r"\s*[A-Za-z](?:\([A-Za-z]\))?\s*=([^=]*)")
_WORDS = re.compile(r"[A-Za-z]{3,}(?:[ '-][A-Za-z]+)*")


class MathVerifyReward:
    """1 for an answer equal to the gold, else 0; a context manager that owns its processes.

    Integers, rationals and equal texts are decided here; only the rest costs about a millisecond
    in a worker. Safe to call from several threads, of which `workers` grade at once. Raises
    ConfigError where math-verify is not installed, GradingError for a gold it cannot read.
    """

    def __init__(self, workers: int = 2, timeout_s: float = 6.0) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise ConfigError(
                "The reward 'math' needs math-verify, which is not installed; "
                "run: pip install 'tfgrpo[math]'"
            )
        self._workers = [_Worker(timeout_s) for _ in range(workers)]
        # Last in, first out: a second process starts only when two items are graded at once.
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the worker processes. An item in flight fails; a later one starts anew."""
        for worker in self._workers:
            worker.kill()

    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers that are running."""
        return tuple(pid for worker in self._workers if (pid := worker.pid) is not None)

    def read(self, text: str) -> str | None:
        """The canonical answer of a reply, which needs no gold."""
        answer = extract_answer(text).answer
        return None if answer is None else canonical_answer(answer)

    def score(self, task: Task, text: str) -> Score | Failure:
        if task.answer is None:
            raise GradingError(
                f"Task {task.task_id} of {task.dataset} has no gold answer; "
                "give it one, or learn by majority vote."
            )
        answer = extract_answer(text).answer
        if answer is None:
            return Score(0.0, False, None)
        return self._compare(task, task.answer, answer)

    def _compare(self, task: Task, gold: str, answer: str) -> Score | Failure:
        single = _single_answer(gold, answer)
        if single is None:
            return Score(0.0, False, canonical_answer(answer))
        if exact_equal(gold, single):
            return Score(1.0, True, canonical_answer(gold))
        both_numbers = canonical_number(gold) is not None and canonical_number(single) is not None
        if both_numbers or _WORDS.fullmatch(canonical_string(gold)):
            return Score(0.0, False, canonical_answer(single))
        worker = self._idle.get()
        try:
            verdict = worker.ask(gold.replace("$", ""), single)
        finally:
            self._idle.put(worker)
        if isinstance(verdict, Failure):
            return verdict
        if not verdict["gold_parsed"]:
            raise GradingError(
                f"math-verify cannot read the gold answer {gold!r} of task {task.task_id}; "
                "correct it, or grade this data with the reward 'exact'."
            )
        if verdict["correct"]:
            return Score(1.0, True, canonical_answer(gold))
        return Score(0.0, False, verdict["answer"] or canonical_answer(single))


def _single_answer(gold: str, answer: str) -> str | None:
    r"""The answer without `x =` before it; None where it offers math-verify a choice.

    math-verify takes the right end of `41 = 42` and the last line of `41 \\ 42`.
    """
    answer = answer.strip().removeprefix("$").removesuffix("$")
    if len(answer) > MAX_ANSWER or "$" in answer or "\n" in answer or r"\boxed" in answer:
        return None
    if r"\\" in answer and r"\begin{" not in answer:
        return None
    if "=" in answer and "=" not in gold:
        assigned = _ASSIGNED.fullmatch(answer)
        return assigned[1].strip() if assigned else None
    return answer


class _Worker:
    """One process, started on first use and after every death. Used by one thread at a time."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, gold: str, answer: str) -> dict[str, Any] | Failure:
        """The worker's verdict, or what became of it."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._start()
        line = json.dumps({"gold": gold, "answer": answer}).encode("ascii") + b"\n"
        reply, timed_out = _exchange(process, line, self._timeout_s)
        if timed_out or not reply:
            self.kill()
        if reply:
            verdict: dict[str, Any] = json.loads(reply)
            if "error" not in verdict:
                return verdict
            return Failure("grading", f"math-verify failed with {verdict['error']}")
        if timed_out:
            return Failure("grading", f"grading took longer than {self._timeout_s:g} s")
        return Failure("grading", f"the grading process died with code {process.returncode}")

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self.kill()
        script = Path(__file__).with_name("math_worker.py")
        # -P keeps this folder, whose math_verify.py is this file, off the child's module path.
        command = [sys.executable, "-P", str(script), str(math.ceil(self._timeout_s) + 5)]
        process = self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        ready, _ = _exchange(process, b"", START_TIMEOUT_S)
        if not ready:
            self.kill()
            raise GradingError(
                "The math-verify process does not start; check that "
                f"'{sys.executable} -c \"import math_verify\"' works."
            )
        return process


def _exchange(
    process: subprocess.Popen[bytes], line: bytes, timeout_s: float
) -> tuple[bytes, bool]:
    """Send `line` and read a reply: empty if the process died, with True if the time limit hit."""
    assert process.stdin is not None
    assert process.stdout is not None
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        process.kill()

    # The kill closes the pipe, which ends the read: a time limit without select or signals.
    timer = threading.Timer(timeout_s, expire)
    timer.start()
    try:
        process.stdin.write(line)
        process.stdin.flush()
        reply = process.stdout.readline()
    except (OSError, ValueError):
        reply = b""
    finally:
        timer.cancel()
        timer.join()
    return reply, expired.is_set()
