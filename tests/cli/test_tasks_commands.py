"""`tfgrpo tasks` with sets, own tasks and own rewards; which grader goes with which tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli import wiring
from tests.cli.commands import Cli
from tests.tfgrpo.modules import install
from tfgrpo import config
from tfgrpo.errors import ConfigError
from tfgrpo.rewards.custom import FunctionReward
from tfgrpo.rewards.table import ExactReward, NumericReward, WordsReward
from tfgrpo.settings import load
from tfgrpo.tasks.gym import FAMILIES as GYM
from tfgrpo.tasks.gym import GymReward
from tfgrpo.tasks.presets import PRESETS
from tfgrpo.tasks.procedural import FamilyReward

CODE = """
def load(count=3):
    return [{"question": f"{i}?", "answer": i, "split": "train"} for i in range(count)]

def grade(text, answer, task):
    return int(text.split()[-1]) == int(answer)

def half(text, answer, task):
    return 0.5

def odd(text):
    return True

def near(completions, level, **columns):
    return [0.5]
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, CODE, tasks__mine="users_own:load")


@pytest.fixture
def gsm8k(tmp_path: Path) -> Path:
    rows = [{"question": f"Ann has {i} pens?", "answer": f"so\n#### {i}"} for i in range(4)]
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def bench(tasks: str, *more: str) -> wiring.Bench:
    spec = load(config.EvalSpec, None, [f"tasks='{tasks}'", *more])
    return wiring.build_tasks(spec.tasks, spec.reward)


def test_sets_are_listed_with_size_and_licence(cli: Cli) -> None:
    listed = json.loads(cli("tasks", "list", "--json").out)
    assert set(listed["sets"]) == set(PRESETS)
    assert listed["sets"]["gsm8k"]["licence"] == "MIT"
    assert (listed["sets"]["gsm8k"]["train_rows"], listed["sets"]["gsm8k"]["test_rows"]) == (
        7473, 1319,
    )  # fmt: skip
    assert listed["gym"] == sorted(GYM)
    assert "mine" in listed["plugins"]
    table = cli("tasks", "list").out
    assert all(f"set:{name}" in table for name in PRESETS)
    assert "1319" in table
    assert "MIT" in table


def test_the_grader_of_a_set_is_its_own_unless_another_is_named(gsm8k: Path) -> None:
    assert isinstance(bench(f"set:gsm8k@{gsm8k}").reward, NumericReward)
    assert isinstance(bench(f"set:gsm8k@{gsm8k}", "reward=words").reward, WordsReward)
    assert isinstance(bench(f"set:gsm8k@{gsm8k}", "reward=users_own:grade").reward, FunctionReward)
    assert isinstance(bench("users_own:load").reward, ExactReward)
    assert isinstance(bench("sum").reward, FamilyReward)
    assert isinstance(bench("sum", "reward=users_own:grade").reward, FunctionReward)


def test_a_set_is_pinned_by_a_key() -> None:
    spec = load(config.EvalSpec, None, ["tasks=set:gsm8k", "tasks.revision=abc"])
    assert spec.tasks == config.SetSpec(name="gsm8k", revision="abc")


def test_the_example_in_the_repository(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    own = ("tasks", "grade", "custom_reward:load", "--set", "reward=custom_reward:grade", "--json")
    assert all(row["score"]["correct"] for row in json.loads(cli(*own).out))
    trl = ("--set", "reward=trl:custom_reward:close", "--set", "reward.threshold=0.99")
    ended = cli(*own[:3], *trl, "--reply", "Answer: 9", "--limit", "1", "--json")
    (row,) = json.loads(ended.out)
    assert row["score"] == {"answer": "9", "correct": False, "mode": None, "reward": 0.0}
    assert cli(*own, "--reply", "Answer: nine").code == 1


def test_names_of_reasoning_gym_are_sets_too() -> None:
    pytest.importorskip("reasoning_gym")
    found = bench("set:chain_sum")
    assert found.tasks.name == "gym:chain_sum"
    assert isinstance(found.reward, GymReward)
    with pytest.raises(ConfigError, match="are generated; leave out their path"):
        bench("set:chain_sum@x.jsonl")


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("users_own:odd", r"users_own:odd\(text\) cannot be called"),
        ("trl:users_own:near", r"missing a required argument: 'level'"),
        ("nowhere:f", r"no module nowhere .* PYTHONPATH"),
        ("{kind='code', allow_code_execution=true}", r"has no tests to run code against"),
    ],
)
def test_what_does_not_go_together_is_told_before_anything_runs(reward: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bench("users_own:load", f"reward={reward}")


def test_the_gold_answers_are_graded(cli: Cli) -> None:
    graded = cli("tasks", "grade", "plugin:mine", "--set", "reward=users_own:grade", "--json")
    rows: list[dict[str, Any]] = json.loads(graded.out)
    assert [row["score"]["correct"] for row in rows] == [True] * 3
    table = cli("tasks", "grade", "plugin:mine", "--reply", "Answer: 1").out
    assert [line.split()[1:4] for line in sorted(table.strip().split("\n")[1:], key=_gold)] == [
        ["0", "0", "no"], ["1", "1", "yes"], ["2", "0", "no"],
    ]  # fmt: skip


def _gold(line: str) -> str:
    return line.split()[1]


def test_a_grader_that_fails_ends_with_one(cli: Cli) -> None:
    own = ("tasks", "grade", "users_own:load", "--set", "reward=users_own:grade")
    ended = cli(*own, "--reply", "I cannot [say]", "--limit", "1")
    assert ended.code == 1
    table = " ".join(ended.out.split())
    assert "failed users_own:grade failed with ValueError: invalid literal" in table
    assert "'[say]'" in table
    (row,) = json.loads(cli(*own, "--reply", "no", "--limit", "1", "--json").out)
    assert row["failure"]["stage"] == "grading"


def test_a_reward_without_threshold_asks_for_one(cli: Cli) -> None:
    own = ("tasks", "grade", "users_own:load", "--set", "reward=users_own:half")
    ended = cli(*own)
    assert (ended.code, "set reward.threshold to the least reward" in ended.err) == (2, True)
    assert cli(*own, "--set", "reward.threshold=0.5").code == 0


def test_overlap_ends_with_one_and_says_where(cli: Cli, gsm8k: Path, tmp_path: Path) -> None:
    learned = tmp_path / "learned.jsonl"
    rows = [{"question": q, "answer": 1, "split": "train"}
            for q in ("ann has 3  pens?", "Ann has 7 pens?", "[red]Why?")]  # fmt: skip
    learned.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ended = cli("tasks", "overlap", f"jsonl:{learned}", f"set:gsm8k@{gsm8k}")
    assert ended.code == 1
    assert "learned from: 3    asked: 4    asked and learned from: 1" in ended.out
    assert "same question, 1.00\n  ann has 3  pens?\n  Ann has 3 pens?" in ended.out
    told = json.loads(
        cli("tasks", "overlap", f"jsonl:{learned}", f"set:gsm8k@{gsm8k}", "--json").out
    )
    assert (len(told["known"]), told["rules"]) == (1, {"same question": 1})
    assert told["pairs"][0]["asked_prompt"] == "Ann has 3 pens?"
    fine = cli("tasks", "overlap", f"jsonl:{learned}", "sum", "--limit", "20")
    assert (fine.code, "asked and learned from: none" in fine.out) == (0, True)
    assert cli("tasks", "overlap", f"set:gsm8k@{gsm8k}", "sum").code == 2
