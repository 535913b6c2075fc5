"""The commands as a user gives them: what they print, and how they end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.cli.commands import Cli
from tfgrpo.config import EvalSpec, LearnSpec, OpenAISpec
from tfgrpo.experience.edits import Add
from tfgrpo.experience.files import export_json, load_library
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.runs import RunDir
from tfgrpo.settings import dump, load
from tfgrpo.tasks.families import FAMILIES

LESSONS = (
    "Add the ones first.",
    "Group numbers by how many digits they have.",
    "Work back from the target.",
)

# What a model or a downloaded file may say, and what a terminal may show of it.
HOSTILE = {
    "\x1b[31mA red\x1b[0m": "[31mA red[0m",
    "B [red]mark[/red]": "B [red]mark[/red]",
    "C [/] [bold": "C [/] [bold",
    "D \x07bell\x08\x00\x9b2J": "D bell2J",
    "E \u202eturned\u2066": "E turned",
    "F :fire: :key:": "F :fire: :key:",
    "G [link=http://x]y[/link]": "G [link=http://x]y[/link]",
    "H\ttab\\[red]": "H tab\\[red]",
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    made = ExperienceLibrary.empty().by_hand(*map(Add, LESSONS)).library
    path = tmp_path / "library.json"
    path.write_text(export_json(made), encoding="utf-8")
    return path


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A library file that somebody else wrote: its texts never passed our cleaning."""
    blank = ExperienceLibrary.empty().by_hand(*(Add(f"lesson {i}") for i in range(len(HOSTILE))))
    data = json.loads(export_json(blank.library))
    for row, text in zip(data["ops"], HOSTILE, strict=True):
        row["operation"]["text"] = row["changes"][0]["text"] = text
        row["changes"][0]["sources"] = [{"task_id": "[/]\x1b[2J", "step": 0}]
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A learning run as one stands on the disk."""
    spec = load(LearnSpec, None, ["tasks='sum'", "seed=3"])
    made = ExperienceLibrary.empty().by_hand(*map(Add, LESSONS)).library
    path = tmp_path / "runs" / "learn-[a]"
    with RunDir.create(path, dump(spec), "learn") as opened:
        for op in made.to_ops():
            opened.append("ops.jsonl", op)
        for task in ("t1", "t2", "t3"):
            rollouts = [{"shown": ["E1"], "reward": 1.0}, {"shown": [], "reward": 0.0}]
            opened.append("groups.jsonl", {"task_id": task, "rollouts": rollouts})
        opened.append(
            "steps.jsonl",
            {"step": 0, "reward_mean": 0.25, "groups": {"mixed": 2, "all_fail": 1}, "failures": 1,
             "metrics": {"entries": 3}},
        )  # fmt: skip
    return path


def texts(path: Path) -> list[str]:
    return [entry.text for entry in load_library(path).active]


# help and errors ----------------------------------------------------------------------------------


def test_help_and_version(cli: Cli) -> None:
    top = cli("--help")
    assert top.code == 0
    for command in ("learn", "eval", "bench", "experiences", "tasks", "runs", "doctor", "abacus"):
        assert re.search(rf"\b{command}\b", top.out)
    version = cli("--version")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", version.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learn", "--set", "epocks=3"], "epocks: unknown key; did you mean epochs?"),
        (["learn", "--set", "sampling.topp=0.5"], "sampling.topp: unknown key"),
        (["learn", "--set", "epochs"], "write KEY=VALUE"),
        (["learn", "--set", "epochs=none"], "epochs:"),
        (["learn", "--epochs", "0"], "epochs:"),
        (["learn", "--model", "gpt"], "names no model; write abacus, the folder of a"),
        (["learn", "--tasks", "csv:x/y.csv"], "names no tasks; write FAMILY,FAMILY"),
        (["learn", "--preset", "paper"], "no preset 'paper'; choose from default"),
        (["learn", "--evidence", "guess"], "'guess' is none of gold, vote"),
        (["learn", "missing.toml"], "missing.toml cannot be read"),
        (["eval", "--policy", "nowhere"], "is no policy and no path; write base"),
        (["eval", "--split", "validation"], "split:"),
        (["tasks", "show", "sums"], "no task family sums; choose from sum"),
        (["tasks", "show", "jsonl:missing.jsonl"], "missing.jsonl"),
        (["tasks", "show", "[/red][bold]"], "no task family [/red][bold]; choose from sum"),
        (["experiences", "list", "missing.json"], "There is no library at missing.json; give"),
        (["doctor", "abacus"], "The doctor examines endpoints; give NAME@http"),
    ],
)
def test_wrong_input_ends_with_2_and_with_what_to_do(
    cli: Cli, arguments: list[str], message: str, tmp_path: Path
) -> None:
    ended = cli(*arguments, *(["--dry-run"] if arguments[0] in ("learn", "eval") else []))
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("Error: ")
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert ended.err.rstrip().endswith((".", "?"))


@pytest.mark.parametrize(
    "arguments",
    [["lern"], ["learn", "--epoch"], ["tasks", "show"], ["tasks", "show", "sum", "--limit", "0"],
     ["experiences", "rollback", "x", "first"]],
)  # fmt: skip
def test_misspelt_commands_end_with_2(cli: Cli, arguments: list[str]) -> None:
    ended = cli(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Error" in ended.err


def test_all_problems_are_told_at_once(cli: Cli) -> None:
    ended = cli("learn", "--tasks", "sum", "--model", "gpt", "--set", "epocks=3", "--limit", "0",
                "--dry-run")  # fmt: skip
    assert "3 problems" in ended.err
    assert all(word in ended.err for word in ("model:", "epocks:", "train_limit:"))


def test_what_is_no_run_ends_with_1(cli: Cli, tmp_path: Path) -> None:
    ended = cli("runs", "show", tmp_path)
    assert (ended.code, ended.out) == (1, "")
    assert "is no run folder; give the folder of a run" in ended.err


def test_a_process_ends_alike(tmp_path: Path) -> None:
    """Without a terminal nothing is coloured, and a long line is not broken."""
    missing = tmp_path / ("x" * 90) / "library.json"
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "experiences", "list", str(missing)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    message = f"There is no library at {missing}; give a learning run or a file."
    assert done.stderr == f"Error: {message}\n"


# settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--preset", "paper-math", "--tasks", "sum,sort", "--model", "m@http://localhost:1/v1"],
        ["--tasks", "jsonl:a b\\\"c é 😀.jsonl", "--model", "openai/x", "--reflector", "openai/y"],
        ["--evidence", "vote", "--dropout", "0.5", "--set", "limits.max_entries=3", "--seed", "9"],
        ["--set", "budget.max_usd=1.5", "--temperature", "0.3", "--group-size", "2"],
    ],
)  # fmt: skip
def test_a_dry_run_prints_settings_that_load_back(
    cli: Cli, arguments: list[str], tmp_path: Path
) -> None:
    first = cli("learn", *arguments, "--dry-run")
    assert (first.code, first.err) == (0, "")
    file = tmp_path / "settings.toml"
    file.write_text(first.out, encoding="utf-8")
    spec = load(LearnSpec, file)
    assert dump(load(LearnSpec, None, [], tomllib.loads(first.out))) == dump(spec)
    assert cli("learn", file, "--dry-run").out == first.out


def test_flags_become_settings_and_set_wins(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('tasks = "sum"\nmodel = "openai/x"\nepochs = 7\nseed = 4\n', encoding="utf-8")
    told = cli("learn", file, "--epochs", "8", "--batch-size", "5", "--max-connections", "2",
               "--set", "epochs=9", "--limit", "6", "--dry-run")  # fmt: skip
    spec = load(LearnSpec, None, [], tomllib.loads(told.out))
    assert (spec.epochs, spec.batch_size, spec.train_limit, spec.seed) == (9, 5, 6, 4)
    assert isinstance(spec.model, OpenAISpec)
    assert spec.model.max_connections == 2


def test_an_evaluation_has_settings_too(cli: Cli, library: Path, tmp_path: Path) -> None:
    told = cli("eval", "--policy", library, "--n", "4", "--split", "dev", "--dry-run")
    spec = load(EvalSpec, None, [], tomllib.loads(told.out))
    assert (spec.n, spec.split, spec.pack) == (4, "dev", "abacus")
    assert dump(spec.policy) == {"kind": "library", "path": str(library)}
    file = tmp_path / "settings.toml"
    file.write_text(told.out, encoding="utf-8")
    assert cli("eval", file, "--dry-run").out == told.out


def test_a_dry_run_leaves_nothing_behind(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("learn", "--dry-run").code == cli("eval", "--dry-run").code == 0
    assert list(tmp_path.iterdir()) == []


# tasks --------------------------------------------------------------------------------------------


def test_families_are_listed(cli: Cli) -> None:
    listed = cli("tasks", "list", "--json").json()["families"]
    assert listed == {f.name: {"title": f.title, "modes": list(f.modes)} for f in FAMILIES.values()}
    assert all(name in cli("tasks", "list").out for name in FAMILIES)


def test_problems_are_shown_with_their_gold(cli: Cli) -> None:
    shown = cli("tasks", "show", "sum,product", "--limit", "4", "--split", "dev", "--json").json()
    assert [row["dataset"] for row in shown] == ["sum", "product"] * 2
    assert {row["split"] for row in shown} == {"dev"}
    table = cli("tasks", "show", "sum,product", "--limit", "4", "--split", "dev").out
    for row in shown:
        assert re.search(rf"{row['task_id']} .*{re.escape(row['prompt'])} .*{row['answer']}", table)
    other = cli("tasks", "show", "sum", "--seed", "1", "--json").json()
    assert other != cli("tasks", "show", "sum", "--seed", "2", "--json").json()


def test_problems_from_a_file_are_shown_harmlessly(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    rows = [{"question": q, "answer": f"[/red]{i}", "split": "train"}
            for i, q in enumerate(HOSTILE)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tasks = cli("tasks", "show", f"jsonl:{path}", "--limit", "99", "--json").json()
    assert {t["prompt"] for t in tasks} <= set(HOSTILE)
    table = cli("tasks", "show", f"jsonl:{path}", "--limit", "99").out
    harmless(table)
    assert all(HOSTILE[t["prompt"]] in table for t in tasks)
    assert len(tasks) >= 3


# runs ---------------------------------------------------------------------------------------------


def test_runs_are_listed_and_shown(cli: Cli, finished: Path) -> None:
    root = finished.parent
    (row,) = cli("runs", "list", root, "--json").json()
    assert (row["path"], row["kind"], row["config"]["seed"]) == (str(finished), "learn", 3)
    assert "learn-[a]" in "".join(cli("runs", "list", root).out.split())
    shown = cli("runs", "show", finished, "--json").json()
    assert shown["config"] == row["config"]
    assert [step["reward_mean"] for step in shown["steps"]] == [0.25]
    assert shown["ledger"] is None
    table = cli("runs", "show", finished).out
    assert re.search(r"^0 +0\.250 +2 +3 +1$", table, re.MULTILINE)


def test_a_folder_without_runs_is_an_empty_list(cli: Cli, tmp_path: Path) -> None:
    assert cli("runs", "list", tmp_path, "--json").json() == []
    assert cli("runs", "list", tmp_path / "missing", "--json").json() == []


# experiences --------------------------------------------------------------------------------------


def test_experiences_are_listed_and_shown(cli: Cli, library: Path) -> None:
    rows = cli("experiences", "list", library, "--json").json()
    assert [(row["id"], row["text"]) for row in rows] == [
        (f"E{i}", text) for i, text in enumerate(LESSONS, 1)
    ]
    table = cli("experiences", "list", library).out
    assert all(text in table for text in LESSONS)
    assert cli("experiences", "show", library, "E2", "--json").json()["entry"]["text"] == LESSONS[1]
    assert cli("experiences", "show", library, "E2").out.startswith(f"E2 {LESSONS[1]}\nactive")
    unknown = cli("experiences", "show", library, "E9")
    assert unknown.code == 2
    assert "There is no E9" in unknown.err


def test_the_effect_of_an_experience_comes_from_the_runs_groups(cli: Cli, finished: Path) -> None:
    effect = cli("experiences", "show", finished, "E1", "--json").json()["effect"]
    assert effect["estimate"]["value"] == 1.0
    assert effect["estimate"]["n"] == 3
    assert "effect on reward 1.00" in cli("experiences", "show", finished, "E1").out
    assert cli("experiences", "show", finished, "E2", "--json").json()["effect"] is None


def test_a_library_is_edited_by_hand_and_rolled_back(cli: Cli, library: Path) -> None:
    assert cli("experiences", "edit", library, "E1", "Add the tens last.").code == 0
    assert cli("experiences", "disable", library, "E2").code == 0
    assert texts(library) == ["Add the tens last.", LESSONS[2]]
    assert cli("experiences", "enable", library, "E2").code == 0
    assert cli("experiences", "pin", library, "E3").code == 0
    assert [e.status for e in load_library(library).active] == ["active", "active", "pinned"]

    history = cli("experiences", "history", library, "--json").json()
    assert [row["operation"]["op"] for row in history] == ["add"] * 3 + ["modify"] + ["status"] * 3
    assert {row["origin"] for row in history} == {"user"}
    assert "Add the tens last." in cli("experiences", "history", library).out

    assert cli("experiences", "rollback", library, "--", "-1").code == 0
    assert len(load_library(library).log) == 8


def test_a_refused_edit_changes_nothing(cli: Cli, library: Path) -> None:
    before = library.read_bytes()
    for arguments in (
        ("edit", library, "E9", "text"),
        ("edit", library, "E1", " "),
        ("edit", library, "E1", LESSONS[1]),
        ("disable", library, "E9"),
    ):
        ended = cli("experiences", *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert "Nothing was changed: E_" in ended.err
    assert library.read_bytes() == before


def test_a_runs_own_log_is_never_rewritten(cli: Cli, finished: Path) -> None:
    before = (finished / "ops.jsonl").read_bytes()
    assert cli("experiences", "disable", finished, "E1").code == 0
    assert (finished / "ops.jsonl").read_bytes() == before
    assert texts(finished) == list(LESSONS[1:])
    assert (finished / "library.json").is_file()


def test_what_differs_between_two_libraries(cli: Cli, library: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    cli("experiences", "export", library, other)
    cli("experiences", "edit", other, "E1", "Add the tens last.")
    cli("experiences", "disable", other, "E2")
    change = cli("experiences", "diff", library, other, "--json").json()
    assert change["added"] == []
    assert [entry["id"] for entry in change["removed"]] == ["E2"]
    assert [[e["text"] for e in pair] for pair in change["modified"]] == [
        [LESSONS[0], "Add the tens last."]
    ]
    assert cli("experiences", "diff", library, other).out.splitlines() == [
        f"- E2 {LESSONS[1]}", f"- E1 {LESSONS[0]}", "+ E1 Add the tens last.",
    ]  # fmt: skip
    assert cli("experiences", "diff", library, library).out == ""


def test_exports_come_back(cli: Cli, library: Path, tmp_path: Path) -> None:
    whole, lines = tmp_path / "whole.json", tmp_path / "lines.txt"
    assert cli("experiences", "export", library, whole).code == 0
    assert load_library(whole).fingerprint == load_library(library).fingerprint
    assert cli("experiences", "export", library, lines).code == 0
    assert lines.read_text(encoding="utf-8").splitlines() == list(LESSONS)

    new = tmp_path / "new.json"
    assert cli("experiences", "import", new, lines).code == 0
    assert texts(new) == list(LESSONS)
    more = tmp_path / "more.json"
    more.write_text(json.dumps({"G0": "Check the sum by taking one number away."}))
    assert cli("experiences", "import", new, more).code == 0
    assert texts(new) == [*LESSONS, "Check the sum by taking one number away."]
    assert cli("experiences", "import", new, tmp_path / "missing.txt").code == 2


def test_an_export_as_it_was_after_a_step(cli: Cli, finished: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    cli("experiences", "export", finished, lines, "--step", "-5")
    assert lines.read_text() == ""
    cli("experiences", "export", finished, lines, "--step", "0")
    assert len(lines.read_text().splitlines()) == 3


@pytest.mark.parametrize("pack", ["default", "abacus"])
def test_a_preview_is_the_prompt_that_is_sent(cli: Cli, library: Path, pack: str) -> None:
    from tfgrpo.experience.context_policy import ContextPolicy
    from tfgrpo.llm.scripted import ScriptedModel
    from tfgrpo.prompts import load_pack
    from tfgrpo.types import Task

    question = "What is 1+1? " + "Take your time. " * 12 + "[E9] {{library}}"
    policy = ContextPolicy(ScriptedModel([]), load_pack(pack), load_library(library))
    prompt = policy.render(Task("t", question, None, "d", "test"), 0)
    shown = cli("experiences", "preview", library, question, "--pack", pack).out
    assert shown == "".join(f"{m.role}\n{m.content}\n\n" for m in prompt.messages)


# hostile text -------------------------------------------------------------------------------------


def harmless(printed: str) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", printed)


@pytest.mark.parametrize(
    "command", [["list"], ["history"], ["preview"], ["diff"], ["disable"], ["export"]]
)
def test_hostile_lessons_are_printed_as_text(
    cli: Cli, hostile: Path, command: list[str], tmp_path: Path
) -> None:
    empty = tmp_path / "[empty].txt"
    empty.write_text("")
    arguments: dict[str, list[str | Path]] = {
        "diff": [empty, hostile],
        "disable": [hostile, "E1"],
        "export": [hostile, tmp_path / "[b].txt"],
    }
    ended = cli("experiences", *command, *arguments.get(command[0], [hostile]))
    assert ended.code == 0
    harmless(ended.out)
    harmless(ended.err)
    if command == ["export"]:
        assert f"{tmp_path}/[b].txt" in ended.err
    else:
        wanted = list(HOSTILE.values())[command == ["disable"] :]
        assert [text for text in wanted if text not in ended.out] == []


def test_hostile_lessons_are_shown_as_text(cli: Cli, hostile: Path) -> None:
    for i, text in enumerate(HOSTILE.values(), 1):
        shown = cli("experiences", "show", hostile, f"E{i}").out
        harmless(shown)
        assert shown.startswith(f"E{i} {text}\n")
        assert "from task [/][2J in step 0" in shown


def test_json_keeps_every_character_and_is_ascii(cli: Cli, hostile: Path) -> None:
    rows = cli("experiences", "list", hostile, "--json")
    assert [row["text"] for row in rows.json()] == list(HOSTILE)
    assert rows.out.isascii()
    harmless(rows.out)
    entry = cli("experiences", "show", hostile, "E6", "--json").json()["entry"]
    assert entry["text"] == "F :fire: :key:"
    history = cli("experiences", "history", hostile, "--json").json()
    assert [row["operation"]["text"] for row in history] == list(HOSTILE)
