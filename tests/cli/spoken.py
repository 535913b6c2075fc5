"""A model that plays every part of learning over HTTP: what it says depends on prompt and seed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from cli import sessions, wiring
from tests.cli.resume_worker import proposal
from tests.tfgrpo.llm.loopback import Bill, Body
from tfgrpo.config import LearnSpec, OpenAISpec
from tfgrpo.experience.replies import render_operations
from tfgrpo.ledger import Ledger
from tfgrpo.llm.openai_compat import OpenAIChat
from tfgrpo.protocols import ChatModel
from tfgrpo.runs import RunDir
from tfgrpo.seeding import derive_rng

ROOT = Path(__file__).parents[2]
OWN_TIME = {"environment.json", "resumed.jsonl", "ledger.json", "faults.json", ".lock"}
WORDS = ("added", "carried", "checked", "guessed", "ordered")
SETTINGS: Mapping[str, Any] = {
    "tasks": {"kind": "procedural", "families": ["sum", "product"]},
    "train_limit": 6, "batch_size": 3, "epochs": 1, "group_size": 4, "summarise": "always",
    "dropout": 0.3, "limits": {"max_entries": 4}, "seed": 1,
}  # fmt: skip


def voice(body: Body, index: int) -> str:
    """Attempts are right half of the time; one edit in five cannot be read."""
    prompt = "\n".join(message["content"] for message in body["messages"])
    rng = derive_rng(0, prompt, body.get("seed"), index)
    if prompt.startswith("Solve"):
        return f"Step by step.\nAnswer: {solved(prompt) if rng.random() < 0.5 else rng.random()}"
    if prompt.startswith("You analyse"):
        return f"It {rng.choice(WORDS)} in {rng.randint(2, 9)} steps."
    if rng.random() < 0.2:
        return "I cannot say."
    return render_operations([proposal(rng) for _ in range(rng.randint(1, 3))])


def solved(prompt: str) -> int:
    """The answer to the question in the last line, which holds A+B or A*B."""
    question = prompt.splitlines()[-1]
    numbers = [int(digits) for digits in re.findall(r"[0-9]+", question)]
    return prod(numbers) if "*" in question else sum(numbers)


def spec_of(url: str, **changes: Any) -> LearnSpec:
    model = {"kind": "openai", "model": "tiny", "base_url": url, "max_connections": 6}
    return LearnSpec.model_validate({**SETTINGS, "model": model} | changes)


def learn(spec: LearnSpec, run: Path, **patience: Any) -> None:
    """A session as the command makes it, on a client that does not wait long to try again."""

    def build(model: Any) -> ChatModel:
        assert isinstance(model, OpenAISpec)
        settings = {"max_connections": model.max_connections, "backoff_s": 0.001} | patience
        return OpenAIChat(model.model, model.base_url, **settings)

    with (
        sessions.open_run(run, spec, "learn") as opened,
        wiring.session(run / sessions.CALLS, spec.budget, spec.price, build) as models,
    ):
        sessions.run_learning(spec, opened, models, sessions.Watch())


def content(run: Path) -> dict[str, bytes]:
    """All files of a run that may not depend on what its endpoint did to it."""
    return {
        str(p.relative_to(run)): p.read_bytes()
        for p in sorted(run.rglob("*"))
        if p.is_file() and p.name not in OWN_TIME and not p.name.startswith(sessions.CALLS)
    }


def groups(run: Path) -> list[dict[str, Any]]:
    return list(RunDir.open(run).read_rows("groups.jsonl"))


def ledger(run: Path) -> tuple[int, int, int]:
    """Calls, prompt and completion tokens."""
    used = Ledger.from_json(json.loads((run / "ledger.json").read_bytes())).total
    return used.calls, used.prompt_tokens, used.completion_tokens


def billed(bills: Sequence[Bill]) -> tuple[int, int, int]:
    """The same by the server's own account of what it has told."""
    told = [bill for bill in bills if bill.told]
    return len(told), sum(b.prompt for b in told), sum(b.completion for b in told)


def sold(bills: Sequence[Bill]) -> Counter[str]:
    """How often each request was answered as it should be."""
    return Counter(bill.request for bill in bills if bill.sound)


@contextmanager
def command(folder: Path, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command at work in `folder`, its home, where all that it prints goes to files."""
    own = {"HOME": str(folder), "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    env = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
    with (
        (folder / "stdout.txt").open("wb") as out,
        (folder / "stderr.txt").open("wb") as err,
        subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=folder,
            env=env | own | {"OMP_NUM_THREADS": "1"} | variables,
            stdout=out,
            stderr=err,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()
