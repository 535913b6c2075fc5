"""The whole way with the real pocket model: learn, evaluate, bench, through the commands."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import tfgrpo
from tfgrpo.experience.files import load_library
from tfgrpo.runs import RunDir

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "learned"
    flags = ("--limit", "16", "--batch-size", "8", "--epochs", "1", "--set", "tasks=product,sum")
    tfgrpo("learn", "--run", run, *flags)
    return run


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    return list(RunDir.open(run).read_rows(name))


def test_a_frozen_model_writes_lessons_it_can_read(learned: Path) -> None:
    library = load_library(learned)
    assert library.active
    steps = rows(learned, "steps.jsonl")
    assert [s["step"] for s in steps] == [0, 1]
    assert all(sum(s["groups"].values()) == 8 for s in steps)
    first, second = ([g for g in rows(learned, "groups.jsonl") if g["step"] == i] for i in (0, 1))
    assert not any(r["shown"] for g in first for r in g["rollouts"])
    assert all(r["shown"] for g in second for r in g["rollouts"])
    ledger = RunDir.open(learned).read_json("ledger.json")
    assert {"rollout", "summarise", "compare"} <= set(ledger)
    assert ledger["rollout"]["completion_tokens"] > 16 * 12 * 5


def test_giving_the_same_command_again_changes_nothing(learned: Path) -> None:
    before = {p.name: p.read_bytes() for p in learned.glob("*.jsonl") if p.name != "resumed.jsonl"}
    flags = ("--limit", "16", "--batch-size", "8", "--epochs", "1", "--set", "tasks=product,sum")
    tfgrpo("learn", "--run", learned, *flags)
    assert before == {name: (learned / name).read_bytes() for name in before}
    refused = tfgrpo("learn", "--run", learned, "--limit", "17", code=1)
    assert "train_limit" in refused.stderr


def test_evaluation_is_on_other_problems(learned: Path, tmp_path: Path) -> None:
    flags = ("--tasks", "product,sum", "--limit", "12", "--n", "8", "--json")
    done = tfgrpo("eval", "--policy", learned, "--run", tmp_path / "e", *flags)
    summary = json.loads(done.stdout)["summary"]
    assert set(summary["pass_at_k"]) == {"1", "2", "4", "8"}
    seen = {g["task_id"] for g in rows(learned, "groups.jsonl")}
    tested = {o["task_id"] for o in rows(tmp_path / "e", "outcomes.jsonl")}
    assert len(tested) == 12
    assert not seen & tested


def test_an_evaluation_takes_tasks_pack_and_sampling_from_the_run(learned: Path) -> None:
    settings = tomllib.loads(tfgrpo("eval", "--policy", learned, "--dry-run").stdout)
    assert settings["tasks"]["families"] == ["product", "sum"]
    assert (settings["pack"], settings["sampling"]["max_tokens"]) == ("abacus", 192)
    flags = ("--policy", f"placebo:{learned}", "--tasks", "sort", "--max-tokens", "9", "--dry-run")
    settings = tomllib.loads(tfgrpo("eval", *flags).stdout)
    assert settings["tasks"]["families"] == ["sort"]
    assert settings["sampling"]["max_tokens"] == 9


@pytest.mark.parametrize("policy", ["empty", "fewshot:2", "direct:4", "placebo"])
def test_every_control_can_be_evaluated(learned: Path, tmp_path: Path, policy: str) -> None:
    spelled = f"placebo:{learned}" if policy == "placebo" else policy
    flags = ("--tasks", "product", "--limit", "4", "--n", "4", "--json")
    done = tfgrpo("eval", "--policy", spelled, "--run", tmp_path / "e", *flags)
    assert json.loads(done.stdout)["summary"]["n_samples"] == 16


def test_a_spent_budget_stops_with_its_own_code_and_a_raised_one_resumes(tmp_path: Path) -> None:
    shape = ("--limit", "8", "--batch-size", "4", "--epochs", "1")
    flags = (*shape, "--set", "budget.max_tokens=500")
    stopped = tfgrpo("learn", "--run", tmp_path / "r", *flags, code=3)
    assert "budget of 500 tokens" in stopped.stderr
    assert str(tmp_path / "r") in stopped.stderr.replace("\n", "")
    tfgrpo("learn", "--run", tmp_path / "r", *shape)
    tfgrpo("learn", "--run", tmp_path / "whole", *shape)
    resumed, whole = (load_library(tmp_path / name) for name in ("r", "whole"))
    assert resumed.fingerprint == whole.fingerprint


def test_the_bench_leaves_table_figure_and_runs(tmp_path: Path) -> None:
    flags = ("--seeds", "1", "--limit", "20", "--n", "8", "--set", "train_limit=8")
    done = tfgrpo("bench", "--run", tmp_path / "b", "--tasks", "product", *flags)
    for word in ("base", "placebo", "learned, seed 0", "learned - placebo"):
        assert word in done.stdout
    document = json.loads((tmp_path / "b" / "bench.json").read_text())
    assert [a["name"] for a in document["arms"]] == ["base", "placebo", "learned"]
    assert {c["against"] for c in document["comparisons"]} == {"base", "placebo"}
    assert (tmp_path / "b" / "pass_at_k.png").read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in (tmp_path / "b" / "pass_at_k.svg").read_bytes()
    again = tfgrpo("bench", "--run", tmp_path / "b", "--tasks", "product", *flags)
    assert again.stdout == done.stdout
