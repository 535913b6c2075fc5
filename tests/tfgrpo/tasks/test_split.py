"""Splits by content."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.errors import ConfigError
from tfgrpo.tasks.split import SPLITS, select, split_of, task_id_of
from tfgrpo.types import Task


def test_golden_values() -> None:
    """Splits are part of every published number, so they must never move."""
    assert [split_of(str(i)) for i in range(12)] == ["dev", "train", "test"] + ["train"] * 9
    assert task_id_of("gsm8k", "2+2") == "ed3147b39d6970c8"


def test_shares_are_met_within_sampling_error() -> None:
    counts = Counter(split_of(f"item {i}") for i in range(10_000))
    assert abs(counts["train"] - 8000) < 160
    assert abs(counts["dev"] - 1000) < 120
    assert set(counts) == set(SPLITS)


def test_a_salt_redraws_the_split() -> None:
    keys = [str(i) for i in range(300)]
    assert [split_of(k) for k in keys] != [split_of(k, salt="b") for k in keys]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_share_of_one_takes_all(key: str) -> None:
    assert split_of(key, shares=(1.0, 0.0, 0.0)) == "train"
    assert split_of(key, shares=(0.0, 1.0, 0.0)) == "dev"
    assert split_of(key, shares=(0.0, 0.0, 1.0)) == "test"


@pytest.mark.parametrize("shares", [(0.5, 0.1, 0.1), (1.2, -0.1, -0.1)])
def test_shares_must_divide_one(shares: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="sum to 1"):
        split_of("a", shares=shares)


def test_selection_is_seeded_and_nested() -> None:
    tasks = [Task(str(i), "?", None, "d", "train") for i in range(50)]
    some = select(tasks, 10, seed=1)
    assert some == select(reversed(tasks), 10, seed=1)
    assert some == select(tasks, 30, seed=1)[:10]
    assert some != select(tasks, 10, seed=2)
    assert len(select(tasks, 99, seed=1)) == 50
