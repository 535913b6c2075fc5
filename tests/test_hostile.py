"""Ten thousand hostile replies through every parser, grader and renderer: no crash, nothing run."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli.console import safe
from memory.read.guard import bare, leaked_answer, question_hash
from tests.hostile_replies import COUNT, replies
from tfgrpo.experience.edits import from_row, tidy, to_row
from tfgrpo.experience.guard import clean, has_instruction_injection, leaks, normalise
from tfgrpo.experience.lenient_json import MOST
from tfgrpo.experience.replies import parse_operations
from tfgrpo.llm.openai_reply import one_line, read_reply, split_reasoning
from tfgrpo.prompts import load_pack
from tfgrpo.report.pages.encoding import visible
from tfgrpo.report.tables import FORMULA, cell
from tfgrpo.rewards.extract import extract_answer, last_boxed
from tfgrpo.rewards.table import make_reward
from tfgrpo.tasks.procedural import FamilyReward, ProceduralTasks
from tfgrpo.types import Failure, Task

PACK = load_pack("default")
FAMILIES = ProceduralTasks(("sum", "product", "sort", "countdown"))
PROBLEMS = {task.dataset: task for task in FAMILIES.tasks("test", 8, 0)}
PROSE = Task("t", "How many tulips stand in the old garden of the park today?", "42", "d", "test")


def graders() -> dict[str, Callable[[str], None]]:
    def family(task: Task) -> Callable[[str], None]:
        def grade(text: str) -> None:
            score = FamilyReward().score(task, text)
            assert isinstance(score, Failure) or score.correct in (True, False)
            FamilyReward().read(task, text)

        return grade

    def named(name: str) -> Callable[[str], None]:
        reward = make_reward(name)
        task = replace(PROSE, answer="B") if name == "choice" else PROSE

        def grade(text: str) -> None:
            reward.score(task, text)

        return grade

    families = {f"family {name}": family(task) for name, task in PROBLEMS.items()}
    return families | {f"reward {name}": named(name) for name in ("exact", "numeric", "choice")}


def parse(text: str) -> None:
    found = parse_operations(text)
    for edit in found.edits:
        assert from_row(json.loads(json.dumps(to_row(tidy(edit))))) is not None
    if not found.edits:
        parse_operations(text, "length")


def extract(text: str) -> None:
    found = extract_answer(text)
    assert (found.answer is None) == (found.status != "found")
    last_boxed(text)
    split_reasoning(text)


def tidied(text: str) -> None:
    """Lessons come out of a document, which is bounded."""
    text = text[:MOST]
    tidy_text = clean(text)
    assert clean(tidy_text) == tidy_text
    assert "\n" not in tidy_text
    assert not any(unicodedata.category(c)[0] == "C" for c in tidy_text)
    normalise(text)


def guard(text: str) -> None:
    leaks(text[:MOST], [PROSE])


def injection(text: str) -> None:
    has_instruction_injection(text[:MOST])


def memory(text: str) -> None:
    leaked_answer(["42"], bare(text[:MOST]))
    question_hash(text[:MOST])


def terminal(text: str) -> None:
    shown = safe(text)
    assert "\x1b" not in shown
    assert "\x00" not in shown
    assert "\n" not in one_line(text)


def page(text: str) -> None:
    assert "\x1b" not in visible(text)


def table(text: str) -> None:
    assert not cell(text).startswith(FORMULA)


def prompt(text: str) -> None:
    """A reply that stands in a prompt is text there: it fills no slot and makes no message."""
    messages = PACK.render("solve", library="", question=text)
    assert [m.role for m in messages if m.role == "system"] in ([], ["system"])
    assert len(messages) <= 2
    assert text.strip() in messages[-1].content


def answer(text: str) -> None:
    """As the content of an endpoint's reply, and as its body."""
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
    }
    body: Mapping[str, Any] = {
        "id": "x",
        "object": "chat.completion",
        "model": "m",
        "choices": [choice],
    }
    read_reply(json.dumps(body).encode(), 0.1, 1)
    read_reply(text.encode("utf-8", "surrogatepass"), 0.1, 1)


CHECKS: dict[str, Callable[[str], None]] = {
    "parse": parse,
    "extract": extract,
    "tidied": tidied,
    "guard": guard,
    "injection": injection,
    "memory": memory,
    "terminal": terminal,
    "page": page,
    "table": table,
    "prompt": prompt,
    "endpoint": answer,
    **graders(),
}


@pytest.mark.parametrize("name", list(CHECKS))
def test_no_reply_crashes_or_runs_anything(name: str, tmp_path: Path) -> None:
    sentinel = tmp_path / "was-run"
    seen = 0
    for text in replies(sentinel):
        CHECKS[name](text)
        seen += 1
    assert seen == COUNT
    assert not sentinel.exists()
