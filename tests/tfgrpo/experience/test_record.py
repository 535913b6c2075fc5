"""The rows that a step leaves: complete, in order, and made again where a kill cut them short."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tfgrpo.experience.world import (
    GROUP,
    LESSON,
    World,
    learner_of,
    memory_folder,
    run,
    task,
    tasks,
)
from tfgrpo.errors import RunError
from tfgrpo.experience.files import OPS
from tfgrpo.experience.learn import Step
from tfgrpo.experience.library import replay
from tfgrpo.experience.record import GROUPS, LESSONS, STEPS, StepWriter, group_row
from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.runs import RunDir
from tfgrpo.types import (
    Completion,
    FailedRollout,
    Failure,
    Rollout,
    RolloutGroup,
    Score,
    Usage,
)

ROWS = (GROUPS, LESSONS, OPS, STEPS)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        yield Path(name) / "run"


def world() -> World:
    """Skill depends on the problem, so that every step has something to compare and to fail."""

    def right(number: int, taught: bool, index: int) -> bool | Failure:
        return Failure("transport", "gone") if (number + index) % 7 == 0 else index < number % GROUP

    return World(right)


def steps_of(problems: int = 6) -> list[Step]:
    return run(learner_of(world().model, batch_size=3, dropout=0.3), tasks(problems))


def written(folder: Path, steps: list[Step]) -> dict[str, bytes]:
    with RunDir.create(folder, {}, "learn") as opened:
        writer = StepWriter(opened)
        for step in steps:
            writer.write(step)
    return content(folder)


def content(folder: Path) -> dict[str, bytes]:
    names = [*ROWS, *(f"library/{p.name}" for p in sorted((folder / "library").iterdir()))]
    return {name: (folder / name).read_bytes() for name in names}


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return list(RunDir.open(folder).read_rows(name))


def test_a_step_leaves_its_groups_lessons_operations_and_itself(folder: Path) -> None:
    steps = steps_of()
    written(folder, steps)
    groups = [g for step in steps for g in step.groups]
    assert [r["task_id"] for r in rows(folder, GROUPS)] == [g.task.task_id for g in groups]
    assert [r["step"] for r in rows(folder, GROUPS)] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert len(rows(folder, LESSONS)) == sum(len(s.advantages) for s in steps) > 0
    assert replay(rows(folder, OPS)).fingerprint == steps[-1].library.fingerprint
    for step, row in zip(steps, rows(folder, STEPS), strict=True):
        assert row["reward_mean"] == step.record.reward_mean
        assert row["groups"] == dict(step.record.groups)
        assert row["failures"] == step.record.failures
        assert row["policy_id"] == step.policy_id
        assert row["fingerprint"] == step.library.fingerprint
        snapshot = json.loads((folder / f"library/step_{row['step']:04d}.json").read_bytes())
        assert snapshot["entries"] == {e.id: e.text for e in step.library.active}
    assert sum(row["failures"] for row in rows(folder, STEPS)) > 0
    failed = [f for r in rows(folder, GROUPS) for f in r["failures"]]
    assert len(failed) == sum(s.record.failures for s in steps)


def test_a_group_row_is_the_golden() -> None:
    usage = Usage(calls=1, prompt_tokens=9, completion_tokens=4, seconds=1.5)
    group = RolloutGroup(
        task(101),
        (Rollout("t101", 0, "p", Completion("a", "length", usage), Score(0.5, False, "7", "up"),
                 ("E1",)),),
        (FailedRollout("t101", 1, "p", Failure("refused", "no"), ("E2",)),),
    )  # fmt: skip
    assert group_row(3, group) == {
        "step": 3,
        "task_id": "t101",
        "dataset": "sums",
        "prompt": "What is 101 + 101?",
        "rollouts": [
            {"index": 0, "text": "a", "reward": 0.5, "correct": False, "answer": "7",
             "mode": "up", "shown": ["E1"], "tokens": 4, "finish": "length"}
        ],
        "failures": [{"index": 1, "stage": "refused", "reason": "no"}],
    }  # fmt: skip


def test_no_row_of_a_run_holds_the_gold() -> None:
    row = group_row(0, RolloutGroup(task(101), ()))
    assert "202" not in json.dumps(row)


def test_a_resumed_writer_stands_after_the_last_step(folder: Path) -> None:
    steps = steps_of()
    whole = written(folder, steps)
    with RunDir.resume(folder, {}) as opened:
        assert StepWriter(opened).finished == 4
    assert content(folder) == whole


def _cuts() -> list[tuple[str, int]]:
    """Every point in the writing of step 2 at which a kill may come."""
    return [(name, count) for name in ROWS for count in range(4)]


@pytest.mark.parametrize(("name", "count"), _cuts())
def test_a_step_cut_short_is_made_again_whatever_its_calls_say_now(
    name: str, count: int, folder: Path
) -> None:
    """Its rows stand up to the `count`-th of file `name`, and tell of another outcome."""
    steps = steps_of()
    whole = written(folder, steps)
    for row_file in ROWS[ROWS.index(name) :]:
        before = [r for r in whole[row_file].splitlines(keepends=True) if step_of(r) < 2]
        torn = [r for r in whole[row_file].splitlines(keepends=True) if step_of(r) == 2]
        left = torn[:count] if row_file == name and name != STEPS else []
        changed = [
            r.replace(b"gone", b"lost").replace(b'"reason":""', b'"reason":"x"') for r in left
        ]
        (folder / row_file).write_bytes(b"".join([*before, *changed]))
    with RunDir.resume(folder, {}) as opened:
        writer = StepWriter(opened)
        assert writer.finished == 2
        for step in steps[2:]:
            writer.write(step)
    assert content(folder) == whole


def step_of(row: bytes) -> int:
    return int(json.loads(row)["step"])


def test_a_step_row_that_differs_is_never_overwritten(folder: Path) -> None:
    steps = steps_of()
    with RunDir.create(folder, {}, "learn") as opened:
        writer, other = StepWriter(opened), StepWriter(opened)
        writer.write(steps[0])
        with pytest.raises(RunError, match="diverged from its own record"):
            other.write(steps[1])


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=20), min_size=6, max_size=6))
def test_whatever_models_say_can_be_written_and_read_back(said: list[str]) -> None:
    made = world()
    plain = made.reply
    model = ScriptedModel(
        lambda request, index: (
            f"{said[index]}\n{plain(request, index)}"
            if request.phase in ("rollout", "summarise") and index != 1
            else plain(request, index)
        )
    )
    (step,) = run(learner_of(model, epochs=1, batch_size=2), (task(102), task(103)))
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        written(Path(name) / "run", [step])
        rows_back = rows(Path(name) / "run", GROUPS)
        texts = [r["text"] for row in rows_back for r in row["rollouts"]]
        assert texts == [r.completion.text for g in step.groups for r in g.rollouts]
        lessons = rows(Path(name) / "run", LESSONS)
    assert [e.text for e in step.library.active] == [LESSON]
    for row, advantage in zip(lessons, step.advantages, strict=True):
        assert [s["text"] for s in row["summaries"]] == [s.text for s in advantage.summaries]
