"""`tfgrpo imitate` as a user gives it, on the pocket model with tiny settings."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

from baselines.imitation_config import ImitateSpec
from baselines.sft import Student
from cli.imitate import imitate
from tfgrpo.config import LearnSpec, parse_model
from tfgrpo.errors import BudgetStop, ConfigError, RunError
from tfgrpo.experience.edits import Add
from tfgrpo.experience.files import export_json
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.experience.record import group_row
from tfgrpo.runs import RunDir
from tfgrpo.settings import dump, load
from tfgrpo.types import (
    Completion,
    FailedRollout,
    Failure,
    Rollout,
    RolloutGroup,
    Score,
    Task,
    Usage,
)

TINY = (
    "--tasks", "product,sort", "--limit", "4", "--max-tokens", "40", "--epochs", "1",
    "--lr", "0.001", "--set", "source.samples=4",
)  # fmt: skip
TWO_ROUNDS = (*TINY, "--set", "source.rounds=2")

app = typer.Typer()
app.command()(imitate)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def given(*arguments: str | Path) -> str:
    """What the command prints; what it raises is raised here."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    return list(RunDir.open(run).read_rows(name))


def timeless(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**s, "metrics": {**s["metrics"], "seconds": 0}} for s in steps]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "weights" / "model.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("runs") / "done"
    given(*TWO_ROUNDS, "--run", run)
    return run


def learning_run(path: Path, pack: str = "abacus", correct: bool = True) -> Path:
    """A run of the context arm as it stands on the disk: two epochs over two problems."""
    spec = load(LearnSpec, None, ["tasks='sum'", f"pack={pack}"])
    with RunDir.create(path, dump(spec), "learn") as opened:
        for step in (0, 1):
            for name in ("a", "b"):
                task = Task(name, f"What is {name}?", "1", "sum", "train")
                score, wrong = Score(1.0, correct, "1", "columns"), Score(0.0, False, None)
                said = [("Answer: 1", score), (f"Answer: {step}", score), ("Answer: x", wrong)]
                rollouts = tuple(
                    Rollout(name, i, "p", Completion(t, "stop", Usage(completion_tokens=4)), s)
                    for i, (t, s) in enumerate(said)
                )
                failed = FailedRollout(name, 3, "p", Failure("empty", "nothing came"))
                group = RolloutGroup(task, rollouts, (failed,))
                opened.append("groups.jsonl", group_row(step, group))
    return path


# settings and errors ------------------------------------------------------------------------------


def test_a_dry_run_prints_settings_that_load_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = given("--source", "diverse", "--loss", "gem", "--set", "source.keep=2", "--dry-run")
    spec = load(ImitateSpec, None, (), tomllib.loads(told))
    assert (spec.source.kind, spec.loss.kind, spec.pack) == ("diverse", "gem", "abacus")
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "settings.toml"
    file.write_text(told, encoding="utf-8")
    assert given(file, "--dry-run") == told


def test_what_is_wrong_is_told_before_a_run_is_made(tmp_path: Path) -> None:
    run = tmp_path / "run"
    learned = learning_run(tmp_path / "learned", "default")
    other = tmp_path / "other"
    RunDir.create(other, {}, "eval").close()
    empty = tmp_path / "empty.json"
    empty.write_text(export_json(ExperienceLibrary.empty()), encoding="utf-8")
    for source, kind, message in (
        ("rejection:" + str(tmp_path), RunError, "is no run folder; give the folder of a run"),
        (f"rejection:{other}", ConfigError, "is no learning run; give a folder that"),
        (f"rejection:{learned}", ConfigError, "'default', and these settings name 'abacus'; set"),
        (f"distil:{tmp_path / 'x'}", ConfigError, "There is no library at"),
        (f"distil:{empty}", ConfigError, r"is empty; give one that has lessons\."),
        ("guess", ConfigError, "is no source of demonstrations"),
    ):
        with pytest.raises(kind, match=message):
            given("--source", source, "--run", run)
    assert not run.exists()


def test_a_learning_run_without_a_right_answer_gives_nothing(tmp_path: Path) -> None:
    learned = learning_run(tmp_path / "learned", correct=False)
    with pytest.raises(ConfigError, match=r"None of 12 replies is correct and complete \(4 failed"):
        given("--source", f"rejection:{learned}", "--run", tmp_path / "run")


# runs ---------------------------------------------------------------------------------------------


def test_what_a_run_leaves_behind(finished: Path) -> None:
    steps = rows(finished, "steps.jsonl")
    assert [(s["step"], s["metrics"]["round"]) for s in steps] == [(0, 0), (1, 1)]
    found = rows(finished, "demonstrations.jsonl")
    for number, step in enumerate(steps):
        own = [d for d in found if d["round"] == number]
        assert len(own) == step["metrics"]["demonstrations"]
        assert len({d["task_id"] for d in own}) == step["metrics"]["problems"]
        assert sum(d["weight"] for d in own) == pytest.approx(step["metrics"]["problems"])
    ledger = RunDir.open(finished).read_json("ledger.json")
    assert ledger["rollout"]["calls"] == 2 * 4
    for phase in ("rollout", "train"):
        total = sum(s["usage"][phase]["prompt_tokens"] for s in steps)
        assert ledger[phase]["prompt_tokens"] == total > 0
    assert RunDir.open(finished).kind == "imitate"
    assert parse_model(str(finished))["path"] == str(finished / "weights")
    assert not (finished / ".weights").exists()


def test_the_same_command_again_reads_what_is_over(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.imitate.build_world", None)
    told = json.loads(given(*TWO_ROUNDS, "--run", finished, "--json"))
    assert told["steps"] == rows(finished, "steps.jsonl")
    assert set(told["ledger"]) == {"rollout", "train"}
    assert "expert_iteration" in given(*TWO_ROUNDS, "--run", finished)
    with pytest.raises(RunError, match="seed"):
        given(*TWO_ROUNDS, "--run", finished, "--seed", "1")


def test_a_run_that_was_cut_off_starts_over_and_ends_alike(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "cut"
    calls = 0

    def interrupted(self: Student, order: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionError("the power went")
        return learn(self, order)

    learn = Student.learn
    with monkeypatch.context() as patch:
        patch.setattr(Student, "learn", interrupted)
        with pytest.raises(ConnectionError):
            given(*TWO_ROUNDS, "--run", run)
    assert len(rows(run, "steps.jsonl")) == 1
    assert not (run / "weights").exists()
    (run / ".weights").mkdir()  # as a kill leaves it that comes while the weights are written
    given(*TWO_ROUNDS, "--run", run)
    assert timeless(rows(run, "steps.jsonl")) == timeless(rows(finished, "steps.jsonl"))
    assert rows(run, "demonstrations.jsonl") == rows(finished, "demonstrations.jsonl")
    own, other = weights(run), weights(finished)
    assert all(torch.equal(own[name], other[name]) for name in other)
    assert RunDir.open(run).read_json("ledger.json") == RunDir.open(finished).read_json(
        "ledger.json"
    )


def test_the_rollouts_of_a_learning_run_are_learned(tmp_path: Path) -> None:
    """Once each, though they stand in two epochs; wrong ones never; and no gold is stored."""
    learned, run = learning_run(tmp_path / "learned"), tmp_path / "run"
    given("--source", f"rejection:{learned}", "--epochs", "2", "--run", run)
    found = [(d["task_id"], d["text"], d["weight"]) for d in rows(run, "demonstrations.jsonl")]
    assert found == [(t, f"Answer: {n}", 0.5) for t in ("a", "b") for n in (1, 0)]
    first, second = rows(run, "steps.jsonl")
    assert (first["failures"], second["failures"]) == (4, 0)
    assert first["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert second["metrics"]["nll"] < first["metrics"]["nll"]
    assert set(RunDir.open(run).read_json("ledger.json")) == {"train"}


def test_a_library_is_distilled(tmp_path: Path) -> None:
    library, run = tmp_path / "library.json", tmp_path / "run"
    lesson = "When doing multiplication, go digit by digit from the ones."
    made = ExperienceLibrary.empty().by_hand(Add(lesson)).library
    library.write_text(export_json(made), encoding="utf-8")
    plain = given(*TINY, "--source", f"distil:{library}", "--loss", "gem", "--run", run)
    (step,) = rows(run, "steps.jsonl")
    assert step["groups"] == {"unscored": 4}
    assert "distil" in plain
    longer = step["usage"]["rollout"]["prompt_tokens"]
    bare = rows_of_bare_prompts(run)
    assert longer > bare + 4 * 8  # every teacher's prompt holds the lesson
    assert all(d["answer"] is None for d in rows(run, "demonstrations.jsonl"))


def rows_of_bare_prompts(run: Path) -> int:
    """Tokens of all bare prompts: what a source without a library pays for the same problems."""
    other = run.with_name("diverse")
    given(*TINY, "--source", "diverse", "--run", other)
    return int(rows(other, "steps.jsonl")[0]["usage"]["rollout"]["prompt_tokens"])


def test_a_budget_stops_it_and_says_where_the_run_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(BudgetStop, match=f"partial result is saved in {run}"):
        given(*TINY, "--set", "budget.max_calls=2", "--run", run)
    assert rows(run, "steps.jsonl") == []
