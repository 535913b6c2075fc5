"""`tfgrpo rescore`: stored replies graded again, the old run untouched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import sessions, wiring
from cli.main import run as command
from tests.cli.commands import tfgrpo
from tests.cli.spoken import solved
from tests.tfgrpo.experience.world import text_of
from tfgrpo.config import EvalSpec
from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.rewards.table import ExactReward
from tfgrpo.runs import RunDir
from tfgrpo.settings import dump, load
from tfgrpo.tokens import pack, unpack
from tfgrpo.types import (
    ChatRequest,
    Completion,
    Failure,
    Rollout,
    RolloutGroup,
    Score,
    Task,
    TaskOutcome,
)
from tfgrpo.verdict.own import read_outcomes
from tfgrpo.verdict.regrade import regrade

GOLDS = {"How much is a half?": "0.5", "How much is two?": "2", "How much is one?": "1"}
SAID = {
    "How much is a half?": ("Answer: 0.50000001", "Answer: 1/2", "Answer: 0.6", "no idea"),
    "How much is two?": ("Answer: 2", "Answer: 2.0", "Answer: 3", "Answer: two"),
    "How much is one?": ("Answer: 1", "\x1b[31mred\nAnswer: C", "Answer: 1", "Answer: 1"),
}
Rescore = Callable[..., Any]


def evaluated(path: Path, tasks: Any, voice: Callable[[ChatRequest, int], str], n: int) -> Path:
    """An evaluation run as the command makes it, of a model with this voice."""
    spec = EvalSpec.model_validate({"tasks": tasks, "limit": 6, "n": n, "seed": 1})
    model = ScriptedModel(voice)
    with (
        sessions.open_run(path, spec, "eval") as opened,
        wiring.session(path / sessions.CALLS, spec.budget, spec.price, lambda _: model) as models,
    ):
        outcomes = sessions.run_evaluation(spec, opened, models, sessions.Watch())
        ids = tuple(
            Rollout(
                o.task_id, i, "p", Completion("", "stop", token_ids=(i,)), Score(0, False, None)
            )
            for o in outcomes
            for i in range(o.n)
        )
        groups = [RolloutGroup(Task(o.task_id, "", None, "", "test"), ids[: o.n]) for o in outcomes]
        opened.write_bytes("tokens.npz", pack(groups) or b"")
    return path


def written(path: Path, golds: dict[str, str]) -> dict[str, str]:
    rows = [{"question": q, "answer": a, "split": "test"} for q, a in golds.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"kind": "jsonl", "path": str(path)}


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Questions of a file, answered in several spellings, graded by `exact`."""

    def speak(request: ChatRequest, index: int) -> str:
        return next(said[index] for question, said in SAID.items() if question in text_of(request))

    return evaluated(tmp_path / "asked", written(tmp_path / "tasks.jsonl", GOLDS), speak, 4)


@pytest.fixture
def rescore(capsys: pytest.CaptureFixture[str]) -> Rescore:
    def give(*arguments: str | Path, code: int = 0) -> Any:
        with pytest.raises(SystemExit) as end:
            command(["rescore", *map(str, arguments), "--json"])
        printed = capsys.readouterr()
        assert int(end.value.code or 0) == code, printed.err
        return printed.err if code else json.loads(printed.out)

    return give


def files(path: Path) -> dict[str, str]:
    return {
        str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in path.rglob("*")
        if p.is_file()
    }


def by_prompt(path: Path) -> dict[str, TaskOutcome]:
    run = RunDir.open(path)
    prompts = {row["task_id"]: row["prompt"] for row in run.read_rows("samples.jsonl")}
    return {prompts[o.task_id]: o for o in read_outcomes(run)}


def test_another_verifier(asked: Path, tmp_path: Path, rescore: Rescore) -> None:
    before = files(asked)
    new = tmp_path / "numeric"
    told = rescore(asked, "--reward", "numeric", "--run", new)
    assert files(asked) == before
    assert (told["reward_before"], told["reward"]) == ("exact", "numeric")
    # 0.50000001 is near enough to a half, and words are no numbers.
    old, found = by_prompt(asked), by_prompt(new)
    assert old["How much is a half?"].correct == (False, True, False, False)
    assert found["How much is a half?"].correct == (True, True, False, False)
    assert found["How much is a half?"].answers == ("1/2", "1/2", "3/5", None)
    assert found["How much is two?"].correct == old["How much is two?"].correct
    assert found["How much is two?"].answers[3] is None
    assert (told["to_right"], told["problems"], told["samples"]) == (1, 3, 12)


def test_graded_by_the_present_code_nothing_changes(
    asked: Path, tmp_path: Path, rescore: Rescore
) -> None:
    new = tmp_path / "again"
    told = rescore(asked, "--run", new)
    assert (told["to_right"], told["to_wrong"], told["right"]) == (0, 0, told["right_before"])
    assert RunDir.open(new).config == RunDir.open(asked).config
    for name in ("outcomes.jsonl", "samples.jsonl", "ledger.json", "tokens.npz", "began.jsonl"):
        assert (new / name).read_bytes() == (asked / name).read_bytes(), name
    (row,) = RunDir.open(new).read_rows("rescored.jsonl")
    assert (row["from"], row["identity"]) == (str(asked), RunDir.open(asked).identity)
    summary = RunDir.open(new).read_json("summary.json")
    assert summary["pass_at_k"]["1"]["value"] == pytest.approx(told["right"] / told["samples"])


def test_families_are_graded_by_their_instances(tmp_path: Path, rescore: Rescore) -> None:
    def speak(request: ChatRequest, index: int) -> str:
        return f"Answer: {solved(text_of(request)) + index % 2}"

    families = {"kind": "procedural", "families": ["sum", "product"]}
    old = evaluated(tmp_path / "old", families, speak, 4)
    # As if an earlier version had taken every other right reply for wrong.
    rows = [json.loads(line) for line in (old / "outcomes.jsonl").read_text().splitlines()]
    right = [tuple(row["correct"]) for row in rows]
    assert right == [(True, False, True, False)] * 6
    for row in rows:
        row["correct"][0] = False
    (old / "outcomes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = rescore(old, "--run", tmp_path / "new")
    assert (told["right_before"], told["right"], told["to_right"]) == (6, 12, 6)
    assert [o.correct for o in read_outcomes(RunDir.open(tmp_path / "new"))] == right
    told = rescore(old, "--reward", "numeric", "--run", tmp_path / "other", code=2)
    assert "have a grader of their own; leave out --reward" in told
    assert not (tmp_path / "other").exists()


def test_a_corrected_gold_answer_counts(asked: Path, tmp_path: Path, rescore: Rescore) -> None:
    written(tmp_path / "tasks.jsonl", GOLDS | {"How much is two?": "3"})
    told = rescore(asked, "--run", tmp_path / "new")
    assert (told["other_golds"], told["to_right"], told["to_wrong"]) == (1, 1, 2)
    new = RunDir.open(tmp_path / "new")
    golds = {row["prompt"]: row["gold"] for row in new.read_rows("samples.jsonl")}
    assert golds == GOLDS | {"How much is two?": "3"}
    began = [next(RunDir.open(path).read_rows("began.jsonl")) for path in (asked, new.path)]
    assert began[0]["policy_id"] == began[1]["policy_id"]
    assert began[0]["tasks"] != began[1]["tasks"]


def test_what_cannot_be_graded_again_is_refused(
    asked: Path, tmp_path: Path, rescore: Rescore
) -> None:
    inside = asked / "inside"
    assert "lies in the run" in rescore(asked, "--run", inside, code=2)
    assert "is not of the reward" in rescore(asked, "--set", "n=3", code=2)
    assert "names no reward" in rescore(asked, "--reward", "best", code=2)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    assert "is not empty" in rescore(asked, "--run", taken, code=1)
    rest = {q: a for q, a in GOLDS.items() if q != "How much is one?"}
    written(tmp_path / "tasks.jsonl", rest)
    assert "no more; restore it" in rescore(asked, "--run", tmp_path / "new", code=2)
    (asked / "outcomes.jsonl").unlink()
    assert "is no finished evaluation" in rescore(asked, code=2)
    assert "is no run folder" in rescore(tmp_path / "none", code=1)
    assert not (tmp_path / "new").exists()


def test_what_is_shown_is_harmless(asked: Path, tmp_path: Path) -> None:
    """In a process of its own: the hostile reply changes its verdict and is shown."""
    written(tmp_path / "tasks.jsonl", GOLDS | {"How much is one?": "C"})
    done = tfgrpo("rescore", asked, "--run", tmp_path / "new")
    assert "wrong -> right" in done.stdout
    assert "[31mred Answer: C" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    lines = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines()[2:8])
    assert lines == {
        "right before": "6", "right now": "4", "wrong -> right": "1", "right -> wrong": "3",
        "not graded now": "0", "problems with another gold answer": "1",
    }  # fmt: skip


class Tired(ExactReward):
    """A verifier that fails on some replies."""

    def score(self, task: Task, text: str) -> Score | Failure:
        return Failure("grading", "too slow") if "slow" in text else super().score(task, text)


def test_what_a_verifier_cannot_grade_is_no_sample_any_more() -> None:
    task = Task("t", "?", "1", "d", "test")
    before = TaskOutcome(
        "t", "d", (True, True, False, False), ("1", "1", "2", "3"), ("m",) * 4,
        (0.1, 0.2, 0.3, 0.4), (10, 20, 30, 40), truncated=1, failures=1,
    )  # fmt: skip
    texts = ("Answer: 1", "slow", "Answer: 1", "Answer: 3")
    found = regrade(task, before, texts, Tired())
    assert found.kept == (0, 2, 3)
    assert found.outcome == TaskOutcome(
        "t", "d", (True, True, False), ("1", "1", "3"), (None,) * 3, (0.1, 0.3, 0.4), (10, 30, 40),
        truncated=1, failures=2,
    )  # fmt: skip
    assert found.failures == ("grading: too slow",)
    (flip,) = found.flips
    assert (flip.text, flip.was_right, flip.answer_before, flip.answer) == (
        "Answer: 1", False, "2", "1",
    )  # fmt: skip


def test_the_new_run_is_resumed_like_any_other(
    asked: Path, tmp_path: Path, rescore: Rescore
) -> None:
    """An evaluation of the same settings in the new folder reads it, and samples nothing."""
    new = tmp_path / "new"
    rescore(asked, "--run", new)
    spec = load(EvalSpec, None, (), RunDir.open(new).config)
    assert dump(spec) == RunDir.open(new).config
    before = files(new)

    def silent(request: ChatRequest, index: int) -> str:
        raise AssertionError("a finished evaluation was sampled again")

    model = ScriptedModel(silent)
    with (
        sessions.open_run(new, spec, "eval") as opened,
        wiring.session(new / sessions.CALLS, spec.budget, spec.price, lambda _: model) as models,
    ):
        outcomes = sessions.run_evaluation(spec, opened, models, sessions.Watch())
    assert outcomes == read_outcomes(RunDir.open(asked))
    after = files(new)
    assert {name: after[name] for name in before if name != ".lock"} == {
        name: digest for name, digest in before.items() if name != ".lock"
    } | ({"ledger.json": after["ledger.json"]})
    assert unpack((new / "tokens.npz").read_bytes()).keys() == {o.task_id for o in outcomes}
