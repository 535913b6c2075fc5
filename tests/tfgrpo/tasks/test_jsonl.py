"""Tasks from JSON Lines: read, split, merge, and every bad line named at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tfgrpo.errors import ConfigError
from tfgrpo.protocols import TaskSet
from tfgrpo.tasks.jsonl import JsonlTasks, read_row
from tfgrpo.tasks.split import SPLITS


def write(path: Path, *lines: object) -> Path:
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"question": "2+2?", "answer": "4"}, "2+2?", "4"),
        ({"prompt": " 2+2? ", "gold": 4}, "2+2?", "4"),
        ({"Problem": "2+2?", "Answer": 4.5}, "2+2?", "4.5"),
        ({"problem": "p", "solution": "So $\\boxed{1}$, or \\boxed{\\frac12}."}, "p", "\\frac12"),
        ({"problem": "p", "solution": "34"}, "p", "34"),
        ({"problem": "p", "answer": "7", "solution": "no box"}, "p", "7"),
        ({"question": "q", "answer": "48/2=<<48/2=24>>24\n#### 1,024"}, "q", "1,024"),
        ({"question": "q", "answer": None}, "q", None),
    ],
)
def test_rows(row: dict[str, Any], prompt: str, answer: str | None) -> None:
    read = read_row(row)
    assert (read.prompt, read.answer) == (prompt, answer)


def test_the_file_is_a_task_set(tmp_path: Path) -> None:
    rows = [{"question": f"{i}+1?", "answer": i + 1, "id": i} for i in range(200)]
    tasks = JsonlTasks(write(tmp_path / "sums.jsonl", *rows))
    assert isinstance(tasks, TaskSet)
    assert tasks.name == "jsonl:sums"
    parts = {split: tasks.tasks(split, 999, seed=0) for split in SPLITS}
    assert sum(map(len, parts.values())) == 200
    assert all(t.split == split for split, part in parts.items() for t in part)
    assert len({t.task_id for part in parts.values() for t in part}) == 200
    assert parts["test"]
    first = parts["train"][0]
    assert first.answer == str(first.metadata["id"] + 1)
    assert tasks.tasks("train", 5, seed=0) == parts["train"][:5]
    assert tasks.tasks("train", 5, seed=1) != parts["train"][:5]


def test_a_problem_keeps_its_id_and_split_wherever_it_stands(tmp_path: Path) -> None:
    rows = [{"question": f"{i}+1?", "answer": i + 1} for i in range(60)]
    (tmp_path / "b").mkdir()
    one = JsonlTasks(write(tmp_path / "a.jsonl", *rows))
    two = JsonlTasks(write(tmp_path / "b" / "a.jsonl", *rows[::-1], {"question": "x", "answer": 1}))
    ids = {t.task_id for t in one.tasks("train", 99, 0)}
    assert ids <= {t.task_id for t in two.tasks("train", 99, 0)}


def test_rows_may_carry_their_split(tmp_path: Path) -> None:
    rows = [
        {"question": str(i), "answer": 1, "split": s}
        for i, s in enumerate(["train", "validation", "dev", "test"])
    ]
    tasks = JsonlTasks(write(tmp_path / "a.jsonl", *rows))
    assert [len(tasks.tasks(s, 9, 0)) for s in SPLITS] == [1, 2, 1]


def test_equal_prompts_are_one_task(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        {"question": "2 + 2?", "answer": 4},
        "",
        {"question": " 2  +\n2?", "answer": "4"},
    )
    tasks = JsonlTasks(path)
    assert tasks.duplicates == 1
    assert sum(len(tasks.tasks(s, 9, 0)) for s in SPLITS) == 1


def test_every_bad_line_is_named_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "bad.jsonl",
        {"question": "fine", "answer": 1},
        "{not json",
        "[1, 2]",
        {"answer": 1},
        {"question": "no gold"},
        {"question": "  ", "answer": 1},
        {"question": "yes?", "answer": True},
        {"question": "where?", "answer": 1, "split": "holdout"},
        {"question": "fine", "answer": 2},
        '{"question": "\\ud800", "answer": 1}',
        "[" * 100_000,
        {"problem": "p", "solution": "long " * 50},
        {"question": "m", "answer": 1, "metadata": [1]},
    )
    with pytest.raises(ConfigError) as caught:
        JsonlTasks(path)
    message = str(caught.value)
    for number, reason in [
        (2, "is not JSON"),
        (3, "is no JSON object"),
        (4, "none of the keys question"),
        (5, "none of the keys answer"),
        (6, "empty question"),
        (7, "neither text nor a number"),
        (8, "split 'holdout'"),
        (9, "repeats the question of line 1 with another answer"),
        (10, "not valid Unicode"),
        (11, "nested too deeply"),
    ]:
        assert f"line {number} " in message
        assert reason in message
    assert "and 2 more" in message
    assert message.endswith("each line needs a question and an answer.")


def test_files_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="check the path"):
        JsonlTasks(tmp_path / "absent.jsonl")
    with pytest.raises(ConfigError, match="has no tasks"):
        JsonlTasks(write(tmp_path / "empty.jsonl", ""))
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "\xe9", "answer": 1}\n')
    with pytest.raises(ConfigError, match="line 1 is not valid Unicode"):
        JsonlTasks(tmp_path / "latin.jsonl")
