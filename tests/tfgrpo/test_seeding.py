"""Hashed child seeds."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.seeding import derive_rng, derive_seed, stable_hash

Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=3), inner, max_size=3
    ),
    max_leaves=8,
)  # fmt: skip


def test_golden_values() -> None:
    """Published numbers rest on these streams, so they must never move."""
    assert stable_hash() == "4f53cda18c2baa0c"
    assert stable_hash("lesson", "é", 3) == "b8c9c51295918ac6"
    assert derive_seed(0, "tasks", "sum") == 8420270168714603318
    assert derive_rng(0, "tasks", "sum").randint(0, 999) == 839


def test_other_processes_agree() -> None:
    code = "from tfgrpo.seeding import derive_seed; print(derive_seed(7, 'a', {'b': 1, 'a': [2]}))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": salt, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert told == {f"{derive_seed(7, 'a', {'a': [2], 'b': 1})}\n"}


@given(st.integers(), st.lists(Json, max_size=3))
def test_seeds_fit_in_63_bits_and_repeat(root: int, labels: list[object]) -> None:
    seed = derive_seed(root, *labels)
    assert 0 <= seed < 2**63
    assert seed == derive_seed(root, *labels)


@given(st.lists(Json, max_size=3), st.lists(Json, max_size=3))
def test_the_division_into_labels_counts(a: list[object], b: list[object]) -> None:
    assert (stable_hash(*a) == stable_hash(*b)) == (same(a) == same(b))


def same(value: object) -> object:
    """A value in which True is not 1, as in JSON."""
    if isinstance(value, dict):
        return {k: same(v) for k, v in value.items()}
    return [same(v) for v in value] if isinstance(value, list) else (type(value), value)


def test_neighbouring_roots_share_no_stream() -> None:
    """With `seed + index` the children of seed 0 are those of seed 1, moved by one."""
    children = [{derive_seed(root, i) for i in range(200)} for root in range(20)]
    assert len(set.union(*children)) == 20 * 200


def test_labels_that_join_to_equal_text_differ() -> None:
    assert len({stable_hash("ab", "c"), stable_hash("a", "bc"), stable_hash("abc"),
                stable_hash(["ab", "c"]), stable_hash("1"), stable_hash(1)}) == 6  # fmt: skip


def test_the_number_of_digits_can_be_chosen() -> None:
    assert stable_hash("x", digits=8) == stable_hash("x")[:8]
    assert len(stable_hash("x", digits=64)) == 64


def test_no_global_generator_is_touched() -> None:
    random.seed(0)
    before = random.getstate()
    derive_rng(0, "a").random()
    assert random.getstate() == before


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        stable_hash(object())
