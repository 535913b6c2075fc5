"""Code of replies: found, run against the tests, limited, and killed with all that it started."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from tfgrpo.errors import ConfigError, GradingError
from tfgrpo.protocols import Reward
from tfgrpo.rewards.code import CodeReward, extract_code
from tfgrpo.types import Failure, Score, Task

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


@pytest.fixture(scope="module")
def reward() -> CodeReward:
    return CodeReward(allow=True, cpu_seconds=5, wall_seconds=60, memory_mb=512)


def task(tests: object = ("assert f(2) == 4", "assert f(3) == 9")) -> Task:
    return Task("t1", "Square it.", None, "code", "train", {"tests": tests})


def fenced(code: str) -> str:
    return f"Here it is.\n```python\n{code}\n```\n"


def test_it_must_be_allowed() -> None:
    with pytest.raises(ConfigError, match=r"reward\.allow_code_execution=true"):
        CodeReward()


def test_a_sandbox_that_does_not_work_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"does not work here .*raise reward\.memory_mb"):
        CodeReward(allow=True, memory_mb=1)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("```\nx = 1\n```", "x = 1"),
        ("~~~\nx\n~~~", None),
        ("first\n```py\na\n```\nthen\n```Python3\nb\n\nc\n```\nend", "b\n\nc"),
        ("```python\na\n```\n```bash\nls\n```", "a"),
        ("  ```python\n  a\n  ```", "  a"),
        ("```python\na", None),
        ("<think>\n```python\na\n```\n</think>\n```python\nb\n```", "b"),
        ("```python\na\n```</think>done", None),
        ("<think>```python\na\n```", None),
        ("x = 1", None),
        ("", None),
    ],
)
def test_the_last_block_of_python_is_the_code(text: str, code: str | None) -> None:
    assert extract_code(text) == code


def test_right_and_wrong(reward: CodeReward) -> None:
    assert isinstance(reward, Reward)
    right = reward.score(task(), fenced("def f(x):\n    return x * x"))
    assert isinstance(right, Score)
    assert (right.reward, right.correct) == (1.0, True)
    wrong = reward.score(task(), fenced("def f(x):\n    return x + x"))
    assert wrong == Score(0.0, False, reward.read(task(), fenced("def f(x):\n    return x + x")))
    assert reward.score(task(), "I cannot.") == Score(0.0, False, None)
    assert reward.score(task("assert f(1) == 1"), fenced("f = abs")) == Score(
        1.0, True, reward.read(task(), fenced("f = abs   "))
    )


@pytest.mark.parametrize("tests", [None, "", [], [" "], [3], {"a": "b"}])
def test_a_task_without_tests_is_told_before_the_run(reward: CodeReward, tests: object) -> None:
    with pytest.raises(ConfigError, match="has no tests to run code against; give each row"):
        reward.check(task(tests))
    with pytest.raises(GradingError, match="t1 of code has no tests"):
        reward.score(task(tests), fenced("x = 1"))
    reward.check(task())


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "print('loaded')\nprint('{}')\nraise SystemExit",
        "def f(:",
        "x = '\ud800'",
        "input()",
        "x = bytearray(10 ** 10)",
        "def f(n):\n    return f(n)\nf(0)",
        "open('big', 'wb').write(bytes(2 << 20))",
        "import builtins\nbuiltins.exec = builtins.compile = None",
    ],
)
def test_code_that_breaks_ends_or_takes_too_much_is_wrong(reward: CodeReward, code: str) -> None:
    assert reward.passes(code, ["pass"]) is False


def test_what_it_prints_and_writes_stays_inside(reward: CodeReward) -> None:
    code = "import os, sys\nprint('x' * 10 ** 6)\nopen('note', 'w').write('x')\nhere = os.listdir()"
    names = {"PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LC_CTYPE"}
    tests = ["assert here == ['note']", f"assert set(os.environ) <= {names}"]
    assert reward.passes(code, tests) is True


def test_it_runs_as_no_main_program_and_tests_share_its_names(reward: CodeReward) -> None:
    code = "seen = []\nif __name__ == '__main__':\n    raise SystemExit\n"
    assert reward.passes(code, ["seen.append(1)", "assert seen == [1]"]) is True


def test_no_network_where_the_system_lets_it_go(reward: CodeReward) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)"
        assert reward.passes(code, ["pass"]) is not reward.offline


def test_time_of_the_processor_is_limited() -> None:
    reward = CodeReward(allow=True, cpu_seconds=1, wall_seconds=600)
    code = "import time\nwhile time.process_time() < 20:\n    pass"
    assert reward.passes(code, ["pass"]) is False


@pytest.mark.slow
def test_time_on_the_clock_is_limited() -> None:
    reward = CodeReward(allow=True, wall_seconds=15)
    assert reward.passes("import time\ntime.sleep(60)", ["pass"]) is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_nothing_that_it_started_lives_on(reward: CodeReward) -> None:
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    code = (
        "import os, sys, time\n"
        "try:\n    child = os.fork()\nexcept OSError:\n    child = 1\n"
        "if child == 0:\n    os.setsid()\n"
        f"    os.execv({sys.executable!r}, [{sys.executable!r}, '-c',"
        f" 'import time; time.sleep(600)', '{mark}'])\n"
        "time.sleep(0.3)\n"
    )
    if os.geteuid() == 0 and not reward.offline:
        pytest.skip("root without name spaces is held by nothing, as the module says")
    assert reward.passes(code, ["pass"]) is True
    # The kernel ends a name space soon after its first process, not at the same moment.
    for _ in range(300):
        if not _alive(mark):
            break
        time.sleep(0.1)
    assert _alive(mark) == []


def _alive(mark: str) -> list[Path]:
    return [p for p in Path("/proc").glob("[0-9]*/cmdline") if mark.encode() in _read(p)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_process_that_does_not_start_is_a_failure(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    reward = CodeReward(allow=True, python=str(python))
    assert reward.passes("x = 1", ["pass"]) is True
    python.write_text("#!/bin/sh\nexit 0\n")
    unstarted = Failure("grading", "the process that runs the code did not start")
    assert reward.passes("x = 1", ["pass"]) == unstarted
    assert reward.score(task(), fenced("x = 1")) == unstarted
