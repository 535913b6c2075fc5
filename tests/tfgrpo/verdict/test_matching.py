"""What differs is told by name, and stamped when it is forced."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tfgrpo.verdict.outcomes import evaluation
from tfgrpo.errors import ConfigError
from tfgrpo.verdict.matching import check_matched, mismatches, shared_settings

SETTINGS: dict[str, Any] = {
    "problems": "1c8", "split": "test", "sampling": {"temperature": 1.0}, "reward": "exact",
    "pack": "abacus", "base": {"kind": "abacus"},
}  # fmt: skip


def test_equal_protocols_match() -> None:
    found = [evaluation(name, [1], protocol=SETTINGS) for name in "abc"]
    assert check_matched(found, force=False) == ()
    assert shared_settings(found) == SETTINGS


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_each_difference_is_refused_and_can_be_forced(name: str) -> None:
    other = {**SETTINGS, name: "another"}
    found = [evaluation("a", [1], protocol=SETTINGS), evaluation("b", [1], seed=3, protocol=other)]
    with pytest.raises(ConfigError, match=r"do not match.*b, seed 3 has \S*another.*--force"):
        check_matched(found, force=False)
    (stamp,) = check_matched(found, force=True)
    assert stamp.startswith("Forced: ")
    assert name not in shared_settings(found)


def test_a_setting_that_is_not_known_is_no_mismatch() -> None:
    found = [evaluation("a", [1], protocol=SETTINGS), evaluation("b", [1])]
    assert mismatches(found) == ()


def test_decoding_may_differ_only_where_it_is_meant() -> None:
    hot = {**SETTINGS, "sampling": {"temperature": 1.5}}
    found = [evaluation("a", [1], protocol=SETTINGS), evaluation("hot", [1], protocol=hot)]
    assert mismatches(found, meant=["hot"]) == ()
    assert [m.name for m in mismatches(found)] == ["sampling"]
    cheat = {**hot, "split": "dev"}
    found[1] = evaluation("hot", [1], protocol=cheat)
    assert [m.name for m in mismatches(found, meant=["hot"])] == ["split"]


def test_the_odd_one_is_named_with_what_differs_alone() -> None:
    hot = {**SETTINGS, "sampling": {"temperature": 1.5, "top_p": 1.0}}
    cool = {**SETTINGS, "sampling": {"temperature": 1.0, "top_p": 1.0}}
    found = [evaluation("hot", [1], protocol=hot)]
    found += [evaluation(name, [1], protocol=cool) for name in "ab"]
    (mismatch,) = mismatches(found)
    assert mismatch.sentence == (
        "the decoding settings differ: most have temperature 1.0, but hot has temperature 1.5"
    )
    assert mismatches(found, meant=["hot"]) == ()


@given(st.permutations(range(4)))
def test_the_order_does_not_decide_whether_runs_match(order: list[int]) -> None:
    protocols = [SETTINGS, SETTINGS, {**SETTINGS, "pack": "default"}, {}]
    found = [evaluation(f"a{i}", [1], protocol=protocols[i]) for i in order]
    assert {m.name for m in mismatches(found)} == {"pack"}
