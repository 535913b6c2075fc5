"""The same learning run over HTTP, against real servers that serve the pocket model."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from baselines.config import TrainSpec
from baselines.methods import POCKET
from cli.training import build_trainer
from cli.wiring import abacus_path
from tfgrpo.experience.files import load_library
from tfgrpo.llm.openai_compat import OpenAIChat
from tfgrpo.llm.transformers_local import TransformersChat
from tfgrpo.protocols import ChatModel
from tfgrpo.runs import RunDir
from tfgrpo.settings import load, merged
from tfgrpo.types import ChatRequest, Completion, Message, SamplingParams

VLLM = "TFGRPO_VLLM_PYTHON"
PROBLEMS, GROUP = 6, 6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (abacus_path() / "config.json").is_file(), reason="the weights of Abacus are missing"
    ),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def serving(command: Sequence[str], port: int, folder: Path) -> Iterator[str]:
    """The base URL of a server that `command` starts, which never outlives the block."""
    log = folder / "server.log"
    caches = folder / "hf"
    (caches / "hub").mkdir(parents=True)
    env = {**os.environ, "HF_HOME": str(caches), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    env |= {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, env=env, stdout=stream, stderr=stream, start_new_session=True, cwd=folder
        )
    try:
        deadline = time.monotonic() + 600
        while not healthy(port):
            ended = server.poll() is not None or time.monotonic() > deadline
            assert not ended, f"The server did not start:\n{log.read_text()[-2000:]}"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(20)


def tfgrpo(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def learn(model: str, run: Path, *flags: str) -> dict[str, Any]:
    """Learn through the command; returns the ledger after checks that hold for any server."""
    small = ("--limit", str(PROBLEMS), "--batch-size", "3", "--group-size", str(GROUP))
    settings = ("--preset", "abacus", "--tasks", "product,sum", "--epochs", "1")
    tfgrpo("learn", "--model", model, "--run", run, *settings, *small, *flags)
    opened = RunDir.open(run)
    groups = list(opened.read_rows("groups.jsonl"))
    assert len(groups) == PROBLEMS
    for group in groups:
        assert [r["index"] for r in group["rollouts"]] == list(range(GROUP))
        assert not group["failures"]
    # A group may agree, but a server that ignored the temperature would make all of them agree.
    assert any(len({r["text"] for r in group["rollouts"]}) > 1 for group in groups)
    assert load_library(run).active
    ledger: dict[str, Any] = opened.read_json("ledger.json")
    assert {"rollout", "summarise", "compare"} <= set(ledger)
    assert all(line["prompt_tokens"] and line["completion_tokens"] for line in ledger.values())
    return ledger


def verdicts(model: str) -> dict[str, bool | None]:
    return {row["name"]: row["supported"] for row in json.loads(tfgrpo("doctor", model, "--json"))}


def test_transformers_serve_which_ignores_n(tmp_path: Path) -> None:
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        pytest.skip(f"transformers serve needs {', '.join(missing)}: pip install 'tfgrpo[serve]'")
    weights, port = str(abacus_path()), free_port()
    script = str(Path(sys.executable).with_name("transformers"))
    flags = ("--host", "127.0.0.1", "--port", str(port), "--device", "cpu")
    with serving([script, "serve", weights, *flags], port, tmp_path) as url:
        model = f"{weights}@{url}"
        # Seeds are the server's own global state: only one request after another is repeatable.
        ledger = learn(model, tmp_path / "run", "--max-connections", "1")
        assert ledger["rollout"]["calls"] == PROBLEMS * GROUP
        found = verdicts(model)
    assert [found[name] for name in ("n", "logprobs", "json_schema")] == [False] * 3
    for name in ("reachable", "temperature 0", "temperature 1", "seed", "max_tokens", "usage"):
        assert found[name] is True, name


def vllm(port: int) -> list[str]:
    """The command that serves the pocket model as `abacus`, without further flags.

    On a CPU vLLM dies of a request with a seed whose prompt is read in more than one step.
    """
    python = os.environ.get(VLLM)
    if not python:
        pytest.skip(f"set {VLLM} to the python of an environment that holds vLLM")
    flags = (
        "--model", str(abacus_path()), "--served-model-name", "abacus", "--host", "127.0.0.1",
        "--port", str(port), "--max-model-len", "1024", "--enforce-eager", "--block-size", "32",
        "--no-enable-chunked-prefill",
    )  # fmt: skip
    return [python, "-m", "vllm.entrypoints.openai.api_server", *flags]


def test_vllm_which_shares_a_prompt_and_caches_prefixes(tmp_path: Path) -> None:
    port = free_port()
    flags = ("--enable-prefix-caching", "--enable-prompt-tokens-details")
    with serving([*vllm(port), *flags], port, tmp_path) as url:
        model, run = f"abacus@{url}", tmp_path / "run"
        ledger = learn(model, run)
        assert ledger["rollout"]["calls"] == PROBLEMS
        assert sum(line["cached_tokens"] for line in ledger.values()) > 0
        settings = ("--tasks", "product,sum", "--set", "pack=abacus", "--max-tokens", "192")
        size = ("--limit", "4", "--n", "4", "--json", "--run", tmp_path / "eval")
        shown = tfgrpo("eval", "--policy", run, "--model", model, *settings, *size)
        assert json.loads(shown)["summary"]["n_samples"] == 16
        found = verdicts(model)
    unsure = {name for name, supported in found.items() if supported is not True}
    assert unsure <= {"json_schema", "json_object"}
    assert False not in found.values()


def greedy(chat: ChatModel) -> list[str]:
    """What it says to some sums; one after another, as any company could change a rounding."""

    async def go() -> list[str]:
        texts = []
        for question in ("12+35", "7*8", "91-45", "3*14", "sort 3 1 2"):
            message, params = Message("user", question), SamplingParams(0.0, max_tokens=16)
            (reply,) = await chat.complete(ChatRequest((message,), params))
            assert isinstance(reply, Completion)
            texts.append(reply.text)
        return texts

    return asyncio.run(go())


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
def test_vllm_which_serves_trained_adapters_beside_their_base(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    port = free_port()
    command = vllm(port)
    settings = {"prompts": 4, "group_size": 4, "train_limit": 12, "sampling": {"max_tokens": 40}}
    adapters = {"lora": {"rank": 4, "alpha": 8}, "optimiser": {"lr": 0.1}}
    trainer = build_trainer(load(TrainSpec, None, (), merged(POCKET, settings | adapters)))
    trainer.step()
    trainer.accelerator.unwrap_model(trainer.module).model.save_pretrained(tmp_path / "adapters")
    trainer.export(tmp_path / "weights")
    flags = ("--dtype", "float32", "--enable-lora", "--max-lora-rank", "8")
    modules = ("--lora-modules", f"trained={tmp_path / 'adapters'}")
    with serving([*command, *flags, *modules], port, tmp_path) as url:
        served = {name: greedy(OpenAIChat(name, url)) for name in ("abacus", "trained")}
    for name, folder in (("abacus", abacus_path()), ("trained", tmp_path / "weights")):
        chat = TransformersChat(str(folder), "cpu")
        assert served[name] == greedy(chat), name
        chat.close()
    assert served["abacus"] != served["trained"]
