"""What the pocket model is pretrained on, and above all what it is not."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from random import Random
from typing import Any

import pytest

from baselines.abacus import lessons
from baselines.abacus.corpus import (
    FAMILY_NAMES,
    PACK,
    Document,
    EditCase,
    Mixture,
    consolidate_messages,
    draw_document,
    draw_edit_case,
    draw_group,
    draw_instance,
    easy_instance,
    mixture_at,
    operations,
    standout,
)
from baselines.abacus.solvers import PRIOR, SOLVERS
from tfgrpo.experience.edits import Add, targets_of
from tfgrpo.experience.judging import Rules
from tfgrpo.experience.library import EditContext, Experience, ExperienceLibrary, Outcome
from tfgrpo.experience.replies import parse_operations
from tfgrpo.tasks.families import FAMILIES
from tfgrpo.tasks.families.base import Instance
from tfgrpo.tasks.split import split_of

Cell = tuple[str, str]
CELLS: list[Cell] = [(f, s) for f, styles in lessons.METHODS.items() for s in styles]
ENTRY = re.compile(r"^\[[EC]\d+\] (.*)$", re.MULTILINE)


def drawn(count: int, mixture: Mixture, seed: int = 0) -> list[Document]:
    rng = Random(seed)
    return [draw_document(rng, mixture) for _ in range(count)]


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    """Drawn at all stages of the curriculum."""
    return [d for i in range(5) for d in drawn(1000, mixture_at(i / 4), seed=i)]


def sentences(document: Document) -> list[str]:
    """Every lesson that a document shows or writes."""
    shown = [s for m in document.messages for s in ENTRY.findall(m.content)]
    if document.kind in ("compare", "consolidate", "direct"):
        shown += [op["text"] for op in json.loads(document.reply) if "text" in op]
    return shown


def all_sentences(frames: Sequence[str], family: str, style: str) -> Iterator[str]:
    for frame in frames:
        for topic in lessons.TOPICS[family]:
            for method in lessons.METHODS[family][style]:
                text = frame.format(topic=topic, method=method)
                yield text[0].upper() + text[1:]


# lessons ------------------------------------------------------------------------------------------


def test_styles_and_methods_name_the_same_things() -> None:
    assert {f: set(s) for f, s in lessons.METHODS.items()} == {
        f: set(s) for f, s in SOLVERS.items()
    }
    assert {f: set(s) for f, s in PRIOR.items()} == {f: set(s) for f, s in SOLVERS.items()}
    assert all(sum(prior.values()) == pytest.approx(1) for prior in PRIOR.values())
    assert set(CELLS) > lessons.HELD_OUT_COMBINATIONS


@pytest.mark.parametrize("cell", CELLS, ids="/".join)
def test_every_wording_of_a_lesson_is_read_back(cell: Cell) -> None:
    frames = (*lessons.FRAMES, *lessons.HELD_OUT_FRAMES)
    found = list(all_sentences(frames, *cell))
    assert {lessons.read_lesson(text) for text in found} == {cell}
    assert {lessons.read_lesson(text.upper()) for text in found} == {cell}
    assert {lessons.read_method(m, cell[0]) for m in lessons.METHODS[cell[0]][cell[1]]} == {cell[1]}


@pytest.mark.parametrize("cell", CELLS, ids="/".join)
def test_drawn_lessons_are_held_out_or_not_as_asked(cell: Cell) -> None:
    rng = Random(1)
    for held_out in (False, True):
        for _ in range(40):
            text = lessons.lesson(*cell, rng, held_out)
            assert lessons.is_held_out(text) == held_out
            assert text in set(all_sentences(lessons.FRAMES, *cell))
    new = {lessons.lesson_in_new_frame(*cell, rng) for _ in range(40)}
    assert new <= set(all_sentences(lessons.HELD_OUT_FRAMES, *cell))
    assert new.isdisjoint(all_sentences(lessons.FRAMES, *cell))


def test_about_a_fifth_of_the_sentences_is_held_out() -> None:
    texts = [text for cell in CELLS for text in all_sentences(lessons.FRAMES, *cell)]
    share = sum(map(lessons.is_held_out, texts)) / len(texts)
    assert len(set(texts)) == len(texts) > 1500
    assert 0.16 < share < 0.24


def test_idle_lessons_are_about_nothing_here() -> None:
    rng = Random(2)
    assert {lessons.read_lesson(lessons.idle_lesson(rng)) for _ in range(500)} == {None}


# what is held out ---------------------------------------------------------------------------------


def test_held_out_sentences_never_occur(documents: list[Document]) -> None:
    seen = Counter(text for d in documents for text in sentences(d))
    assert len(documents) == 5000
    assert seen.total() > 5000
    assert not any(map(lessons.is_held_out, seen))
    held = {t for cell in CELLS for t in all_sentences(lessons.HELD_OUT_FRAMES, *cell)}
    assert held.isdisjoint(seen)
    whole = "\n".join(m.content for d in documents for m in d.messages)
    assert not re.search(r"Best for |When in |Remember: with ", whole)


def test_held_out_combinations_are_never_taught(documents: list[Document]) -> None:
    taught = {lessons.read_lesson(text) for d in documents for text in sentences(d)} - {None}
    assert taught == set(CELLS) - lessons.HELD_OUT_COMBINATIONS


def test_their_styles_do_occur_in_attempts(documents: list[Document]) -> None:
    """Otherwise following such a lesson could not be told from not knowing the style."""
    for family, style in lessons.HELD_OUT_COMBINATIONS:
        solved = [d.reply for d in documents if d.kind == "solve" and instance_of(d)[0] == family]
        modes = {FAMILIES[family].read_mode(reply) for reply in solved}
        summaries = {d.reply for d in documents if d.kind == "summarise"}
        assert style in modes
        assert summaries & set(lessons.METHODS[family][style])


def instance_of(document: Document) -> tuple[str, Instance]:
    """Read the problem back from the question."""
    question = document.messages[-1].content
    numbers = [int(n) for n in re.findall(r"\d+", question)]
    if question.startswith("Make"):
        return "countdown", {"target": numbers[0], "numbers": numbers[1:]}
    if question.startswith("Sort"):
        return "sort", {"numbers": numbers}
    if "*" in question:
        return "product", {"number": numbers[0], "multiplier": numbers[1]}
    return "sum", {"terms": numbers}


def test_questions_are_read_back_as_they_were_written() -> None:
    rng = Random(3)
    for family in FAMILY_NAMES:
        for _ in range(20):
            instance = draw_instance(family, rng)
            message = PACK.render("solve", library="", question=FAMILIES[family].prompt(instance))
            assert instance_of(Document("solve", message, "")) == (family, instance)


def test_no_problem_of_dev_or_test_is_ever_solved() -> None:
    solved = [d for d in drawn(5000, Mixture()) if d.kind == "solve"]
    for document in solved:
        family, instance = instance_of(document)
        assert split_of(f"{family}:{FAMILIES[family].key(instance)}") == "train"
    assert len(solved) > 2500


def test_easy_problems_lie_outside_the_families() -> None:
    rng = Random(4)
    for _ in range(500):
        assert easy_instance("product", rng)["multiplier"] < 10
        assert len(easy_instance("sort", rng)["numbers"]) < 5
        assert min(easy_instance("sum", rng)["terms"]) < 10
        hard = easy_instance("countdown", rng)
        assert split_of(f"countdown:{FAMILIES['countdown'].key(hard)}") == "train"


# comparing ----------------------------------------------------------------------------------------


def test_the_standout_is_that_of_a_brute_force() -> None:
    rng = Random(5)
    named = 0
    for _ in range(3000):
        group = draw_group(rng.choice(FAMILY_NAMES), rng)
        mean = Fraction(sum(right for _, right in group), len(group))
        totals = {s: sum((right - mean for t, right in group if t == s), Fraction(0))
                  for s, _ in group}  # fmt: skip
        best, second, *_ = [*sorted(totals.values(), reverse=True), Fraction(-99)]
        if best - second == Fraction(1, 2):
            continue  # at the margin itself the rounding of floats decides
        leads = best > 0 and best - second > Fraction(1, 2)
        assert standout(group) == (max(totals, key=totals.__getitem__) if leads else None)
        named += leads
    assert named > 1000


@pytest.mark.parametrize(
    ("group", "winner"),
    [
        ([], None),
        ([("a", True)], None),
        ([("a", True), ("a", True), ("b", True)], None),
        ([("a", False), ("b", False)], None),
        ([("a", True), ("b", False)], "a"),
        ([("a", False), ("b", True), ("b", True), ("c", False)], "b"),
        ([("a", True), ("a", False), ("b", True), ("b", False)], None),
        ([("a", True), ("b", True), ("c", False), ("d", False)], None),
    ],
)
def test_standouts(group: list[tuple[str, bool]], winner: str | None) -> None:
    assert standout(group) == winner


def test_any_style_can_stand_out() -> None:
    """Were the best style always the same, a model could know the lesson without the scores."""
    rng = Random(6)
    for family in FAMILY_NAMES:
        winners = Counter(standout(draw_group(family, rng)) for _ in range(600))
        shares = [winners[style] / winners.total() for style in SOLVERS[family]]
        assert min(shares) > 0.5 * max(shares)


def test_the_lesson_of_a_comparison_names_the_standout(documents: list[Document]) -> None:
    compared = [d for d in documents if d.kind == "compare"]
    for document in compared:
        (edit,) = parse_operations(document.reply).edits
        assert isinstance(edit, Add)
        cell = lessons.read_lesson(edit.text)
        assert cell is not None
        lines = re.findall(r"^\d+\. (right|wrong): (.*)$", document.messages[-1].content, re.M)
        group = [(str(lessons.read_method(text, cell[0])), mark == "right") for mark, text in lines]
        assert len(group) >= 3
        assert standout(group) == cell[1]
    assert len(compared) > 300


# replies ------------------------------------------------------------------------------------------


def test_replies_to_editors_are_read_without_problems(documents: list[Document]) -> None:
    counts: Counter[str] = Counter()
    for document in documents:
        if document.kind in ("compare", "consolidate", "direct"):
            read = parse_operations(document.reply)
            assert read.problems == ()
            assert [type(e).__name__.lower() for e in read.edits] == [
                op["op"] for op in json.loads(document.reply)
            ]
            counts.update(type(e).__name__ for e in read.edits)
    assert counts.keys() == {"Add", "Modify", "Merge", "Delete", "Keep"}


def library_of(case: EditCase) -> ExperienceLibrary:
    """The library whose active entries are the case's, with retired ones in the gaps."""
    texts = dict(case.library)
    last = max((int(i[1:]) for i in texts), default=0)
    log = []
    for number in range(1, last + 1):
        name = f"E{number}"
        text, status = texts.get(name, "gone"), "active" if name in texts else "retired"
        entry = Experience(name, text, status, 1, 0, (), (), 1, "m", "p")  # type: ignore[arg-type]
        log.append(Outcome(Add(text), "added", "", (entry,), 0, "model", "m", "p"))
    return ExperienceLibrary(Rules(), tuple(log))


def test_a_good_editors_operations_are_all_accepted() -> None:
    rng = Random(7)
    seen: Counter[str] = Counter()
    for _ in range(400):
        case = draw_edit_case(rng)
        library = library_of(case)
        assert f"Lessons:\n{library.render() or 'none'}\n" in consolidate_messages(case)[-1].content
        edits = parse_operations(operations(*case.operations)).edits
        applied = library.apply(edits, EditContext(1, "m", "p"))
        refused = [o for o in applied.outcomes if not o.accepted]
        assert refused == [], case
        cells = Counter(map(lessons.read_lesson, [e.text for e in applied.library.active]))
        told: dict[str, Any] = {i: lessons.read_lesson(t) for i, t in case.library}
        winner = next((lessons.read_lesson(e.text) for e in edits if hasattr(e, "text")), None)
        winner = winner or told[targets_of(edits[0])[0]]
        assert winner is not None
        # Whatever the library said on this family before, it now says what the majority says.
        assert {cell for cell in cells if cell and cell[0] == winner[0]} == {winner}
        seen.update(type(e).__name__ for e in edits)
    assert min(seen[name] for name in ("Add", "Modify", "Merge", "Delete", "Keep")) > 10


# the curriculum -----------------------------------------------------------------------------------


def test_number_facts_and_easy_problems_end_halfway() -> None:
    scaffold = [(m.drill, m.easy) for m in map(mixture_at, (0.0, 0.25, 0.5, 0.75, 1.0))]
    assert scaffold == [(0.3, 0.5), (0.15, 0.25), (0, 0), (0, 0), (0, 0)]
    assert {d.kind for d in drawn(500, mixture_at(0.0))} >= {"drill", "solve", "compare"}
    assert "drill" not in {d.kind for d in drawn(500, mixture_at(1.0))}


def test_no_other_kind_is_ever_rarer_than_in_the_standard_mixture() -> None:
    for progress in (0.0, 0.3, 0.5, 0.51, 1.0):
        mixture = mixture_at(progress)
        for kind in ("solve", "summarise", "compare", "consolidate", "direct"):
            assert getattr(mixture, kind) >= getattr(Mixture(), kind)


def test_number_facts_are_true() -> None:
    drills = drawn(200, Mixture(0, 0, 0, 0, 0, drill=1))
    for fact in " ".join(d.reply for d in drills).split():
        left, _, right = fact.partition("=")
        assert eval(left) == int(right)


def test_documents_are_a_pure_function_of_the_generator() -> None:
    assert drawn(200, mixture_at(0.2), 8) == drawn(200, mixture_at(0.2), 8)
    assert drawn(200, mixture_at(0.2), 8) != drawn(200, mixture_at(0.2), 9)
