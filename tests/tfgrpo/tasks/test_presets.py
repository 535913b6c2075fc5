"""Standard sets: every row format, splits, files and folders, and what is refused.

All rows are made up; only their form is that of the sets.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tfgrpo.errors import ConfigError
from tfgrpo.protocols import TaskSet
from tfgrpo.rewards.table import REWARDS, make_reward
from tfgrpo.tasks.presets import PRESETS, SetTasks, find_preset, load_set, must_be_whole
from tfgrpo.tasks.set_files import split_of_file
from tfgrpo.tasks.set_rows import FORMATS
from tfgrpo.tasks.split import SPLITS
from tfgrpo.types import Score

WRAPPED = (
    "Solve the following math problem step by step. The last line of your response should be of "
    "the form Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
    "How many\n\nsocks?\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)
CONTEXT = {
    "title": ["Red door", "Blue door"],
    "sentences": [["It leads to a garden.", " The garden has a pond."], ["It is locked."]],
}
ROWS: list[tuple[str, dict[str, Any], str, str]] = [
    ("aime24", {"id": 60, "problem": " Find n. ", "solution": "...", "answer": "025", "url": "u",
                "year": "2024"}, "Find n.", "25"),
    ("aime24", {"problem": "Find n.", "answer": "000"}, "Find n.", "0"),
    ("aime25", {"problem": "Find the angle.", "answer": r"336^\circ", "id": "9"},
     "Find the angle.", "336"),
    ("aime26", {"problem": "Find n.", "answer": 7, "id": 1}, "Find n.", "7"),
    ("amc23", {"id": 0, "answer": 27.0, "url": "u", "question": "How far?"}, "How far?", "27"),
    ("amc23", {"answer": "-1.0", "question": "How far?"}, "How far?", "-1"),
    ("math500", {"problem": "Find $x$.", "solution": r"\boxed{3}", "answer": r"\frac{3}{4}",
                 "subject": "Algebra", "level": 2, "unique_id": "t/a/1.json"},
     "Find $x$.", r"\frac{3}{4}"),
    ("math500", {"problem": "Find $x$.", "solution": r"First \boxed{1}, then \boxed{(2,\pi)}."},
     "Find $x$.", r"(2,\pi)"),
    ("gsm8k", {"question": "How many?", "answer": "She has 2*600=<<2*600=1200>>1200.\n#### 1,200"},
     "How many?", "1200"),
    ("gsm8k", {"question": "How many?", "answer": "#### 3 of them\n#### -2"}, "How many?", "-2"),
    ("dapo-math-17k", {"prompt": "How many\n\nsocks?", "solution": "34", "source_prompt": [],
                       "reward_model": {"ground_truth": "34", "style": "rule"}},
     "How many\n\nsocks?", "34"),
    ("dapo-math-17k", {"prompt": [{"role": "user", "content": WRAPPED}],
                       "reward_model": {"ground_truth": "-5", "style": "rule"}},
     "How many\n\nsocks?", "-5"),
    ("hotpotqa", {"id": "5a", "question": "Where is the pond?", "answer": "the garden",
                  "type": "bridge", "level": "easy", "context": CONTEXT, "supporting_facts": {}},
     "Red door: It leads to a garden. The garden has a pond.\n\nBlue door: It is locked.\n\n"
     "Question: Where is the pond?", "the garden"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "prompt", "answer"), ROWS)
def test_rows(name: str, row: dict[str, Any], prompt: str, answer: str) -> None:
    read = PRESETS[name].read(row)
    assert (read.prompt, read.answer) == (prompt, answer)


def test_every_set_has_a_row_here() -> None:
    assert {name for name, *_ in ROWS} == set(PRESETS)


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("aime24", {"problem": "p", "answer": "1000"}, "no integer from 0 to 999"),
        ("aime24", {"problem": "p", "answer": "-3"}, "no integer from 0 to 999"),
        ("aime24", {"problem": "p", "answer": "3/4"}, "no integer from 0 to 999"),
        ("aime24", {"Problem": "p", "answer": "3"}, "has no 'problem', only Problem, answer"),
        ("aime24", {"problem": " ", "answer": "3"}, "empty problem"),
        ("aime24", {"problem": "\ud800", "answer": "3"}, "surrogates"),
        ("math500", {"problem": "p", "solution": "no box"}, "no final answer"),
        ("math500", {"problem": "p", "answer": ""}, "no final answer"),
        ("gsm8k", {"question": "q", "answer": "12"}, "does not end in '#### NUMBER'"),
        ("gsm8k", {"question": "q", "answer": "#### twelve"}, "does not end in '#### NUMBER'"),
        ("dapo-math-17k", {"prompt": "p", "solution": "1/2"}, "no integer"),
        ("dapo-math-17k", {"prompt": [], "solution": "1"}, "list index out of range"),
        ("hotpotqa", {"question": "q", "answer": "a"}, "has no 'context'"),
        ("hotpotqa", {"question": "q", "answer": "a", "context": [["t", []]]}, "other values"),
    ],
)
def test_rows_of_another_form_say_why(name: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        PRESETS[name].read(row)


def test_the_table_is_complete() -> None:
    for name, preset in PRESETS.items():
        assert preset.reward in REWARDS
        assert preset.format in FORMATS
        assert preset.revision is None or re.fullmatch(r"[0-9a-f]{40}", preset.revision)
        assert (preset.train is None) == (preset.train_rows == 0)
        assert preset.train_rows + preset.test_rows > 0
        assert preset.licence
        assert find_preset(name) is preset


@pytest.mark.parametrize(
    ("name", "gold", "reply"),
    [
        ("aime24", "25", "Answer: 025"),
        ("gsm8k", "1200", r"\boxed{\$1,200}"),
        ("hotpotqa", "The Garden.", "Answer: garden"),
    ],
)
def test_the_default_grader_reads_what_the_set_asks_for(name: str, gold: str, reply: str) -> None:
    preset = PRESETS[name]
    row = {"question": "q", "problem": "q", "context": CONTEXT, "answer": f"#### {gold}"}
    if name != "gsm8k":
        row["answer"] = gold
    tasks = SetTasks(preset, {"test": [row]})
    score = make_reward(preset.reward).score(tasks.tasks("test", 1, 0)[0], reply)
    assert isinstance(score, Score)
    assert score.correct


def gsm8k_rows(numbers: Iterable[int]) -> list[Mapping[str, Any]]:
    return [{"question": f"{i} pens?", "answer": f"so\n#### {i}"} for i in numbers]


def test_test_rows_are_the_test_and_a_tenth_of_training_rows_is_dev() -> None:
    parts = {"train": gsm8k_rows(range(1000)), "test": gsm8k_rows(range(990, 1100))}
    tasks = SetTasks(PRESETS["gsm8k"], parts)
    assert isinstance(tasks, TaskSet)
    assert tasks.name == "set:gsm8k"
    found = {split: tasks.tasks(split, 9999, seed=0) for split in SPLITS}
    # The ten questions that both parts hold stay in the test.
    assert len(found["test"]) == 110
    assert len(found["train"]) + len(found["dev"]) == 990
    assert 60 <= len(found["dev"]) <= 140
    assert tasks.duplicates == 10
    assert tasks.rows == (1000, 110)
    assert all(t.dataset == "set:gsm8k" and t.split == s for s, part in found.items() for t in part)
    assert tasks.tasks("train", 7, seed=0) == found["train"][:7]


def test_whatever_the_hub_calls_them_rows_of_a_test_set_are_the_test() -> None:
    rows = [{"problem": f"{i}?", "answer": i} for i in range(30)]
    tasks = SetTasks(PRESETS["aime24"], {"train": rows})
    assert [len(tasks.tasks(split, 99, 0)) for split in SPLITS] == [0, 0, 30]


def test_some_rows_of_another_form_are_dropped_and_many_are_refused() -> None:
    bad = {"question": "?", "answer": "12"}
    tasks = SetTasks(PRESETS["gsm8k"], {"test": [*gsm8k_rows(range(200)), bad]})
    assert (tasks.unreadable, len(tasks.tasks("test", 999, 0))) == (1, 200)
    with pytest.raises(ConfigError, match=r"1 of 11 rows for set:gsm8k .*'#### NUMBER'.*jsonl"):
        SetTasks(PRESETS["gsm8k"], {"test": [*gsm8k_rows(range(10)), bad]})


def test_a_set_that_has_changed_is_refused() -> None:
    rows = [{"problem": f"{i}?", "answer": i} for i in range(31)]
    must_be_whole(SetTasks(PRESETS["aime24"], {"train": rows[:30]}))
    with pytest.raises(ConfigError, match=r"0 training and 31 test rows, not 0 and 30 .*revision"):
        must_be_whole(SetTasks(PRESETS["aime24"], {"train": rows}))


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    return path


def counts(tasks: SetTasks) -> tuple[int, int]:
    return len(tasks.tasks("train", 99, 0)) + len(tasks.tasks("dev", 99, 0)), len(
        tasks.tasks("test", 99, 0)
    )


def test_a_file_says_by_its_name_what_it_holds(tmp_path: Path) -> None:
    test = write(tmp_path / "gsm8k_test.jsonl", gsm8k_rows(range(5)))
    assert counts(load_set("gsm8k", test)) == (0, 5)
    train = write(tmp_path / "train-00000-of-00001.jsonl", gsm8k_rows(range(6)))
    assert counts(load_set("gsm8k", train)) == (6, 0)
    with pytest.raises(ConfigError, match=r"rows\.jsonl does not tell .* call it train\.jsonl"):
        load_set("gsm8k", write(tmp_path / "rows.jsonl", gsm8k_rows(range(5))))


def test_sets_of_one_kind_need_no_such_name(tmp_path: Path) -> None:
    aime = write(tmp_path / "a.jsonl", [{"problem": "p", "answer": 1}])
    assert counts(load_set("aime26", aime)) == (0, 1)
    dapo = write(tmp_path / "d.jsonl", [{"prompt": "p", "solution": "1"}])
    assert counts(load_set("dapo-math-17k", dapo)) == (1, 0)


def test_a_folder_as_the_hub_has_it(tmp_path: Path) -> None:
    write(tmp_path / "main" / "train-00000-of-00001.jsonl", gsm8k_rows(range(9)))
    write(tmp_path / "main" / "test-00000-of-00001.jsonl", gsm8k_rows(range(90, 93)))
    write(tmp_path / "socratic" / "train.jsonl", gsm8k_rows(range(50)))
    assert counts(load_set("gsm8k", tmp_path)) == (9, 3)
    write(tmp_path / "aime" / "data" / "train-0.jsonl", [{"problem": "p", "answer": 1}])
    assert counts(load_set("aime24", tmp_path / "aime")) == (0, 1)
    write(tmp_path / "flat" / "test.jsonl", [{"problem": "p", "answer": "x"}])
    assert counts(load_set("math500", tmp_path / "flat")) == (0, 1)


def test_a_problem_has_one_id_wherever_it_comes_from(tmp_path: Path) -> None:
    given = SetTasks(PRESETS["gsm8k"], {"test": gsm8k_rows(range(5))})
    read = load_set("gsm8k", write(tmp_path / "test.jsonl", gsm8k_rows(range(5))))
    assert given.tasks("test", 9, 0) == read.tasks("test", 9, 0)


def test_a_parquet_file(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"question": "q", "answer": "a", "context": CONTEXT}]
    path = tmp_path / "validation-0.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert counts(load_set("hotpotqa", path)) == (0, 1)


@pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is not None, reason="the package pyarrow is installed"
)
def test_parquet_without_the_package_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"pip install 'tfgrpo\[parquet\]'"):
        load_set("hotpotqa", tmp_path / "test.parquet")


@pytest.mark.skipif(
    importlib.util.find_spec("datasets") is not None, reason="the package datasets is installed"
)
def test_the_hub_without_the_package_names_the_extra_and_the_file() -> None:
    with pytest.raises(ConfigError, match=r"tfgrpo\[hub\]', or use set:gsm8k@PATH\.$"):
        load_set("gsm8k")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test.jsonl", b"{", r"Line 1 of .* is not JSON"),
        ("test.jsonl", b"{}\n[1]", r"Line 2 of .* is no JSON object"),
        ("test.jsonl", b"[" * 100_000, r"Line 1 of .* is not JSON"),
        ("test.jsonl", b"\xff", r"cannot be read"),
        ("test.csv", b"", r"neither \.jsonl nor \.parquet"),
        ("empty/readme", b"", r"holds no \.jsonl and no \.parquet"),
    ],
)
def test_files_that_cannot_be_used(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_set("gsm8k", path.parent if path.suffix == "" else path)
    with pytest.raises(ConfigError, match="check the path"):
        load_set("gsm8k", tmp_path / "absent" / "test.jsonl")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00001.parquet", "train"), ("gsm8k_test.jsonl", "test"),
        ("HotPot-Validation.jsonl", "validation"), ("latest.jsonl", None), ("trainer.jsonl", None),
        ("gsm8k.jsonl", None), ("dev.v1.jsonl", "dev"),
    ],
)  # fmt: skip
def test_splits_in_names(name: str, split: str | None) -> None:
    assert split_of_file(Path(name)) == split


def test_an_unknown_set_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no set 'gsm9k'; choose one of aime24, .*hotpotqa"):
        load_set("gsm9k")
