"""Reads are logged as they were; credit is given once, and only to what was shown."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.credit import Utility
from memory.errors import InvalidCase, StoreError
from memory.store import CaseStore
from memory.types import CaseIn, CreditReport, Hit, Outcome, Retrieval
from tests.memory.store_places import memory_folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CaseStore]:
    with CaseStore(tmp_path) as opened:
        opened.add_many([CaseIn(question=f"q{i}") for i in range(3)], actor="test")
        yield opened
        assert opened.verify() == []


def test_a_read_comes_back_as_it_was_logged(store: CaseStore) -> None:
    read = Retrieval(
        hits=(Hit(2, 0.9, 0, 1.5, 0.25), Hit(1, 0.95, reason="same item"), Hit(3, 0.1)),
        query_sha="abc", run_id="r", group_id="g", rollout_id="o", item_id="i",
        policy={"kind": "topk", "k": 1}, fingerprint="fp", snapshot_seq=2, seed=2**64 - 1, ms=1.5,
    )  # fmt: skip
    assert store.retrievals.get(store.retrievals.log(read)) == read
    assert store.retrievals.times_shown() == {2: 1}
    assert store.retrievals.ids(case_id=2) == store.retrievals.ids(run_id="r") == [1]
    assert store.retrievals.ids(case_id=1) == store.retrievals.ids(run_id="s") == []
    bare = store.retrievals.log(Retrieval((), "q"))
    assert store.retrievals.get(bare).snapshot_seq == store.seq
    assert store.retrievals.ids() == [1, bare]
    with pytest.raises(StoreError, match="log it before"):
        store.retrievals.get(99)


def test_a_read_of_unknown_cases_or_broken_scores_is_refused(store: CaseStore) -> None:
    with pytest.raises(StoreError, match="all ids in it exist"):
        store.retrievals.log(Retrieval((Hit(1, 0.5, 0), Hit(99, 0.5, 1)), "q"))
    with pytest.raises(InvalidCase, match="check the ranker"):
        store.retrievals.log(Retrieval((Hit(1, float("nan"), 0),), "q"))
    assert store.retrievals.times_shown() == {}


def test_only_what_was_shown_is_credited_and_only_once(store: CaseStore) -> None:
    read = store.retrievals.log(Retrieval((Hit(1, 0.9, 0), Hit(2, 0.8, reason="quota")), "q"))
    outcome = Outcome(read, 1.0, 0.5, 0.5, "exact")
    credit = store.retrievals.credit
    assert credit([outcome], actor="test") == CreditReport(1, 0, 0)
    seq = store.seq
    assert credit([outcome], actor="test") == CreditReport(0, 1, 0)
    assert credit([outcome, outcome], actor="test") == CreditReport(0, 2, 0)
    assert store.seq == seq
    assert store.utilities() == {1: Utility(1, 0.5, 0.0)}
    assert store.retrievals.outcome(read) == outcome
    with pytest.raises(StoreError, match="another outcome"):
        credit([Outcome(read, 0.0, -0.5)], actor="test")


def test_an_outcome_given_twice_in_one_call_counts_once(store: CaseStore) -> None:
    read = store.retrievals.log(Retrieval((Hit(1, 0.9, 0),), "q"))
    outcome = Outcome(read, 1.0, 0.5)
    assert store.retrievals.credit([outcome] * 2, actor="test") == CreditReport(1, 1, 0)
    assert store.utilities() == {1: Utility(1, 0.5, 0.0)}
    other = store.retrievals.log(Retrieval((Hit(1, 0.9, 0),), "q"))
    with pytest.raises(StoreError, match="another outcome"):
        store.retrievals.credit([Outcome(other, 1.0, 0.5), Outcome(other, 0.0)], actor="test")
    assert store.retrievals.outcome(other) is None


def test_no_judgement_is_no_reward_of_zero(store: CaseStore) -> None:
    read = store.retrievals.log(Retrieval((Hit(1, 0.9, 0),), "q"))
    outcome = Outcome(read, None)
    assert store.retrievals.credit([outcome], actor="test") == CreditReport(0, 0, 1)
    assert store.utilities() == {}
    assert store.retrievals.outcome(read) == outcome


def test_a_bad_outcome_spoils_its_whole_batch(store: CaseStore) -> None:
    read = store.retrievals.log(Retrieval((Hit(1, 0.9, 0),), "q"))
    good = Outcome(read, 1.0, 0.5)
    for bad, error in (
        (Outcome(99, 1.0, 0.5), "log it before"),
        (Outcome(read, float("inf"), 0.5), "finite"),
        (Outcome(read, None, 0.5), "both or neither"),
    ):
        with pytest.raises(StoreError, match=error):
            store.retrievals.credit([good, bad], actor="test")
    assert store.utilities() == {}


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(1, 3), st.booleans()),
            st.none() | st.floats(-2, 2),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_utility_is_the_fold_of_what_was_credited(
    reads: list[tuple[dict[int, bool], float | None, bool]],
) -> None:
    expected: dict[int, Utility] = {}
    waiting: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory(dir=memory_folder()) as folder,
        CaseStore(Path(folder)) as store,
    ):
        store.add_many([CaseIn(question=f"q{i}") for i in range(3)], actor="test")
        for seen, advantage, flush in reads:
            hits = tuple(Hit(c, 0.5, c if shown else None) for c, shown in seen.items())
            waiting.append(Outcome(store.retrievals.log(Retrieval(hits, "q")), 1.0, advantage))
            for number in sorted(c for c, shown in seen.items() if shown):
                if advantage is not None:
                    expected[number] = expected.get(number, Utility()).add(advantage)
            if flush:
                store.retrievals.credit(waiting, actor="test")
                waiting.clear()
        store.retrievals.credit(waiting, actor="test")
        assert store.utilities() == store.at(store.seq).utilities == expected
        store.retrievals.rebuild_utilities()
        assert store.utilities() == expected
        assert store.verify() == []
