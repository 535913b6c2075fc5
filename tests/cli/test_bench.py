"""`tfgrpo bench`: what comes next, what a failure costs, and a kill in the middle of everything."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cli.bench_record import Record, read_record, write_arms
from cli.forecast import Rates
from cli.schedule import State, drive, next_job, raise_failures, tails
from cli.stages import Job, Order, plan_of
from cli.suites import CONTEXT, FULL
from tests.cli.commands import tfgrpo
from tfgrpo.errors import BudgetStop, ConfigError, RunError, TfgrpoError

CHAIN = (
    Job("learn", "learn, seed 0", "learn", None),
    Job("train", "train, seed 0", "train", None),
    Job("imitate", "imitate, seed 0", "imitate", None, ("learn",)),
    Job("base", "base", "eval", None),
    Job("library", "library, seed 0", "eval", None, ("learn",)),
    Job("distilled", "distilled, seed 0", "eval", None, ("imitate",)),
    Job("both", "both, seed 0", "eval", None, ("learn", "train")),
)
SECONDS = {
    "learn": 50.0, "train": 200.0, "imitate": 90.0, "base": 100.0, "library": 100.0,
    "distilled": 100.0, "both": 100.0,
}  # fmt: skip


def driven(*failing: str, error: Exception | None = None) -> tuple[list[str], State]:
    """The order in which one process takes up the chain, and how it ended."""
    order: list[str] = []
    state = State()

    def run(job: Job) -> float:
        order.append(job.name)
        if job.name in failing:
            raise error or RuntimeError("the disk is full")
        return 1.0

    with ThreadPoolExecutor(1) as pool:

        def submit(job: Job) -> Future[float]:
            return pool.submit(run, job)

        drive(CHAIN, state, SECONDS, submit, 1, lambda job: None)
    return order, state


def test_the_longest_chain_is_taken_up_first() -> None:
    assert tails(CHAIN, SECONDS) == {
        "learn": 240, "train": 300, "imitate": 190, "base": 100, "library": 100,
        "distilled": 100, "both": 100,
    }  # fmt: skip
    order, state = driven()
    assert order == ["train", "learn", "imitate", "both", "library", "distilled", "base"]
    assert set(state.over) == set(SECONDS)


def test_an_arm_starts_as_soon_as_its_own_stages_are_over() -> None:
    tail = tails(CHAIN, SECONDS)
    assert next_job(CHAIN, {}, {"train", "learn"}, tail) == CHAIN[3]
    found = next_job(CHAIN, {"learn", "imitate", "base"}, {"train", "library"}, tail)
    assert found is not None
    assert found.name == "distilled"
    assert next_job(CHAIN, {"learn"}, {"train", "imitate", "base", "library"}, tail) is None


def test_a_failure_loses_only_what_stands_on_it() -> None:
    order, state = driven("learn")
    assert order == ["train", "learn", "base"]
    assert list(state.failed) == ["learn"]
    message = (
        r"^5 of 7 jobs are not done \(learn, seed 0: the disk is full\)\. Mend that and give the "
        r"same command with --run runs/b to go on\.$"
    )
    with pytest.raises(TfgrpoError, match=message) as caught:
        raise_failures(CHAIN, state, Path("runs/b"))
    assert caught.value.exit_code == 1
    raise_failures(CHAIN, driven()[1], Path("runs/b"))


def test_budgets_alone_end_with_their_own_code() -> None:
    _, state = driven("base", error=BudgetStop("The budget is spent."))
    with pytest.raises(BudgetStop):
        raise_failures(CHAIN, state, "b")
    state.failed["learn"] = ConfigError("The library is empty.")
    with pytest.raises(TfgrpoError) as caught:
        raise_failures(CHAIN, state, "b")
    assert caught.value.exit_code == 1


def test_arms_are_written_for_whoever_compares_them(tmp_path: Path) -> None:
    plan = plan_of(FULL, Order(tmp_path, 2, 20, 4))
    write_arms(tmp_path, "full", FULL, plan)
    found = json.loads((tmp_path / "arms.json").read_text())
    assert list(found) == ["arms", "base", "duels", "schema", "square", "suite"]
    assert found["square"] == {
        "base": "base", "context": "library", "weights": "grpo", "both": "grpo + library",
    }  # fmt: skip
    assert ["library", "grpo"] in found["duels"]
    assert found["arms"][-1] == {
        "name": "grpo + library", "family": "both", "seed": 1, "path": "grpo+library-1",
        "made_by": ["learn-1", "train-grpo-1"],
    }  # fmt: skip
    write_arms(tmp_path, "context", CONTEXT, plan_of(CONTEXT, Order(tmp_path, 1, 20, 4)))
    other = json.loads((tmp_path / "arms.json").read_text())
    assert (other["square"], other["duels"]) == (None, [["placebo", "learned"]])


def test_a_job_whose_folder_is_gone_is_not_over(tmp_path: Path) -> None:
    plan = plan_of(CONTEXT, Order(tmp_path, 1, 20, 4))
    record = Record(tmp_path, 9.0, Rates(0.1), "measured", 5.0, {"base": 8.0}, {"base": 4.0})
    record.write()
    assert read_record(tmp_path, plan).over == {}
    from cli import sessions

    sessions.open_run(tmp_path / "base", plan.job("base").spec, "eval").close()
    assert read_record(tmp_path, plan) == record
    with pytest.raises(RunError, match="limit was 20, now 21"):
        read_record(tmp_path, plan_of(CONTEXT, Order(tmp_path, 1, 21, 4)))
    (tmp_path / "forecast.json").write_text("{")
    with pytest.raises(RunError, match=r"forecast\.json is damaged; delete it"):
        read_record(tmp_path, plan)


# the whole, with the real pocket model ------------------------------------------------------------

TINY = (
    "bench", "full", "--seeds", "1", "--limit", "20", "--n", "2", "--tasks", "product,sort",
    "--set", "learn.train_limit=8", "--set", "learn.batch_size=4", "--set", "learn.epochs=1",
    "--set", "learn.group_size=6", "--set", "train.steps=2", "--set", "train.prompts=2",
    "--set", "train.minibatches=1", "--set", "train.group_size=4", "--set", "train.train_limit=8",
    "--set", "imitate.train_limit=2", "--set", "imitate.epochs=1", "--set", "match.limit=4",
    "--set", "match.n=4", "--set", "match.tolerance=0.3",
    "--set", "sampling.max_tokens=120",
)  # fmt: skip


def outcomes(root: Path) -> dict[str, bytes]:
    """What was found, and the lessons and weights that it was found with."""
    names = ("outcomes.jsonl", "ops.jsonl", "model.safetensors", "temperature.json", "arms.json")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for name in names
        for path in sorted(root.rglob(name))
        if not any(part.startswith("checkpoint") for part in path.parts)
    }


def verdict_of(root: Path) -> dict[str, Any]:
    """The verdict but for its costs: seconds and cached tokens differ from one try to the next."""
    document: dict[str, Any] = json.loads((root / "bench.json").read_bytes())
    del document["budgets"]
    for arm in document["arms"]:
        del arm["cost"]
    return document


def without_break_even(printed: str) -> str:
    """Serving is billed by what was cached, and a query by its serving."""
    return re.sub(r"from [\d,]+ queries on", "from some query on", printed)


def killed_after(root: Path, jobs: int) -> None:
    """Kill a bench with signal 9 when so many of its jobs are over."""
    with subprocess.Popen(
        [sys.executable, "-m", "cli.main", *TINY, "--run", str(root)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        path = root / "forecast.json"
        while not path.is_file() or len(json.loads(path.read_bytes())["over"]) < jobs:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_a_full_bench_that_is_killed_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = tfgrpo(*TINY, "--run", whole)
    for arm in FULL.arms[:3]:
        assert arm.name in done.stdout
    assert f"Next: tfgrpo compare {whole} --report {whole}/report" in done.stderr
    for jobs in (1, 12):
        killed_after(cut, jobs)
    again = tfgrpo(*TINY, "--run", cut)
    assert without_break_even(again.stdout) == without_break_even(done.stdout)
    found = outcomes(cut)
    assert found == outcomes(whole)
    assert verdict_of(cut) == verdict_of(whole)
    assert len([name for name in found if name.endswith("outcomes.jsonl")]) == 16
    record = json.loads((cut / "forecast.json").read_text())
    assert len(record["over"]) == 24
    assert record["actual_s"] >= 0 < record["expected_s"]
    assert tfgrpo(*TINY, "--run", cut).stdout == again.stdout
