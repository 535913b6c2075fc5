"""From candidates to one list of edits, and whom each edit is credited to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tfgrpo.experience.world import LESSON, PACK, cited, text_of
from tfgrpo.experience.consolidate import (
    CHUNK,
    Candidate,
    Consolidation,
    candidate_line,
    chunks,
    consolidate,
)
from tfgrpo.experience.edits import Add, Delete, Edit, Keep, Merge, Modify
from tfgrpo.experience.library import ExperienceLibrary, Limits
from tfgrpo.experience.reflect import Reflector
from tfgrpo.experience.replies import render_operations
from tfgrpo.llm.scripted import Reply, Script, ScriptedModel
from tfgrpo.types import Failure, SamplingParams

EMPTY = ExperienceLibrary.empty()
SOME = EMPTY.by_hand(Add("Go slowly."), Add("Read the signs.")).library


def candidates(*edits: Edit, dataset: str = "sums") -> list[Candidate]:
    return [Candidate(f"C{i}", edit, f"t{i}", dataset) for i, edit in enumerate(edits, 1)]


def reviewed(
    library: ExperienceLibrary, given: Sequence[Candidate], script: Script
) -> tuple[Consolidation, ScriptedModel]:
    model = ScriptedModel(script)
    editor = Reflector(model, PACK, SamplingParams())
    return asyncio.run(consolidate(library, given, editor)), model


def answered(given: Sequence[Candidate], *edits: Edit) -> tuple[Edit, ...]:
    made, _ = reviewed(SOME, given, [render_operations(edits)])
    return made.edits


@pytest.mark.parametrize("library", [EMPTY, SOME])
def test_without_candidates_nobody_is_asked(library: ExperienceLibrary) -> None:
    made, model = reviewed(library, [], [])
    assert made == Consolidation(())
    assert model.calls == []


def test_one_lesson_for_an_empty_library_needs_no_review() -> None:
    made, model = reviewed(EMPTY, candidates(Add(LESSON)), [])
    assert made == Consolidation((Add(LESSON, evidence=("t1",), support=1),))
    assert model.calls == []


@pytest.mark.parametrize(
    ("library", "given"),
    [(SOME, candidates(Add(LESSON))), (EMPTY, candidates(Delete("E1"))),
     (EMPTY, candidates(Add(LESSON), Add("Be quick.")))],
)  # fmt: skip
def test_everything_else_is_reviewed(library: ExperienceLibrary, given: list[Candidate]) -> None:
    _, model = reviewed(library, given, ["[]"])
    (request,) = model.calls
    assert request.phase == "consolidate"
    assert cited(request) == tuple(c.id for c in given)
    assert (library.render() or "none") in text_of(request)


def test_the_editor_is_told_how_much_room_is_left() -> None:
    tight = ExperienceLibrary.empty(Limits(max_entries=2)).by_hand(Add("Go slowly.")).library
    _, model = reviewed(tight, candidates(Add(LESSON)), ["[]"])
    assert "room for 1 more entries" in text_of(model.calls[0])


BAD: list[list[Reply]] = [["no", "no"], [Failure("transport", "gone")], ['[{"op": "sing"}]'] * 2]


@pytest.mark.parametrize("replies", BAD)
def test_an_unreadable_review_changes_nothing_and_is_degraded(replies: list[Reply]) -> None:
    made, _ = reviewed(SOME, candidates(Add(LESSON)), replies)
    assert made.edits == ()
    assert made.degraded == 1
    assert made.problems


@pytest.mark.parametrize("replies", [["[]"], ["no", "[]"], ["no", render_operations([Keep("E1")])]])
def test_a_review_that_changes_nothing_is_not_degraded(replies: list[Reply]) -> None:
    made, _ = reviewed(SOME, candidates(Add(LESSON)), replies)
    assert made.degraded == 0


def test_only_the_unreadable_chunk_is_lost() -> None:
    given = candidates(*(Add(f"Lesson {i}.") for i in range(CHUNK + 1)))
    made, model = reviewed(
        SOME,
        given,
        lambda request, index: "no" if "C1" in cited(request) else render_operations([Add("Yes.")]),
    )
    assert [e.text for e in made.edits if isinstance(e, Add)] == ["Yes."]
    assert made.degraded == 1
    assert len(model.calls) == 3  # two for the chunk that was repaired in vain


@given(st.lists(st.sampled_from("abc"), max_size=60))
def test_chunks_hold_every_candidate_once_and_never_mix_datasets(datasets: list[str]) -> None:
    given = [Candidate(f"C{i}", Keep("E1"), f"t{i}", dataset) for i, dataset in enumerate(datasets)]
    made = chunks(given)
    assert sorted((c for chunk in made for c in chunk), key=given.index) == given
    assert all(0 < len(chunk) <= CHUNK for chunk in made)
    assert all(len({c.dataset for c in chunk}) == 1 for chunk in made)


@pytest.mark.parametrize(
    ("edit", "said"),
    [(Add("Go."), "Go."), (Modify("E1", "Go."), "change E1 to: Go."),
     (Merge(("E1", "E2"), "Go."), "merge E1, E2 into: Go."),
     (Delete("E1", reason="wrong"), "delete E1: wrong"), (Delete("E1"), "delete E1: it misled"),
     (Keep("E1"), "keep E1")],
)  # fmt: skip
def test_candidates_are_one_line_each(edit: Edit, said: str) -> None:
    assert candidate_line(candidates(edit)[0]) == f"[C1] {said}"


# whom an edit is credited to ----------------------------------------------------------------------


def test_an_edit_is_backed_by_the_candidates_that_it_cites() -> None:
    given = candidates(Add("a b"), Add("c d"), Add("e f"))
    (edit,) = answered(given, Add("Something new.", evidence=("C3", "C1", "C9", "t2")))
    assert (edit.evidence, edit.support) == (("t1", "t3"), 2)


def test_and_by_those_that_say_the_same_though_it_does_not_cite_them() -> None:
    given = candidates(Add("Go  slow!"), Add("c d"), Modify("E1", "go slow"))
    (edit,) = answered(given, Add("Go slow."))
    assert (edit.evidence, edit.support) == (("t1", "t3"), 2)


def test_a_delete_is_backed_by_those_that_name_its_target() -> None:
    given = candidates(Delete("E1"), Modify("E1", "Go."), Delete("E2"))
    (edit,) = answered(given, Delete("E1"))
    assert (edit.evidence, edit.support) == (("t1", "t2"), 2)


def test_an_edit_without_any_backing_may_come_from_every_task_and_counts_once() -> None:
    """All tasks are its evidence, so that the leak check misses none of them."""
    (edit,) = answered(candidates(Add("a b"), Add("c d")), Add("Out of the blue."))
    assert (edit.evidence, edit.support) == (("t1", "t2"), 1)


def test_one_task_backs_an_edit_once_however_often_it_proposed_it() -> None:
    given = [Candidate(f"C{i}", Add("Go."), "t1", "sums") for i in (1, 2)]
    (edit,) = answered(given, Add("Go.", evidence=("C1", "C2")))
    assert (edit.evidence, edit.support) == (("t1",), 1)
