from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.experience.edits import (
    Add,
    Delete,
    Keep,
    Merge,
    Modify,
    Operation,
    Rollback,
    SetStatus,
    canonical_order,
    from_row,
    pool,
    settle,
    tidy,
    to_row,
)

IDS = st.sampled_from(["E1", "E2", "E3", "", "C1"])
BACKING: dict[str, st.SearchStrategy[Any]] = {
    "reason": st.text(max_size=5),
    "evidence": st.lists(st.text(max_size=3), max_size=2).map(tuple),
    "support": st.integers(0, 5),
}
CLAIMS = st.one_of(
    st.builds(Modify, IDS, st.text(max_size=5), **BACKING),
    st.builds(Merge, st.lists(IDS, max_size=3).map(tuple), st.text(max_size=5), **BACKING),
    st.builds(Delete, IDS, **BACKING),
)
OPERATIONS = st.one_of(
    CLAIMS,
    st.builds(Add, st.text(max_size=5), **BACKING),
    st.builds(Keep, IDS, **BACKING),
    st.builds(
        SetStatus, IDS, st.sampled_from(["active", "pinned", "disabled", "retired"]), **BACKING
    ),
    st.builds(Rollback, st.integers(), **BACKING),
)


@given(OPERATIONS)
def test_a_row_is_json_and_reads_back_as_the_same_operation(operation: Operation) -> None:
    assert from_row(json.loads(json.dumps(to_row(operation)))) == operation


@pytest.mark.parametrize(
    "row",
    [
        None,
        {},
        to_row(Add("x")) | {"op": "replace"},
        to_row(Add("x")) | {"text": None},
        to_row(Add("x")) | {"support": -1},
        to_row(Add("x")) | {"extra": 1},
        to_row(Delete("E1")) | {"targets": ["E1", "E2"]},
        to_row(Rollback(3)) | {"step": None},
    ],
)
def test_a_row_of_another_shape_is_refused(row: object) -> None:
    with pytest.raises(ValueError, match=r"to_row|_Row|or more"):
        from_row(row)


def test_edits_are_frozen_and_support_is_a_count() -> None:
    with pytest.raises(FrozenInstanceError):
        Add("x").text = "y"  # type: ignore[misc]
    with pytest.raises(ValueError, match="0 or more"):
        Delete("E1", support=-1)


def test_tidy_cleans_every_string_and_drops_repeated_targets() -> None:
    merged = tidy(Merge(("E1", " E1 ", "E2"), "a\nb", reason="c\x00", evidence=("C1\n",)))
    assert merged == Merge(("E1", "E2"), "a b", reason="c", evidence=("C1",))


@given(st.lists(CLAIMS, max_size=6), st.randoms(use_true_random=False))
def test_canonical_order_does_not_depend_on_the_given_order(
    edits: list[Modify | Merge | Delete], random: Any
) -> None:
    shuffled = random.sample(edits, len(edits))
    assert [edits[i] for i in canonical_order(edits)] == [
        shuffled[i] for i in canonical_order(shuffled)
    ]


def test_equal_proposals_are_pooled_and_their_support_adds_up() -> None:
    edits = [
        Modify("E1", "Try small cases.", evidence=("C1",)),
        Modify("E1", "try SMALL cases", evidence=("C2",), support=2),
        Delete("E1"),
    ]
    pooled = pool(enumerate(edits))
    assert [claim.members for claim in pooled] == [(0, 1), (2,)]
    assert pooled[0].edit.support == 3
    assert pooled[0].edit.evidence == ("C1", "C2")


@given(st.lists(CLAIMS, max_size=8))
def test_of_claims_that_touch_one_entry_exactly_the_best_supported_wins(
    edits: list[Modify | Merge | Delete],
) -> None:
    claims = pool(enumerate(edits))
    winners, losers = settle(claims)
    assert len(winners) + len(losers) == len(claims)
    taken = [target for claim in winners for target in set(claim.targets)]
    assert len(taken) == len(set(taken))
    for loser in losers:
        rivals = [w for w in winners if set(w.targets) & set(loser.targets)]
        assert max(w.edit.support for w in rivals) >= loser.edit.support


@pytest.mark.parametrize(
    ("delete_support", "modify_support", "winner"), [(1, 1, Modify), (2, 1, Delete), (1, 2, Modify)]
)
def test_delete_beats_modify_only_with_greater_support(
    delete_support: int, modify_support: int, winner: type
) -> None:
    edits = [Delete("E1", support=delete_support), Modify("E1", "x", support=modify_support)]
    winners, losers = settle(pool(enumerate(edits)))
    assert [type(claim.edit) for claim in winners] == [winner]
    assert len(losers) == 1
