"""Models that take a single temperature: said at once, and how to go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import Cli
from tests.cli.spoken import voice
from tests.tfgrpo.llm.loopback import Loopback

FLAGS = [
    "--tasks", "sum,product", "--limit", "4", "--batch-size", "4", "--group-size", "4",
    "--epochs", "1",
]  # fmt: skip


def test_learning_stops_at_once_and_goes_on_at_that_temperature(cli: Cli, tmp_path: Path) -> None:
    def learn(url: str, run: str, *more: str) -> str:
        ended = cli("learn", "--model", f"tiny@{url}", *FLAGS, "--run", tmp_path / run, *more)
        return f"{ended.code} {' '.join(ended.err.split())}"

    with Loopback(reply=voice, only={"temperature": 1.0}) as server:
        stopped = learn(server.url, "cold")
        assert stopped.startswith("1 ")
        assert "does not take temperature 0.2" in stopped
        assert stopped.endswith("set reflection.temperature to what it takes.")
        assert learn(server.url, "warm", "--set", "reflection.temperature=1.0").startswith("0 ")
    assert {body["temperature"] for body in server.bodies} == {0.2, 1.0}


def test_a_run_without_a_lesson_says_why(cli: Cli, tmp_path: Path) -> None:
    def silent(body: dict[str, object], index: int) -> str:
        said = voice(body, index)
        return said if said.startswith("Step by step") else "I cannot say."

    with Loopback(reply=silent) as server:
        ended = cli("learn", "--model", f"tiny@{server.url}", *FLAGS, "--run", tmp_path / "run")
    assert ended.code == 0
    said = " ".join(ended.err.split())
    assert "No lesson was learned. Groups:" in said
    assert " mixed" in said
    assert "most often (" in said


def test_the_doctor_takes_a_key_for_a_url(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_KEY", "sk-of-the-host")
    with Loopback() as server:
        ended = cli("doctor", f"tiny@{server.url}", "--set", "model.api_key_env=HOST_KEY")
    assert ended.code == 0
    assert set(server.keys) == {"Bearer sk-of-the-host"}
