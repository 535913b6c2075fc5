"""Learning runs to be killed: for each line `FOLDER SEED DELAY` on stdin, one process of its own.

The process is forked, so that no run waits for imports, and is killed with signal 9 after DELAY
seconds (never, if negative). Its exit status is printed: -9 if the kill came before its end.

Beside the run stands `FOLDER.calls`, which survives it: `asked KEY` when a rollout reaches the
model, `stored KEY` as soon as the store has put its completion.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from math import prod
from pathlib import Path
from random import Random, SystemRandom

from cli import sessions, wiring
from tests.tfgrpo.experience.world import text_of
from tfgrpo.config import LearnSpec
from tfgrpo.experience.edits import Add, Delete, Edit, Merge, Modify
from tfgrpo.experience.replies import render_operations
from tfgrpo.llm.cache import CallStore, call_key
from tfgrpo.llm.scripted import Reply, ScriptedModel
from tfgrpo.seeding import derive_rng
from tfgrpo.types import ChatRequest, Completion, Failure, Phase

LATENCY_S = 0.004
WORDS = [
    "add",
    "carry",
    "check",
    "digit",
    "first",
    "guess",
    "last",
    "number",
    "order",
    "sign",
    "slowly",
    "sum",
    "twice",
    "value",
]


def spec_of(seed: int) -> LearnSpec:
    tasks = {"kind": "procedural", "families": ["sum", "product"]}
    return LearnSpec.model_validate(
        {"tasks": tasks, "train_limit": 6, "batch_size": 4, "epochs": 2, "group_size": 4,
         "dropout": 0.3, "summarise": "always", "limits": {"max_entries": 4}, "seed": seed}
    )  # fmt: skip


def said(request: ChatRequest, index: int) -> Reply:
    """A model of many moods, which are a function of what it is asked."""
    rng = derive_rng(0, text_of(request), request.params.seed, index)
    if request.phase == "rollout":
        if rng.random() < 0.05:
            return Failure("transport", "the line is dead")
        return f"Answer: {solved(request) if rng.random() < 0.5 else rng.randrange(99)}"
    if request.phase == "summarise":
        return f"It went {rng.choice(WORDS)}."
    if rng.random() < 0.1:
        return "I cannot say."
    return render_operations([proposal(rng) for _ in range(rng.randint(1, 3))])


def solved(request: ChatRequest) -> int:
    """The answer to `What is A+B?` or `What is A*B?`."""
    question = request.messages[-1].content
    numbers = [int(digits) for digits in re.findall(r"[0-9]+", question)]
    return prod(numbers) if "*" in question else sum(numbers)


def proposal(rng: Random) -> Edit:
    text = " ".join(rng.choice(WORDS) for _ in range(6))
    entry, other = f"E{rng.randint(1, 6)}", f"E{rng.randint(1, 6)}"
    made: tuple[Edit, ...] = (
        Add(text), Add(text), Modify(entry, text), Merge((entry, other), text), Delete(entry),
    )  # fmt: skip
    return rng.choice(made)


class Notes:
    """An append-only file in which every line is one write, and so whole whenever a kill comes."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def add(self, what: str, key: str) -> None:
        os.write(self._handle, f"{what} {key}\n".encode())


class NotedStore(CallStore):
    def __init__(self, path: Path, notes: Notes) -> None:
        super().__init__(path)
        self._notes = notes

    def put(self, phase: Phase, completions: Mapping[str, Completion]) -> None:
        super().put(phase, completions)
        for key in completions:
            self._notes.add("stored", key)


def learn(folder: Path, seed: int) -> None:
    notes = Notes(folder.with_suffix(".calls"))
    chance = SystemRandom()

    def reply(request: ChatRequest, index: int) -> Reply:
        notes.add("asked", call_key("scripted", request, index))
        return said(request, index)

    model = ScriptedModel(reply, lambda request: chance.uniform(0, LATENCY_S))
    spec = spec_of(seed)
    with (
        sessions.open_run(folder, spec, "learn") as opened,
        NotedStore(folder / sessions.CALLS, notes) as store,
    ):
        models = wiring.Models(store, spec.budget, spec.price, lambda _: model)
        sessions.run_learning(spec, opened, models, sessions.Watch())


def forked(folder: Path, seed: int, delay: float) -> int:
    child = os.fork()
    if child == 0:
        try:
            learn(folder, seed)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    if delay >= 0:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)  # a child that has ended stays a zombie until the next line
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    let_go(folder / ".lock")
    return status


def let_go(lock: Path) -> None:
    """Wait until nobody holds the run: its lock outlives it in a git that it was just starting."""
    if lock.exists():
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)


if __name__ == "__main__":
    for line in sys.stdin:
        name, seed, delay = line.split()
        print(forked(Path(name), int(seed), float(delay)), flush=True)
