"""An evaluation on problems that its policy learned from is refused; near ones are told."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.commands import tfgrpo

WORDS = "A gardener plants tulips and roses in rows along the old northern wall of the park"


def row(name: str, question: str, split: str) -> dict[str, str]:
    return {"id": name, "prompt": question, "answer": "3", "split": split}


def tasks(path: Path, *asked: tuple[str, str]) -> str:
    learned = [row(f"t{i}", f"{WORDS}. How many? {i} + 1 tulips", "train") for i in range(4)]
    rows = [*learned, *(row(name, question, "test") for name, question in asked)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return f"jsonl:{path}"


def learned(tmp_path: Path, given: str) -> Path:
    run = tmp_path / "learned"
    tfgrpo(
        "learn", "--tasks", given, "--preset", "abacus", "--epochs", "1", "--group-size", "2",
        "--run", run,
    )  # fmt: skip
    return run


def test_what_was_learned_from_is_not_asked(tmp_path: Path) -> None:
    fresh = ("q0", "Sort from small to large: 4,2,3")
    known = ("q1", f"{WORDS}.  HOW many? 2 + 1 tulips")  # in capitals, and spaced otherwise
    near = ("q2", f"{WORDS}. How many? 2 + 1 violets")
    given = tasks(tmp_path / "problems.jsonl", fresh, near)
    run = learned(tmp_path, given)
    shape = ("--policy", run, "--limit", "2", "--n", "2")
    done = tfgrpo("eval", *shape, "--run", tmp_path / "fine")
    assert "1 of 2 problems are near duplicates" in done.stderr
    tasks(tmp_path / "problems.jsonl", fresh, known)
    refused = tfgrpo("eval", *shape, "--run", tmp_path / "bad", code=2)
    assert "1 of 2 problems were learned from" in refused.stderr
    assert "same question" in refused.stderr
    tfgrpo("eval", *shape, "--split", "train", "--run", tmp_path / "asked-for")
