"""Python code in replies, graded by the tests of the task, in a process that can be killed.

This is a guard against accidents, not against attacks: limits of CPU, memory, files and time, no
network where the system lets an ordinary process give it up, an empty environment and a folder of
its own. Code that means harm can read what its user can read. Give a model that you do not trust a
container, and an ordinary user: root is not held to the limit on processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tfgrpo.errors import ConfigError, GradingError
from tfgrpo.seeding import stable_hash
from tfgrpo.types import Failure, Score, Task

LONGEST_REPORT = 200
# Libraries that start threads of their own would meet the limit on processes.
ENVIRONMENT = {"PATH": os.defpath, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class CodeReward:
    """1 for a reply whose code passes all tests in its task's metadata `tests`, else 0.

    `tests` are Python statements, one text or a list, that run after the code in its name space.
    Code that breaks, hangs, or exceeds a limit is wrong; only a process that does not start is a
    `Failure`. `python` runs it. Raises ConfigError unless `allow` is true, or where that does not
    work.
    """

    def __init__(
        self,
        allow: bool = False,
        cpu_seconds: int = 10,
        wall_seconds: float = 60,
        memory_mb: int = 1024,
        python: str = sys.executable,
    ) -> None:
        if not allow:
            raise ConfigError(
                "The reward 'code' runs what a model wrote on this machine; set "
                "reward.allow_code_execution=true where that may be."
            )
        if os.name != "posix":
            raise ConfigError("The reward 'code' needs Linux or macOS; grade this data elsewhere.")
        worker = Path(__file__).with_name("code_worker.py")
        bounds = (str(cpu_seconds), str(memory_mb << 20))
        self._command = (python, "-I", str(worker), *bounds)
        self._wall_seconds = wall_seconds
        # As many at once as there are processors: waiting for one is not the code's own time.
        self._places = threading.BoundedSemaphore(os.cpu_count() or 1)
        self.offline = False
        verdicts = [self.passes("x = 6 * 7", [f"assert x == {n}"]) for n in (42, 43)]
        if verdicts != [True, False]:
            said = next((v.reason for v in verdicts if isinstance(v, Failure)), "a wrong verdict")
            raise ConfigError(
                f"The process that runs a reply's code does not work here ({said}); check that "
                f"'{python} -I -c pass' works, or raise reward.memory_mb."
            )

    def read(self, task: Task, text: str) -> str | None:
        """A name for the code in a reply, by which equal programs are counted."""
        code = extract_code(text)
        return None if code is None else stable_hash([line.rstrip() for line in code.split("\n")])

    def check(self, task: Task) -> None:
        """Raise ConfigError unless this task has tests."""
        try:
            tests_of(task)
        except GradingError as error:
            raise ConfigError(str(error)) from error

    def score(self, task: Task, text: str) -> Score | Failure:
        tests = tests_of(task)
        code = extract_code(text)
        if code is None:
            return Score(0.0, False, None)
        passed = self.passes(code, tests)
        if isinstance(passed, Failure):
            return passed
        return Score(float(passed), passed, self.read(task, text))

    def passes(self, code: str, tests: Sequence[str]) -> bool | Failure:
        """Whether `code` and then every test run to their end within the limits."""
        with self._places, TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            process = subprocess.Popen(
                self._command,
                cwd=folder,
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            timer = threading.Timer(self._wall_seconds, _kill, [process])
            timer.start()
            try:
                return self._examine(process, code, tests)
            finally:
                timer.cancel()
                timer.join()
                _kill(process)
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    with contextlib.suppress(OSError):
                        if pipe is not None:
                            pipe.close()

    def _examine(
        self, process: subprocess.Popen[bytes], code: str, tests: Sequence[str]
    ) -> bool | Failure:
        begun = _exchange(process, None)
        if not begun.startswith(b"{"):
            return Failure("grading", "the process that runs the code did not start")
        self.offline = bool(json.loads(begun)["offline"])
        if _exchange(process, code) != b"loaded":
            return False
        token = secrets.token_hex(16)
        return _exchange(process, {"tests": tests, "token": token}) == token.encode()


def extract_code(text: str) -> str | None:
    """The last fenced block of Python in a reply, after its reasoning; None without one.

    A block counts as Python if its fence says so, or says nothing.
    """
    _, closed, reply = text.rpartition("</think>")
    if not closed and text.lstrip().startswith("<think>"):
        return None
    lines = reply.split("\n")
    found: str | None = None
    opened: int | None = None
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if opened is None:
            opened = number
            continue
        language = lines[opened].strip().strip("`").strip().lower()
        if language in ("", "python", "python3", "py"):
            found = "\n".join(lines[opened + 1 : number])
        opened = None
    return found


def tests_of(task: Task) -> list[str]:
    """Raises GradingError if the task has none."""
    tests = task.metadata.get("tests")
    listed = [tests] if isinstance(tests, str) else tests
    if not isinstance(listed, list | tuple) or not listed:
        raise GradingError(_no_tests(task))
    if not all(isinstance(test, str) and test.strip() for test in listed):
        raise GradingError(_no_tests(task))
    return list(listed)


def _no_tests(task: Task) -> str:
    return (
        f"The task {task.task_id} of {task.dataset} has no tests to run code against; give each "
        'row "metadata": {"tests": ["assert f(2) == 4"]}, or choose another reward.'
    )


def _exchange(process: subprocess.Popen[bytes], order: Any) -> bytes:
    """Send an order, if any, and read a report: empty if the process is gone."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if order is not None:
            process.stdin.write(json.dumps(order).encode("ascii") + b"\n")
            process.stdin.flush()
        return process.stdout.readline(LONGEST_REPORT).rstrip(b"\n")
    except OSError:
        return b""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and all it has started; it leads a group, and must not be waited for yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
