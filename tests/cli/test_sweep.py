"""`tfgrpo sweep`: every mistake first, one table at the end, and nothing done twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.sweep import TABLE, Run, summary
from tfgrpo.errors import ConfigError
from tfgrpo.types import TaskOutcome


def outcome(task: str, right: int, n: int = 4) -> TaskOutcome:
    correct = tuple(i < right for i in range(n))
    answers = tuple(str(i) for i in range(n))
    return TaskOutcome(task, "sum", correct, answers, ("a",) * n, (0.5,) * n, (3,) * n)


def test_differences_are_paired_by_problem_and_averaged_over_seeds() -> None:
    base = Run("base", None, (outcome("p", 1), outcome("q", 2)), 0)
    first = Run("rloo", 0, (outcome("p", 2), outcome("q", 2)), 100)
    second = Run("rloo", 1, (outcome("p", 4), outcome("q", 2)), 300)
    row = summary("rloo", [first, second], base, [], 4)
    assert row["pass@1"] == pytest.approx((0.5 + 0.75) / 2)
    assert row["from base"]["pass@1"].difference.value == pytest.approx(0.25)
    assert row["from base"]["pass@4"].difference.value == 0
    assert row["rollout_tokens"] == 200
    assert row["token_entropy"] == pytest.approx(0.5)
    assert not summary("base", [base], base, [], 4)["from base"]


def test_methods_are_compared_with_grpo_of_the_same_seeds() -> None:
    base = Run("base", None, (outcome("p", 0), outcome("q", 0)), 0)
    plain = [Run("grpo", s, (outcome("p", 1 + s), outcome("q", 2)), 0) for s in (0, 1)]
    other = [Run("opo", s, (outcome("p", 3 + s), outcome("q", 1)), 0) for s in (0, 1)]
    found = summary("opo", other, base, plain, 4)["from grpo"]["pass@1"]
    assert found.difference.value == pytest.approx((2 / 4 - 1 / 4) / 2)
    assert not summary("opo", other[:1], base, plain, 4)["from grpo"], "seeds must match"
    assert not summary("grpo", plain, base, plain, 4)["from grpo"]


def test_one_policy_per_seed_is_not_one_mixture_of_them() -> None:
    """pass@k of a mixture of seeds would be higher than that of any seed."""
    base = Run("base", None, (outcome("p", 0), outcome("q", 0)), 0)
    lucky = Run("rloo", 0, (outcome("p", 4), outcome("q", 0)), 0)
    other = Run("rloo", 1, (outcome("p", 0), outcome("q", 4)), 0)
    assert summary("rloo", [lucky, other], base, [], 4)["pass@4"] == pytest.approx(0.5)


def test_the_table_of_the_docs_is_of_methods_that_exist() -> None:
    from baselines.methods import METHODS

    assert set(TABLE) <= set(METHODS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["grppo"], "did you mean grpo"), (["kl-cov", "--set", "minibatches=1"], "inert")],
)
def test_mistakes_are_told_before_anything_is_run(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    run = tmp_path / "sweep"
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(app, ["sweep", *arguments, "--run", str(run)], catch_exceptions=False)
    assert not run.exists()


@pytest.mark.slow
def test_a_sweep_that_is_given_again_only_reports(tmp_path: Path) -> None:
    arguments = [
        "sweep", "rloo", "nsr", "--seeds", "1", "--limit", "2", "--n", "4", "--steps", "1",
        "--jobs", "1", "--run", str(tmp_path), "--json", "--tasks", "product,sort",
        "--set", "prompts=2", "--set", "group_size=2", "--set", "train_limit=4",
        "--set", "sampling.max_tokens=30",
    ]  # fmt: skip
    first = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert [row["name"] for row in json.loads(first.stdout)["rows"]] == [
        "base", "base, T=1.5", "rloo", "nsr",
    ]  # fmt: skip
    stamp = (tmp_path / "rloo-0" / "weights" / "model.safetensors").stat().st_mtime_ns
    again = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert (tmp_path / "rloo-0" / "weights" / "model.safetensors").stat().st_mtime_ns == stamp
