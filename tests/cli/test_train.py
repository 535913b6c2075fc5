"""`tfgrpo train` as a user runs it: alone, killed and resumed, on two processes, then evaluated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from cli.main import app
from tfgrpo.errors import ConfigError

SMALL = (
    "--tasks", "product,sort", "--steps", "3", "--prompts", "4", "--group-size", "4",
    "--max-tokens", "40", "--lr", "1e-3", "--set", "train_limit=12",
    "--set", "checkpoint_every=1", "--set", "minibatches=4",
)  # fmt: skip


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def rows(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "weights" / "model.safetensors")


# `accelerate launch --cpu` starts one process, whatever number it is given, unless there is MPI.
TWO = ("-m", "torch.distributed.run", "--nproc-per-node", "2")


def command(*launcher: str, run: Path, program: str = "cli.main") -> list[str]:
    marked = ["--"] if launcher else []  # so that the launcher does not take --run as its own
    return [sys.executable, *launcher, "-m", *marked, program, "train", *SMALL, "--run", str(run)]


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(
        arguments, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def finish(arguments: Sequence[str]) -> None:
    process = start(arguments)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("train") / "whole"
    shown = json.loads(invoke("train", *SMALL, "--run", run, "--json"))
    assert len(shown["steps"]) == 3
    return run


def test_a_run_leaves_what_people_look_for(trained: Path) -> None:
    assert (trained / "weights" / "model.safetensors").is_file()
    assert (trained / "training.png").read_bytes().startswith(b"\x89PNG")
    ledger = json.loads((trained / "ledger.json").read_text())
    assert ledger["rollout"]["completion_tokens"] > 0
    assert ledger["train"]["prompt_tokens"] > 0
    shown = invoke("runs", "show", trained)
    assert "token entropy" in shown
    assert "FLOPs" in shown


def test_a_run_that_is_over_is_only_shown(trained: Path) -> None:
    before = (trained / "weights" / "model.safetensors").stat().st_mtime_ns
    assert "3 steps" in invoke("train", *SMALL, "--run", trained)
    assert (trained / "weights" / "model.safetensors").stat().st_mtime_ns == before


def test_trained_weights_are_an_ordinary_policy(trained: Path, tmp_path: Path) -> None:
    shown = json.loads(
        invoke(
            "eval", "--model", trained, "--limit", "2", "--n", "4", "--run", tmp_path / "e",
            "--json",
        )
    )  # fmt: skip
    assert shown["summary"]["n_samples"] == 8


@pytest.mark.slow
def test_killed_at_any_moment_a_run_ends_in_the_same_weights(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    for delay in (0.0, 0.4):
        process = start(command(run=run))
        deadline = time.monotonic() + 300
        while not (run / "checkpoint.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finish(command(run=run))
    own, whole = weights(run), weights(trained)
    assert all(torch.equal(own[name], whole[name]) for name in whole)
    assert [row["metrics"]["entropy"] for row in rows(run)] == [  # type: ignore[index]
        row["metrics"]["entropy"]  # type: ignore[index]
        for row in rows(trained)
    ]


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "two"
    finish(command(*TWO, run=run))
    same_curve(trained, run)


@pytest.mark.slow
def test_sharded_weights_follow_the_curve_of_whole_ones_and_survive_a_kill(
    trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "sharded"
    sharded = command(*TWO, run=run, program="tests.cli.sharded")
    process = start(sharded)
    deadline = time.monotonic() + 300
    while not (run / "checkpoint.json").is_file() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    saved = run / json.loads((run / "checkpoint.json").read_text())["folder"]
    assert len(list(saved.glob("pytorch_model_fsdp_0/__*.distcp"))) == 2  # a part from each
    finish(sharded)
    same_curve(trained, run)


def same_curve(trained: Path, run: Path) -> None:
    for one, two in zip(rows(trained), rows(run), strict=True):
        for name in ("accuracy", "entropy", "grad_norm", "length"):
            expected = one["metrics"][name]  # type: ignore[index]
            assert two["metrics"][name] == pytest.approx(expected, rel=1e-3), name  # type: ignore[index]
    own, whole = weights(run), weights(trained)
    assert all(torch.allclose(own[n], whole[n], atol=1e-3) for n in whole)


def test_methods_are_listed_and_explained() -> None:
    listed = json.loads(invoke("methods", "--json"))
    assert {"grpo", "clip-cov", "kl-cov", "nsr"} <= {row["name"] for row in listed}
    assert "2505.22617" in invoke("methods", "kl-cov")


def test_a_dry_run_prints_settings_that_can_be_given_back(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(invoke("train", "--method", "clip-higher", "--dry-run"))
    assert invoke("train", file, "--dry-run") == file.read_text()


def test_a_method_named_in_a_file_brings_its_settings(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('method = "kl-cov"\ntasks = "sum"\n')
    printed = invoke("train", file, "--dry-run")
    assert 'kind = "kl_cov"' in printed
    assert "minibatches = 4" in printed
    assert 'method = "rloo"' in invoke("train", file, "--method", "rloo", "--dry-run")


def test_too_few_problems_are_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    with pytest.raises(ConfigError, match="lower prompts or give more tasks"):
        invoke("train", "--tasks", f"jsonl:{tmp_path / 'few.jsonl'}", "--run", tmp_path / "r")
