"""Shared problems are found by every rule, by no accident, and as a search of all pairs does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.errors import ConfigError
from tfgrpo.tasks.overlap import (
    NEAR,
    Overlap,
    grams_of,
    jaccard,
    must_not_overlap,
    overlap,
    words_of,
)
from tfgrpo.types import Task

STORY = (
    "A baker fills twelve trays with buns, sells two thirds of them before noon and gives the rest "
    "to four neighbours in equal parts. How many buns does each of the neighbours get from her?"
)


def task(prompt: str, task_id: str | None = None) -> Task:
    return Task(task_id or f"id of {prompt}", prompt, "1", "set", "train")


def rules(learned: str, asked: str) -> list[str]:
    return [pair.rule for pair in overlap([task(learned, "a")], [task(asked, "b")]).pairs]


def test_equal_ids_are_one_problem_whatever_the_wording() -> None:
    found = overlap([task("2+2?", "x")], [task("What is two and two?", "x")])
    assert [(p.rule, p.similarity) for p in found.pairs] == [("same id", 1.0)]


@pytest.mark.parametrize(
    ("learned", "asked", "same"),
    [
        ("What is 2+2?", "what  is 2 + 2 ?", True),
        ("Caf\u00e9?", "Cafe\u0301?", True),
        ("It has \uff11\uff12 doors.", "It has 12 doors.", True),
        ("It costs 1,200.", "It costs 1200.", True),
        ("What is 2+2?", "What is 2-2?", False),
        ("What is f(1,2)?", "What is f(12)?", False),
        ("What is 12?", "What is 1 2?", False),
        ("What is \u0661?", "What is \u0662?", False),
    ],
)
def test_equal_questions(learned: str, asked: str, same: bool) -> None:
    assert rules(learned, asked) == (["same question"] if same else [])


def test_near_equal_prose() -> None:
    assert rules(STORY, STORY.replace("A baker", "The baker")) == ["near duplicate"]
    assert rules(STORY, STORY.replace("before noon", "in town").replace("rest", "others")) == []
    assert rules(STORY, STORY[: len(STORY) // 2]) == []


def test_other_numbers_are_another_problem() -> None:
    one = STORY.replace("twelve", "12").replace("four", "4")
    found = overlap([task(one)], [task(one.replace("12", "15"))])
    assert (found.pairs, found.other_numbers) == ((), 1)
    # Where more than the numbers differs, the rest still counts.
    assert rules(one, one.replace("12", "15").replace("A baker", "The baker")) == ["near duplicate"]


def test_short_questions_have_no_grams_and_are_compared_as_a_whole() -> None:
    assert grams_of(words_of("one two three four five six seven")) == frozenset()
    assert jaccard(frozenset(), frozenset()) == 0
    assert rules("one two three four five six seven", "one two three four five six eight") == []


def test_the_report_counts() -> None:
    learned = [task("2+2?"), task(STORY), task("9+9?")]
    asked = [task("2 + 2?"), task(STORY + " Say it."), task("1+1?")]
    found = overlap(learned, asked)
    assert found.rules == {"same question": 1, "near duplicate": 1}
    assert found.known == {asked[0].task_id, asked[1].task_id}
    assert (found.learned, found.asked) == (3, 3)
    with pytest.raises(ConfigError, match=r"^2 of 3 problems .*\(same question\); leave them out"):
        must_not_overlap(learned, asked)
    assert must_not_overlap(learned, asked[2:]) == Overlap((), 0, 3, 1)


@pytest.mark.parametrize("near", [0.0, -1.0, 1.1, float("nan")])
def test_a_bound_that_means_nothing_is_refused(near: float) -> None:
    with pytest.raises(ValueError, match="near is"):
        overlap([], [], near)


# Few words, so that random questions share grams often enough for every rule to hold.
PROMPTS = st.lists(st.sampled_from(["a", "b", "1", "2"]), min_size=1, max_size=20).map(" ".join)
TASKS = st.lists(st.builds(task, PROMPTS, st.sampled_from([None, "x", "y"])), max_size=6)


@settings(max_examples=300)
@given(TASKS, TASKS, st.sampled_from([0.1, 0.3, 0.5, NEAR, 1.0]))
def test_as_a_search_of_all_pairs_finds(
    learned: list[Task], asked: list[Task], near: float
) -> None:
    expected = set()
    for i, one in enumerate(learned):
        for j, other in enumerate(asked):
            a, b = words_of(one.prompt), words_of(other.prompt)
            if one.task_id == other.task_id:
                expected.add((i, j, "same id"))
            elif a == b:
                expected.add((i, j, "same question"))
            elif jaccard(grams_of(a), grams_of(b)) >= near:
                bare = [["0" if w.isdigit() else w for w in words] for words in (a, b)]
                expected.add((i, j, "numbers" if bare[0] == bare[1] else "near duplicate"))
    found = overlap(learned, asked, near)
    pairs = {(id(p.learned), id(p.asked), p.rule) for p in found.pairs}
    assert pairs == {
        (id(learned[i]), id(asked[j]), rule) for i, j, rule in expected if rule != "numbers"
    }
    assert len(found.pairs) == sum(rule != "numbers" for _, _, rule in expected)
    assert found.other_numbers == sum(rule == "numbers" for _, _, rule in expected)
