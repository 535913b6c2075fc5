"""Audits of small evaluations that were really made: planted faults are found, clean runs pass."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import sessions, wiring
from cli.main import run as command
from memory.store import CaseStore
from memory.types import CaseIn
from tests.cli.commands import tfgrpo
from tests.cli.spoken import solved
from tests.tfgrpo.experience.world import text_of
from tfgrpo.config import EvalSpec
from tfgrpo.llm.scripted import Reply, ScriptedModel
from tfgrpo.runs import RunDir
from tfgrpo.seeding import derive_rng
from tfgrpo.settings import dump
from tfgrpo.types import ChatRequest, Failure

Voice = Callable[[ChatRequest, int], Reply]
SETTINGS = {
    "tasks": {"kind": "procedural", "families": ["sum", "product"]}, "limit": 12, "n": 4, "seed": 3,
}  # fmt: skip


def honest(request: ChatRequest, index: int) -> Reply:
    """Right three times of four, each time in other words."""
    rng = derive_rng(0, text_of(request), index)
    answer = solved(text_of(request)) + (rng.randint(1, 500) if rng.random() < 0.25 else 0)
    return f"Attempt {rng.random()}.\nAnswer: {answer}"


def evaluated(path: Path, voice: Voice = honest, **changes: Any) -> Path:
    """An evaluation run as the command makes it, of a model with this voice."""
    spec = EvalSpec.model_validate(SETTINGS | changes)
    model = ScriptedModel(voice)
    with (
        sessions.open_run(path, spec, "eval") as opened,
        wiring.session(path / sessions.CALLS, spec.budget, spec.price, lambda _: model) as models,
    ):
        sessions.run_evaluation(spec, opened, models, sessions.Watch())
    return path


def problems(path: Path) -> list[dict[str, Any]]:
    return list(RunDir.open(path).read_rows("samples.jsonl"))


def written(path: Path, *rows: dict[str, Any]) -> dict[str, str]:
    """A task file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"kind": "jsonl", "path": str(path)}


@pytest.fixture
def audit(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[dict[str, Any]]]:
    """The checks of the last run by name; the exit code must be that of the worst check."""

    def give(*runs: Path) -> list[dict[str, Any]]:
        with pytest.raises(SystemExit) as end:
            command(["audit", *map(str, runs), "--json", "--train", "100"])
        printed = capsys.readouterr()
        assert printed.err == ""
        rows: list[dict[str, Any]] = json.loads(printed.out)
        assert [row["run"] for row in rows] == [str(path) for path in runs]
        bad = any(check["level"] == "bad" for row in rows for check in row["checks"])
        assert int(end.value.code or 0) == bad
        return [{check["name"]: check for check in row["checks"]} for row in rows]

    return give


Audit = Callable[..., list[dict[str, Any]]]


def levels(checks: dict[str, Any]) -> dict[str, str]:
    return {name: check["level"] for name, check in checks.items() if check["level"] != "ok"}


# clean runs ---------------------------------------------------------------------------------------


def test_a_clean_run_has_nothing_to_look_at(audit: Audit, tmp_path: Path) -> None:
    (checks,) = audit(evaluated(tmp_path / "e"))
    assert levels(checks) == {}
    assert set(checks) == {
        "guessing", "shuffled gold", "constant answer", "graded again", "graded by 'numeric'",
        "several answers", "leaks", "cut off", "no answer", "copies", "failures",
    }  # fmt: skip
    assert checks["graded by 'numeric'"]["finding"] == "0 of 48 samples are graded otherwise"


@pytest.mark.slow
def test_a_clean_run_of_the_pocket_model_has_nothing_bad(tmp_path: Path) -> None:
    """Processes of their own, all families, two arms."""
    shape = ("--limit", "12", "--n", "8", "--max-tokens", "192")
    tfgrpo("eval", "--run", tmp_path / "base", *shape)
    tfgrpo("eval", "--run", tmp_path / "shot", "--policy", "fewshot:2", *shape)
    done = tfgrpo("audit", tmp_path / "base", tmp_path / "shot", "--train", "200")
    assert not re.search(r"\bbad\b", done.stdout)
    assert "texts shown 2, cases shown 0" in " ".join(done.stdout.split())


# planted faults -----------------------------------------------------------------------------------


def test_a_lesson_that_holds_a_test_question_is_found(audit: Audit, tmp_path: Path) -> None:
    sample = problems(evaluated(tmp_path / "base"))[3]
    lessons = tmp_path / "lessons.txt"
    held = f"When asked {sample['prompt'].lower()} say it at once"
    lessons.write_text(f"Add the ones first.\n{held}\n", encoding="utf-8")
    policy = {"kind": "library", "path": str(lessons)}
    (checks,) = audit(evaluated(tmp_path / "e", policy=policy))
    assert levels(checks) == {"leaks": "bad"}
    assert checks["leaks"]["value"] == 1.0
    assert checks["leaks"]["examples"] == [f"asks {sample['task_id']}: {held}"]


def test_a_gold_answer_alone_is_only_looked_at(audit: Audit, tmp_path: Path) -> None:
    gold = problems(evaluated(tmp_path / "base"))[0]["gold"]
    lessons = tmp_path / "lessons.txt"
    lessons.write_text(f"Results like {gold} are frequent.\n", encoding="utf-8")
    policy = {"kind": "library", "path": str(lessons)}
    (checks,) = audit(evaluated(tmp_path / "e", policy=policy))
    assert levels(checks) == {"leaks": "look"}
    assert "states the gold of" in checks["leaks"]["examples"][0]


def test_a_lost_library_cannot_be_looked_at(audit: Audit, tmp_path: Path) -> None:
    lessons = tmp_path / "lessons.txt"
    lessons.write_text("Add the ones first.\n", encoding="utf-8")
    path = evaluated(tmp_path / "e", policy={"kind": "library", "path": str(lessons)})
    (before,) = audit(path)
    assert levels(before) == {}
    assert before["leaks"]["finding"].startswith("texts shown 1, cases shown 0")
    lessons.unlink()
    (after,) = audit(path)
    assert levels(after) == {"leaks": "look"}
    assert "There is no library at" in after["leaks"]["finding"]


def test_words_of_a_template_give_nothing_away(audit: Audit, tmp_path: Path) -> None:
    """Nine words are shared by all problems; only the last one tells them apart."""
    shared = "In the village how many apples are there in"
    rows = [
        {"question": f"{shared} {word}", "answer": f"{300 + 7 * i}", "split": split}
        for i, word in enumerate(("Ash", "Bray", "Cove", "Dale", "Elm", "Ford", "Gate", "Hill"))
        for split in (["train", "test"][i % 2],)
    ]
    tasks = written(tmp_path / "own.jsonl", *rows)

    def fruitful(request: ChatRequest, index: int) -> Reply:
        word = text_of(request).split()[-1]
        gold = next(row["answer"] for row in rows if row["question"].endswith(word))
        return f"Sample {index} of {word}.\nAnswer: {gold}"

    for name, lesson, wanted in (
        ("template", f"{shared} a village ask its people", {}),
        ("question", f"{shared} Bray", {"leaks": "bad"}),
    ):
        path = tmp_path / f"{name}.txt"
        path.write_text(f"{lesson}\n", encoding="utf-8")
        policy = {"kind": "library", "path": str(path)}
        run = evaluated(tmp_path / name, fruitful, tasks=tasks, policy=policy)
        assert levels(audit(run)[0]) == wanted


def test_a_case_of_a_test_problem_that_was_shown_is_found(audit: Audit, tmp_path: Path) -> None:
    first = problems(evaluated(tmp_path / "base"))[0]
    memory = {"path": str(tmp_path / "bank"), "read": "similarity", "k": 1, "floor": -1.0}
    with CaseStore(tmp_path / "bank", mode="rw") as bank:
        case = CaseIn(question=first["prompt"], plan="Add.", outcome="success")
        bank.add(case, actor="test")
    for guard, wanted in (("strict", {}), ("off", {"leaks": "bad"})):
        path = evaluated(tmp_path / guard, memory={**memory, "guard": guard})
        (checks,) = audit(path)
        assert levels(checks) == wanted
    assert "texts shown 0, cases shown 1" in checks["leaks"]["finding"]
    assert checks["leaks"]["examples"][0].startswith("same question")


def accepts_everything(text: str, answer: str, task: object) -> bool:
    return True


def test_a_verifier_that_accepts_everything_is_found(audit: Audit, tmp_path: Path) -> None:
    reward = {"kind": "custom", "target": "tests.cli.test_audit:accepts_everything"}
    (checks,) = audit(evaluated(tmp_path / "e", reward=reward))
    assert levels(checks) == {"shuffled gold": "bad", "graded by 'numeric'": "look"}
    assert checks["shuffled gold"]["value"] == 1.0


def test_a_policy_with_one_answer_is_found(audit: Audit, tmp_path: Path) -> None:
    def one(request: ChatRequest, index: int) -> Reply:
        return f"Thought {index}.\nAnswer: 777"

    (checks,) = audit(evaluated(tmp_path / "e", one))
    assert levels(checks) == {"constant answer": "bad"}
    assert "'777' is 100.0% of all samples of" in checks["constant answer"]["finding"]


def test_yes_to_everything_is_a_guess(audit: Audit, tmp_path: Path) -> None:
    rows = [
        {"question": f"Is {i} even?", "answer": "yes" if i % 2 == 0 else "no", "split": split}
        for i in range(40)
        for split in (["train", "test"][i // 20],)
    ]
    tasks = written(tmp_path / "own.jsonl", *rows)
    path = evaluated(
        tmp_path / "e", lambda request, i: f"Thought {i}.\nAnswer: yes", tasks=tasks, limit=20
    )
    (checks,) = audit(path)
    assert levels(checks) == {"guessing": "bad", "constant answer": "bad"}
    assert "guessing reaches 50.0% of 50.0% at k = 1" in checks["guessing"]["finding"]


def test_a_record_that_was_changed_is_found(audit: Audit, tmp_path: Path) -> None:
    path = evaluated(tmp_path / "e")
    lines = (path / "outcomes.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    row["correct"][0] = not row["correct"][0]
    changed = "\n".join([json.dumps(row), *lines[1:], ""])
    (path / "outcomes.jsonl").write_text(changed)
    (checks,) = audit(path)
    assert levels(checks) == {"graded again": "bad", "graded by 'numeric'": "look"}
    assert checks["graded again"]["value"] == pytest.approx(1 / 48)


def test_losses_copies_and_lengths_are_counted_apart(audit: Audit, tmp_path: Path) -> None:
    def troubled(request: ChatRequest, index: int) -> Reply:
        if index == 0:
            return Failure("transport", "the line is dead")
        right = f"Answer: {solved(text_of(request))}"
        return right if index < 3 else "I cannot say."

    (checks,) = audit(evaluated(tmp_path / "e", troubled))
    assert levels(checks) == {"no answer": "bad", "failures": "bad"}
    assert checks["failures"]["finding"] == "12 samples failed (transport 12)"
    assert checks["failures"]["value"] == 0.25
    assert checks["no answer"]["value"] == pytest.approx(1 / 3)
    (same,) = audit(evaluated(tmp_path / "s", lambda r, i: f"Answer: {solved(text_of(r))}"))
    assert levels(same) == {"copies": "bad"}


# several runs -------------------------------------------------------------------------------------


def test_a_gain_that_is_form_is_found(audit: Audit, tmp_path: Path) -> None:
    def shy(request: ChatRequest, index: int) -> Reply:
        return f"I cannot say {index}." if index % 2 else honest(request, index)

    base = evaluated(tmp_path / "base", shy, n=16)
    arm = evaluated(tmp_path / "arm", honest, n=16)
    first, second = audit(base, arm)
    assert "form" not in first
    assert levels(second) == {"form": "bad"}
    assert second["form"]["value"] > 0.3


def test_a_second_run_in_which_nothing_changes_is_found(audit: Audit, tmp_path: Path) -> None:
    """This model does not hear its temperature."""
    runs = [tmp_path / "cool", tmp_path / "warm"]
    for path, temperature in zip(runs, (0.5, 1.0), strict=True):
        evaluated(path, sampling={"temperature": temperature})
    _, second = audit(*runs)
    assert levels(second) == {"twins": "bad"}


# what is shown, and what cannot be audited --------------------------------------------------------


def test_examples_are_harmless_and_disagreements_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"question": f"What is {i} / 7?", "answer": f"{i}/7", "split": "test"} for i in (1, 2, 3)
    ]

    def hostile(request: ChatRequest, index: int) -> Reply:
        number = re.findall(r"([0-9]) / 7", text_of(request))[-1]
        return f"\x1b[31m[red]{index}[/] \x07:key:\nAnswer: {int(number) / 7:.9f}"

    path = evaluated(tmp_path / "[e]", hostile, tasks=written(tmp_path / "own.jsonl", *rows))
    with pytest.raises(SystemExit) as end:
        command(["audit", str(path)])
    assert not end.value.code
    printed = capsys.readouterr().out
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", printed)
    flat = " ".join(printed.split())
    assert "12 of 12 samples are graded otherwise" in flat
    assert flat.count("wrong became") == 3
    assert "[31m[red]0[/] :key: Answer: 0." in flat


def test_what_is_no_evaluation_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(path: Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            command(["audit", str(path)])
        return int(end.value.code or 0), " ".join(capsys.readouterr().err.split())

    with RunDir.create(tmp_path / "learn", {}, "learn"):
        pass
    code, told = refused(tmp_path / "learn")
    assert code == 2
    assert "is no finished evaluation; give a run of tfgrpo eval" in told
    spec = EvalSpec.model_validate(SETTINGS)
    with RunDir.create(tmp_path / "begun", dump(spec), "eval"):
        pass
    assert refused(tmp_path / "begun")[0] == 2
    assert refused(tmp_path / "nowhere")[0] == 1


def test_other_problems_than_those_evaluated_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": f"What is {i}?", "answer": str(i), "split": "test"} for i in range(4)]
    tasks = written(tmp_path / "own.jsonl", *rows)
    path = evaluated(tmp_path / "e", tasks=tasks)
    written(tmp_path / "own.jsonl", *rows[:3], {**rows[3], "answer": "77"})
    with pytest.raises(SystemExit) as end:
        command(["audit", str(path)])
    assert end.value.code == 1
    assert "other problems than jsonl:own now has; restore" in capsys.readouterr().err
