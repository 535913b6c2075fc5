"""Runs that are killed, stopped by a budget, or met a failed call: they go on where they were.

The kills are real: signal 9 to a process that is learning.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli import sessions, wiring
from tests.cli.resume_worker import said, spec_of
from tests.tfgrpo.experience.world import memory_folder
from tfgrpo.config import BudgetSpec, EvalSpec, JsonlSpec, LearnSpec
from tfgrpo.errors import BudgetStop, RunError
from tfgrpo.experience.learn import Step
from tfgrpo.llm.cache import CallStore
from tfgrpo.llm.scripted import Reply, ScriptedModel
from tfgrpo.runs import RunDir
from tfgrpo.types import ChatRequest, Failure

ROOT = Path(__file__).parents[2]
KILLS = 100
OWN_TIME = {"environment.json", "resumed.jsonl", "ledger.json", ".lock"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        yield Path(name)


def content(run: Path) -> dict[str, bytes]:
    """All files of a run that may not depend on when, or how often, it was interrupted."""
    return {
        str(p.relative_to(run)): p.read_bytes()
        for p in sorted(run.rglob("*"))
        if p.is_file() and p.name not in OWN_TIME and not p.name.startswith(sessions.CALLS)
    }


def ledger(run: Path) -> dict[str, Any]:
    """What was paid, in everything but seconds."""
    phases: Mapping[str, dict[str, Any]] = json.loads((run / "ledger.json").read_bytes())
    return {phase: usage | {"seconds": None} for phase, usage in phases.items()}


# kills --------------------------------------------------------------------------------------------


@contextmanager
def worker() -> Iterator[Callable[[Path, int, float], int]]:
    """Runs `resume_worker.py`; the function gives the exit status of one attempt at a run."""
    command = [sys.executable, "-m", "tests.cli.resume_worker"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def attempt(run: Path, seed: int, delay: float) -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            print(run, seed, delay, file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield attempt


def paid_again(notes: Path) -> list[str]:
    """Keys of calls that were asked, or stored, after the store had them."""
    stored: set[str] = set()
    again = []
    for line in notes.read_text().splitlines():
        what, key = line.split()
        if key in stored:
            again.append(line)
        if what == "stored":
            stored.add(key)
    return again


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_ends_as_if_it_had_not_been(folder: Path) -> None:
    chance = random.Random(0)
    kills = seed = 0
    cut = Counter[int]()
    with worker() as attempt:
        while kills < KILLS:
            whole, run = folder / f"whole-{seed}", folder / f"killed-{seed}"
            started = time.monotonic()
            assert attempt(whole, seed, -1) == 0
            longest = 0.6 * (time.monotonic() - started)
            while (status := attempt(run, seed, chance.uniform(0, longest))) == -9:
                kills += 1
                longest *= 1.1  # or a machine that grows busier would let no attempt get anywhere
                steps = run / "steps.jsonl"
                cut[steps.read_bytes().count(b"\n") if steps.exists() else 0] += 1
            assert status == 0
            assert content(run) == content(whole)
            assert ledger(run) == ledger(whole)
            notes = run.with_suffix(".calls")
            assert paid_again(notes) == []
            with CallStore(run / sessions.CALLS) as store:
                keys = {line.split()[1] for line in notes.read_text().splitlines()}
                assert len(store) == len(store.get(keys)) > 50
            seed += 1
    print(f"{kills} kills of {seed} runs, after steps {dict(sorted(cut.items()))}")
    # The kills came before, between and after finished steps.
    assert set(cut) >= {0, 1, 2, 3}


# failures that heal -------------------------------------------------------------------------------


def held(
    spec: LearnSpec, run: Path, reply: Callable[[ChatRequest, int], Reply], stop_after: int = 99
) -> ScriptedModel:
    """A session on a scripted model, which ends after a step as if it had been killed there."""
    model = ScriptedModel(reply)

    def on_step(step: Step) -> None:
        if step.record.step == stop_after:
            raise KeyboardInterrupt

    with (
        sessions.open_run(run, spec, "learn") as opened,
        wiring.session(run / sessions.CALLS, spec.budget, spec.price, lambda _: model) as models,
    ):
        sessions.run_learning(spec, opened, models, sessions.Watch(on_step=on_step))
    return model


def sound(request: ChatRequest, index: int) -> Reply:
    """The worker's model, on a good line."""
    made = said(request, index)
    return "Answer: 0" if isinstance(made, Failure) else made


def ailing(request: ChatRequest, index: int) -> Reply:
    """The same on a bad one."""
    return Failure("transport", "gone") if index == 1 else sound(request, index)


def test_a_finished_step_stands_though_its_failed_calls_would_now_succeed(folder: Path) -> None:
    spec, run = spec_of(0), folder / "run"
    with pytest.raises(KeyboardInterrupt):
        held(spec, run, ailing, stop_after=0)
    before = content(run)
    model = held(spec, run, sound)
    after = content(run)
    assert all(after[name].startswith(data) for name, data in before.items())
    failures = [json.loads(row)["failures"] for row in after["steps.jsonl"].splitlines()]
    assert failures[0] > 0
    assert failures[1:] == [0, 0, 0]
    first = {json.loads(row)["prompt"] for row in before["groups.jsonl"].splitlines()}
    assert not {r.messages[-1].content for r in model.calls[:1]} & first


def test_a_finished_run_asks_nothing_and_changes_nothing(folder: Path) -> None:
    spec, run = spec_of(1), folder / "run"
    held(spec, run, ailing)
    before = content(run)
    assert held(spec, run, sound).calls == []
    assert content(run) == before


def test_a_finished_evaluation_is_read_and_not_made_again(folder: Path) -> None:
    tasks = {"kind": "procedural", "families": ["sum"]}
    spec = EvalSpec.model_validate({"tasks": tasks, "limit": 5, "n": 4})
    run, outcomes, calls = folder / "run", [], []
    for reply in (ailing, sound):
        model = ScriptedModel(reply)
        with (
            sessions.open_run(run, spec, "eval") as opened,
            wiring.session(
                run / sessions.CALLS, spec.budget, spec.price, lambda _, model=model: model
            ) as models,
        ):
            made = sessions.run_evaluation(spec, opened, models, sessions.Watch())
            assert made == sessions.read_outcomes(opened)
        outcomes.append(made)
        calls.append(len(model.calls))
    assert outcomes[0] == outcomes[1]
    assert [o.failures for o in outcomes[1]] == [1] * 5
    assert calls == [5, 0]


# what else may happen between two sessions --------------------------------------------------------


def test_a_run_does_not_go_on_with_other_problems_than_it_began_with(folder: Path) -> None:
    path = folder / "tasks.jsonl"

    def write(answer: int) -> None:
        rows = [{"question": f"What is {i}+9?", "answer": answer, "split": "train"} for i in "123"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    write(12)
    spec = spec_of(0).model_copy(update={"tasks": JsonlSpec(path=path)})
    with pytest.raises(KeyboardInterrupt):
        held(spec, folder / "run", sound, stop_after=0)
    write(13)
    with pytest.raises(RunError, match=r"diverged from its own record .* start a new run"):
        held(spec, folder / "run", sound)


def test_a_budget_stops_a_run_with_all_that_was_paid_kept_and_a_larger_one_ends_it(
    folder: Path,
) -> None:
    spec = spec_of(2)
    held(spec, folder / "whole", said)
    tight, run = spec.model_copy(update={"budget": BudgetSpec(max_calls=30)}), folder / "run"
    served: Counter[str] = Counter()

    def slow(request: ChatRequest) -> float:
        served[request.phase] += request.n
        return 0.01 * (1 + request.first_index)

    model = ScriptedModel(sound, slow)
    with (
        sessions.open_run(run, tight, "learn") as opened,
        wiring.session(run / sessions.CALLS, tight.budget, tight.price, lambda _: model) as models,
        pytest.raises(BudgetStop, match="budget of 30 calls"),
    ):
        sessions.run_learning(tight, opened, models, sessions.Watch())
    with CallStore(run / sessions.CALLS) as store:
        assert len(store) == sum(served.values())
        assert sum(usage.calls for usage in store.usage_by_phase().values()) == 30
    kept = RunDir.open(run).read_json("ledger.json")
    assert sum(usage["calls"] for usage in kept.values()) == 30
