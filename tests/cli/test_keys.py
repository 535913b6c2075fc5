"""A planted API key is in nothing that a run leaves behind, however the run ends."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cli.wiring import build_backend
from tests.cli.spoken import command, voice
from tests.tfgrpo.llm.loopback import Answer, Body, Loopback
from tests.tfgrpo.llm.troubles import PASSING, plan
from tfgrpo.config import OpenAISpec
from tfgrpo.types import ChatRequest, Message, SamplingParams

KEY = "sk-planted-Zq81xW5mT0vB7nR4cY2k"
Process = AbstractContextManager[subprocess.Popen[bytes]]


def tfgrpo(folder: Path, *arguments: str, **variables: str) -> Process:
    return command(folder, *arguments, PLANTED_KEY=KEY, **variables)


def flags(url: str) -> list[str]:
    return [
        "learn", "--model", f"tiny@{url}", "--run", "run", "--tasks", "sum,product",
        "--limit", "4", "--batch-size", "4", "--group-size", "3", "--epochs", "1",
        "--max-connections", "2", "--set", "model.api_key_env='PLANTED_KEY'",
        "--set", "model.max_retries=2", "--set", "model.timeout_s=60",
    ]  # fmt: skip


def leaks(folder: Path) -> list[str]:
    """Files that hold any eight characters of the key's secret part."""
    secret = KEY.removeprefix("sk-planted-").encode()
    parts = [secret[i : i + 8] for i in range(len(secret) - 7)]
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(part in path.read_bytes() for part in parts)
    ]


def test_what_is_looked_for_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text(f"...{KEY[14:24]}...")
    assert leaks(tmp_path) == ["sub/a.txt"]


def echo(body: Body, index: int) -> str:
    """A model that repeats what a careless gateway has put into its prompt."""
    return f"Bearer {KEY}\n{voice(body, index)}"


DEBUG: Mapping[str, str] = {"OPENAI_LOG": "debug", "TFGRPO_DEBUG": "1"}


def test_a_run_that_succeeds(tmp_path: Path) -> None:
    kinds = [kind for kind in PASSING if "stall" not in kind and kind != "503 seconds"]
    with Loopback(reply=echo, plan=plan(0.1, kinds)) as server:
        server.faults += [Answer.error(500, f"key {KEY}"), Answer(200, f"<p>{KEY}".encode())]
        with tfgrpo(tmp_path, *flags(server.url), **DEBUG) as process:
            assert process.wait(120) == 0
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert (tmp_path / "run" / "ledger.json").is_file()
    assert leaks(tmp_path) == []


INCORRECT = Answer.error(401, f"Incorrect API key: {KEY}")
HTML = Answer(200, b"<html>" + b"x" * 180 + KEY.encode())


@pytest.mark.parametrize(
    ("answer", "code", "words", "variables"),
    [
        pytest.param(INCORRECT, 1, "Error: http", {}, marks=pytest.mark.slow),
        pytest.param(INCORRECT, 1, "Traceback", DEBUG),
        pytest.param(HTML, 0, "No lesson was learned", DEBUG, marks=pytest.mark.slow),
    ],
    ids=["401", "401 traceback", "HTML"],
)
def test_a_run_that_fails(
    answer: Answer, code: int, words: str, variables: Mapping[str, str], tmp_path: Path
) -> None:
    with (
        Loopback(always=answer) as server,
        tfgrpo(tmp_path, *flags(server.url), **variables) as process,
    ):
        assert process.wait(120) == code
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert words in (tmp_path / "stderr.txt").read_text()
    assert (tmp_path / "run" / "config.json").is_file()
    assert leaks(tmp_path) == []


def test_a_run_that_is_killed(tmp_path: Path) -> None:
    with (
        Loopback(reply=echo, delay_s=0.2) as server,
        tfgrpo(tmp_path, *flags(server.url)) as process,
    ):
        while len(server.bodies) < 5:
            assert process.poll() is None
            server.rest(0.01)
        process.kill()
        assert process.wait(60) == -9
    assert (tmp_path / "run" / "calls.sqlite-wal").stat().st_size > 0
    assert leaks(tmp_path) == []


@pytest.mark.parametrize(("variable", "key"), [("OPENAI_API_KEY", "EMPTY"), ("PLANTED_KEY", KEY)])
def test_the_key_of_the_openai_api_stays_at_home(
    variable: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key goes to the host of a URL only from a variable that was named for it."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("PLANTED_KEY", KEY)
    request = ChatRequest((Message("user", "What is 1+1?"),), SamplingParams())
    with Loopback() as server:
        spec = OpenAISpec(model="tiny", base_url=server.url, api_key_env=variable)
        asyncio.run(build_backend(spec).complete(request))
    assert server.keys == [f"Bearer {key}"]
