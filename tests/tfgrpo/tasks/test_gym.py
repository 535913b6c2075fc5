"""reasoning-gym: disjoint splits, golds that score, and none of its scorers."""

from __future__ import annotations

import pytest

from tfgrpo.errors import ConfigError
from tfgrpo.protocols import Reward, TaskSet
from tfgrpo.tasks.gym import FAMILIES, GymReward, GymTasks, instance, read_numbers
from tfgrpo.tasks.split import SPLITS
from tfgrpo.types import Score, Task

pytest.importorskip("reasoning_gym")

OPTIONS = {"countdown": {"min_numbers": 3, "max_numbers": 4}}


def correct(task: Task, answer: str) -> bool:
    score = GymReward().score(task, f"Answer: {answer}")
    assert isinstance(score, Score)
    return score.correct


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_golds_score_and_others_do_not(name: str) -> None:
    tasks = GymTasks(name, OPTIONS.get(name)).tasks("train", 60, seed=3)
    assert len(tasks) > 20
    assert all(t.answer is not None and correct(t, t.answer) for t in tasks)
    others = [*tasks[1:], tasks[0]]
    crossed = [correct(t, str(o.answer)) for t, o in zip(tasks, others, strict=True)]
    assert sum(crossed) < 0.5 * len(tasks)
    hostile = ["x", "1_2", "٤٢", "__import__('os')", "(" * 5_000, "7" * 10_000, "24.9e0"]
    assert not any(correct(t, text) for t in tasks[:5] for text in hostile)


def test_neighbouring_seeds_share_items_but_never_across_splits() -> None:
    """Item i of seed s is item i-1 of seed s+1 in the library; the hash keeps splits apart."""
    import reasoning_gym

    items = [
        [
            instance("products", item)
            for item in reasoning_gym.create_dataset("products", seed=s, size=80)
        ]
        for s in (42, 43)
    ]
    assert [t.task_id for t in items[0][1:]] == [t.task_id for t in items[1][:-1]]
    for first in SPLITS:
        for second in SPLITS:
            if first != second:
                ids = {t.task_id for t in items[0] if t.split == first}
                assert not ids & {t.task_id for t in items[1] if t.split == second}


def test_the_set_is_deterministic_distinct_and_seeded() -> None:
    tasks = GymTasks("chain_sum")
    assert isinstance(tasks, TaskSet)
    assert isinstance(tasks.reward, Reward)
    train = tasks.tasks("train", 40, seed=0)
    assert train == GymTasks("chain_sum").tasks("train", 40, seed=0)
    assert train != tasks.tasks("train", 40, seed=1)
    assert len({t.task_id for t in train}) == 40
    assert {t.split for t in train} == {"train"}
    assert len(tasks.tasks("test", 5, seed=0)) == 5
    assert tasks.tasks("test", 0, seed=0) == ()


def test_a_small_family_gives_what_it_has() -> None:
    tiny = GymTasks("products", {"min_digits": 1, "max_digits": 1, "min_terms": 2, "max_terms": 2})
    found = {t.task_id for split in SPLITS for t in tiny.tasks(split, 100, seed=0)}
    assert 20 < len(found) <= 100


def countdown(numbers: list[int], target: int) -> Task:
    metadata = {"family": "countdown", "numbers": numbers, "target": target}
    return Task("c", "?", None, "gym:countdown", "test", metadata)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Answer: 18 - 14 + 8", Score(1.0, True, "8+18-14", "8+18-14")),
        ("Answer: 18 + 8 − 14", Score(1.0, True, "8+18-14", "8+18-14")),
        ("Answer: 18 - 6", Score(0.0, False, "18-6")),
        ("Answer: 12", Score(0.0, False, "12")),
        ("Answer: 18 - 14 + 8 = 12", Score(0.0, False, None)),
        ("18 - 14 + 8", Score(0.0, False, None)),
    ],
)
def test_countdown_is_checked_by_value_and_numbers(reply: str, score: Score) -> None:
    assert GymReward().score(countdown([8, 14, 18], 12), reply) == score


def test_a_fraction_must_be_simplified() -> None:
    task = Task("f", "?", r"$\frac{3}{4}$", "gym:f", "test", {"family": "fraction_simplification"})
    assert correct(task, "3/4")
    assert not correct(task, "6/8")
    assert not correct(task, "0.75")


def test_lists_are_read_with_or_without_brackets() -> None:
    assert read_numbers("['-95.0', '47.29']") == read_numbers("-95, 47.29") == "-95,4729/100"
    assert read_numbers("[1, [2]]") is None
    assert read_numbers("") is None


def test_refusals_say_what_to_choose() -> None:
    with pytest.raises(ConfigError, match="'puzzle24' has no verifier here; choose one of: base_"):
        GymTasks("puzzle24")
    with pytest.raises(ConfigError, match="refuses its settings"):
        GymTasks("chain_sum", {"min_terms": 0})
    with pytest.raises(ConfigError, match="refuses its settings"):
        GymTasks("chain_sum", {"colour": "red"})
    with pytest.raises(ConfigError, match="none of reasoning-gym"):
        GymReward().read(Task("t", "?", "1", "d", "test"), "Answer: 1")
