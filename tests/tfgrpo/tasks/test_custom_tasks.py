"""Tasks from a function: rows as in a file, tasks as they are, and every bad row named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tfgrpo.modules import install
from tfgrpo.errors import ConfigError
from tfgrpo.protocols import TaskSet
from tfgrpo.tasks.custom import CustomTasks, load_tasks
from tfgrpo.tasks.jsonl import JsonlTasks
from tfgrpo.tasks.split import SPLITS
from tfgrpo.types import Task

CODE = """
from tfgrpo.tasks.procedural import ProceduralTasks

def rows(count=100, start=0):
    for i in range(start, start + count):
        yield {"question": f"{i}+1?", "answer": i + 1, "id": i, "metadata": {"level": i % 3}}

def whole():
    return ProceduralTasks(["sum"])

def broken():
    raise OSError("no such table")

def number():
    return 7
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, CODE, tasks__mine="users_own:rows")


def test_rows_become_tasks_as_those_of_a_file_do(tmp_path: Path) -> None:
    tasks = load_tasks("users_own:rows", {"count": 50})
    assert isinstance(tasks, TaskSet)
    assert tasks.name == "users_own:rows"
    found = {split: tasks.tasks(split, 99, 0) for split in SPLITS}
    assert sum(map(len, found.values())) == 50
    first = found["train"][0]
    assert first.metadata == {
        "level": (int(first.answer or "") - 1) % 3,
        "id": int(first.answer or "") - 1,
    }
    path = tmp_path / "same.jsonl"
    path.write_text("".join(f'{{"question": "{i}+1?", "answer": {i + 1}}}\n' for i in range(50)))
    same = JsonlTasks(path)
    for split in SPLITS:  # the split is the question's, not the source's
        prompts = {t.prompt for t in same.tasks(split, 99, 0)}
        assert {t.prompt for t in found[split]} == prompts


def test_options_are_arguments_and_entry_points_are_names() -> None:
    assert len(load_tasks("plugin:mine", {"start": 5, "count": 3}).tasks("train", 9, 0)) <= 3
    with pytest.raises(ConfigError, match=r"users_own:rows\(colour='red'\) failed with TypeError"):
        load_tasks("users_own:rows", {"colour": "red"})


def test_a_task_set_stands_as_it_is() -> None:
    assert load_tasks("users_own:whole", {}).name == "sum"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("users_own:broken", r"users_own:broken\(\) failed with OSError: no such table; correct"),
        ("users_own:number", r"failed with TypeError: 'int' object is not iterable"),
        ("users_own:absent", "has no absent"),
    ],
)
def test_loaders_that_break(target: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_tasks(target, {})


def test_tasks_stand_as_they_are_and_equal_questions_are_one() -> None:
    own = Task("mine", "Why?", None, "own", "test", {"tests": ["x"]})
    one = {"question": "2 + 2?", "answer": 4, "split": "train"}
    same = {"question": "2  + 2?", "answer": "4", "split": "train"}
    tasks = CustomTasks("m:f", [own, one, same])
    assert tasks.tasks("test", 9, 0) == (own,)
    assert tasks.duplicates == 1
    assert len(tasks.tasks("train", 9, 0)) == 1


def test_every_bad_row_is_named_at_once() -> None:
    rows = [
        {"question": "fine", "answer": 1, "split": "train"}, {"answer": 1}, ["no", "row"],
        {"question": "fine", "answer": 2, "split": "train"}, {"question": "q"},
    ]  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        CustomTasks("m:f", rows)  # type: ignore[arg-type]
    said = str(caught.value)
    reasons = {
        2: "none of the keys question",
        3: "no JSON object",
        4: "repeats an earlier question",
        5: "none of the keys answer",
    }
    for number, reason in reasons.items():
        assert f"row {number} " in said
        assert reason in said
    assert "row 1 " not in said
    with pytest.raises(ConfigError, match="and 5 more"):
        CustomTasks("m:f", [{}] * 15)
    with pytest.raises(ConfigError, match="gives no tasks"):
        CustomTasks("m:f", [])
