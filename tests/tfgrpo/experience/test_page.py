"""The page of a library tells what the run's own files say, and leads back to the rollouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tfgrpo.experience.world import GROUP, LESSON, World, cited, learner_of, run, tasks
from tests.tfgrpo.report.samples import data_of, rows_of
from tfgrpo.errors import ConfigError
from tfgrpo.experience.edits import Add, Delete, Modify
from tfgrpo.experience.effects import effects
from tfgrpo.experience.files import EDITED, export_json, load_library
from tfgrpo.experience.learn import Step
from tfgrpo.experience.library import EditContext, ExperienceLibrary, Limits, Source
from tfgrpo.experience.page import groups_that_taught, library_page
from tfgrpo.experience.record import GROUPS, StepWriter
from tfgrpo.experience.replies import render_operations
from tfgrpo.runs import RunDir

LIMITS = {"max_entries": 5, "max_tokens": 99, "max_words": 12}


def written(folder: Path, steps: list[Step]) -> Path:
    with RunDir.create(folder, {"limits": LIMITS}, "learn") as opened:
        writer = StepWriter(opened)
        for step in steps:
            writer.write(step)
    return folder


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs; the model proposes one good lesson and one that is too long."""
    long = "Too long: " + "word " * 40
    world = World(
        right=lambda number, taught, index: index < number % GROUP or (taught and index % 2 == 0),
        lessons=(Add(LESSON), Add(long)),
        editor=lambda request: render_operations([Add(LESSON, evidence=cited(request)), Add(long)]),
    )
    learner = learner_of(world.model, batch_size=3, dropout=0.3)
    folder = tmp_path_factory.mktemp("runs") / "learned"
    return written(folder, run(learner, tasks(6), ExperienceLibrary.empty(Limits(**LIMITS))))


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return list(RunDir.open(folder).read_rows(name))


def test_every_operation_is_told_with_what_became_of_it(learned: Path) -> None:
    log = load_library(learned).log
    told = rows_of(library_page(learned), "edits")
    assert list(told) == [str(n) for n in range(len(log), 0, -1)]
    fates = set()
    for number, outcome in enumerate(log, 1):
        row = told[str(number)]
        assert (row["step"], row["code"], row["by"]) == (outcome.step, outcome.code, outcome.origin)
        assert (row["fate"] == "refused") is not outcome.accepted
        assert row["text"] == getattr(outcome.operation, "text", None)
        assert row["why so"] == (outcome.detail or None)
        fates.add(row["fate"])
    assert fates == {"accepted", "no change", "refused"}


def test_an_experience_leads_to_the_rollouts_that_taught_it(learned: Path) -> None:
    made = library_page(learned)
    lessons, groups, attempts = (rows_of(made, k) for k in ("lessons", "groups", "attempts"))
    ran = {f"{row['step']}/{row['task_id']}": row for row in rows(learned, GROUPS)}
    entry = load_library(learned).entries["E1"]
    assert lessons["E1"]["text"] == LESSON
    assert lessons["E1"]["taught by"] == [
        (f"{s.step}/{s.task_id}", f"{len(s.attempts)} attempts") for s in entry.sources
    ]
    assert entry.sources
    for key, _ in lessons["E1"]["taught by"]:
        group = ran[key]
        assert groups[key]["problem"] == group["prompt"]
        assert groups[key]["mean reward"] == pytest.approx(
            sum(r["reward"] for r in group["rollouts"]) / len(group["rollouts"])
        )
        assert LESSON in groups[key]["proposed"]
        mine = [row for row in attempts.values() if row["group"] == [(key,)]]
        assert [row["text"] for row in mine] == [r["text"] for r in group["rollouts"]]
        assert [row["mark"] == "right" for row in mine] == [r["correct"] for r in group["rollouts"]]
        assert all(row["summary"].startswith("Summary") for row in mine)


def test_shown_and_effect_are_those_of_the_rollouts(learned: Path) -> None:
    groups = rows(learned, GROUPS)
    told = rows_of(library_page(learned), "lessons")["E1"]
    assert told["shown"] == sum("E1" in r["shown"] for g in groups for r in g["rollouts"]) > 0
    (effect,) = effects(groups, 0)
    found = effect.estimate
    assert told["effect"] == [*(pytest.approx(v, rel=1e-5) for v in
                                (found.value, found.low, found.high)), found.n]  # fmt: skip


def test_cases_among_what_a_rollout_saw_are_no_experiences(learned: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    RunDir.create(folder, {"limits": LIMITS}, "learn").close()
    for file in learned.glob("*.jsonl"):
        (folder / file.name).write_bytes(file.read_bytes())
    groups = rows(learned, GROUPS)
    for group in groups:
        for rollout in group["rollouts"][::2]:
            rollout["shown"].append("case:3")
    (folder / GROUPS).write_text("".join(json.dumps(g) + "\n" for g in groups))
    assert rows_of(library_page(folder), "lessons") == rows_of(library_page(learned), "lessons")
    assert rows_of(library_page(folder), "attempts") == rows_of(library_page(learned), "attempts")


def test_the_states_are_those_of_the_steps(learned: Path) -> None:
    library = load_library(learned)
    data = data_of(library_page(learned))
    (block,) = data["views"][3]["blocks"]
    assert block["kind"] == "compare"
    for label, texts in block["states"][1:]:
        step = int(label.removeprefix("after step "))
        told = {data["strings"][key]: data["strings"][text] for key, text in texts}
        assert told == {e.id: e.text for e in library.at(step).active}
    assert block["states"][0] == ["at the start", []]


def test_a_persons_edits_are_a_state_of_their_own(learned: Path, tmp_path: Path) -> None:
    folder = written(tmp_path / "run", run(learner_of(World().model), tasks(4)))
    by_hand = load_library(folder).by_hand(Modify("E1", "Carry."), Add("Check."), Delete("E2"))
    (folder / EDITED).write_text(export_json(by_hand.library))
    data = data_of(library_page(folder))
    label, texts = data["views"][3]["blocks"][0]["states"][-1]
    assert label.endswith(", by hand")
    assert [data["strings"][text] for _, text in texts] == [e.text for e in by_hand.library.active]
    assert rows_of(library_page(folder), "lessons")["E1"]["text"] == "Carry."


def test_a_library_file_has_a_page_without_rollouts(tmp_path: Path) -> None:
    path = tmp_path / "lessons.txt"
    path.write_text("Go slowly.\n<script>alert(1)</script>\n")
    made = library_page(path)
    assert [view["key"] for view in data_of(made)["views"]] == [
        "overview", "lessons", "edits", "changes",
    ]  # fmt: skip
    lessons = rows_of(made, "lessons")
    assert [row["text"] for row in lessons.values()] == ["Go slowly.", "<script>alert(1)</script>"]
    assert lessons["E1"]["shown"] is lessons["E1"]["effect"] is None
    assert "<script>alert" not in made
    with pytest.raises(ConfigError, match="no library"):
        library_page(tmp_path / "nothing.json")


def test_a_run_that_has_learned_nothing_yet_has_a_page(tmp_path: Path) -> None:
    RunDir.create(tmp_path / "run", {"limits": {}}, "learn").close()
    made = library_page(tmp_path / "run")
    assert data_of(made)["title"] == "What run has learned"
    assert rows_of(made, "lessons") == {}


def test_of_many_groups_every_experience_keeps_its_latest() -> None:
    """In turn for every experience, and never beyond the most."""
    library = ExperienceLibrary.empty(Limits(50, 9_999, 99))
    for step in range(30):
        task = f"t{step}"
        source = {task: (Source(task, step, ("0",), 1),)}
        context = EditContext(step, "m", "p", source)
        edit = Add(f"Lesson number {step % 3} says {'abc'[step % 3] * 9}.", evidence=(task,))
        library = library.apply([edit], context).library
    assert len(library.entries) == 3
    ran = {f"{i}/t{i}": {"rollouts": [{}] * 300} for i in range(30)}
    assert groups_that_taught(library, ran) == [f"{i}/t{i}" for i in range(24, 30)]
    assert groups_that_taught(library, {}) == []


def test_equal_runs_have_equal_pages(learned: Path) -> None:
    assert library_page(learned) == library_page(learned)
