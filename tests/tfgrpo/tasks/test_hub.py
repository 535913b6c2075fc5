"""Hub datasets: rows of the usual ones by pure conversion; real files through `datasets`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tfgrpo.errors import ConfigError
from tfgrpo.tasks.hub import HubSource, HubTasks, convert_row, place
from tfgrpo.tasks.split import SPLITS

ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "gsm8k": (
        {"question": "How many?", "answer": "She sold 48/2 = <<48/2=24>>24.\n#### 72"},
        "How many?",
        "72",
    ),
    "math": (
        {
            "problem": "Find $x$.",
            "level": "Level 5",
            "solution": r"Thus $x = \boxed{\frac{3}{4}}$.",
            "type": "Algebra",
        },
        "Find $x$.",
        r"\frac{3}{4}",
    ),
    "math-500": (
        {"problem": "Find.", "solution": r"\boxed{2}, so \boxed{3}", "answer": "3"},
        "Find.",
        "3",
    ),
    "aime": ({"ID": "2024-I-1", "Problem": "Find n.", "Answer": 204}, "Find n.", "204"),
    "dapo": (
        {
            "data_source": "math_dapo",
            "prompt": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Solve it."},
            ],
            "reward_model": {"ground_truth": "34", "style": "rule"},
        },
        "Solve it.",
        "34",
    ),
}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_usual_columns_are_recognised(name: str) -> None:
    row, prompt, answer = ROWS[name]
    read = convert_row(row)
    assert (read.prompt, read.answer) == (prompt, answer)


def test_named_columns_come_first() -> None:
    row = {"question": "no", "answer": "no", "text": "yes?", "label": 1}
    read = convert_row(row, question="text", answer="label")
    assert (read.prompt, read.answer) == ("yes?", "1")
    with pytest.raises(ValueError, match="none of the keys target"):
        convert_row(row, answer="target")


@pytest.mark.parametrize(
    ("split", "available", "role", "shares"),
    [
        ("test", ["train", "test"], "test", (0.9, 0.1, 0.0)),
        ("validation", ["train", "validation", "test"], "dev", (1.0, 0.0, 0.0)),
        ("train", ["train", "test"], None, (0.9, 0.1, 0.0)),
        ("train", ["train"], None, (0.8, 0.1, 0.1)),
    ],
)
def test_what_the_dataset_does_not_bring_is_set_aside(
    split: str, available: list[str], role: str | None, shares: tuple[float, ...]
) -> None:
    placed, given = place(split, available)
    assert placed == role
    assert given == pytest.approx(shares)


@pytest.mark.skipif(
    importlib.util.find_spec("datasets") is not None, reason="the package datasets is installed"
)
def test_without_the_package_the_extra_is_named() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'tfgrpo\[hub\]'"):
        HubTasks(HubSource("openai/gsm8k", "main"))


def source(kind: str, **files: Path) -> HubSource:
    return HubSource(kind, data_files={name: str(path) for name, path in files.items()})


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_real_files(kind: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {
        "train": [{"question": f"{i}?", "answer": f"so\n#### {i}"} for i in range(100)],
        "test": [{"question": f"{i}?", "answer": f"so\n#### {i}"} for i in range(95, 110)],
    }
    paths = {}
    for split, part in rows.items():
        paths[split] = tmp_path / f"{split}.{kind}"
        table = datasets.Dataset.from_list(part)
        (table.to_json if kind == "json" else table.to_parquet)(str(paths[split]))
    tasks = HubTasks(source(kind, **paths))
    parts = {split: tasks.tasks(split, 999, seed=0) for split in SPLITS}
    # The five questions that train and test share stay in test.
    assert len(parts["test"]) == 15
    assert len(parts["train"]) + len(parts["dev"]) == 95
    assert tasks.duplicates == 5
    assert all(t.answer == t.prompt.removesuffix("?") for part in parts.values() for t in part)
    assert tasks.tasks("train", 7, seed=0) == parts["train"][:7]


def test_columns_that_nobody_knows_are_an_error(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    path = tmp_path / "odd.jsonl"
    path.write_text("\n".join(json.dumps({"text": "q", "label": i}) for i in range(9)))
    with pytest.raises(ConfigError, match=r"columns are text, label.*Name the question"):
        HubTasks(source("json", train=path))
    with pytest.raises(ConfigError, match="has no split 'test'; choose among: train"):
        HubTasks(HubSource("json", splits=("test",), data_files={"train": str(path)}))


def test_what_cannot_be_loaded_points_to_a_file(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(ConfigError, match="use jsonl:PATH"):
        HubTasks(source("json", train=tmp_path / "absent.jsonl"))
