"""Statistics agree with plain counting over everything that a store holds."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.care.stats import BINS
from memory.credit import Utility, on_off_effect
from memory.read.guard import Guard, GuardedItem
from memory.read.policy import BySimilarity, ReadPolicy
from memory.read.reader import Query, Reader, Rules, State
from memory.search.embed import HashingEmbedder
from memory.search.reembed import embed_pending
from memory.search.space import Space
from memory.store import CaseStore
from memory.types import STATES, CaseFilter, CaseIn, Hit, Outcome, Retrieval
from tests.memory.store_places import memory_folder

DAY = 86_400.0
EVERYTHING = CaseFilter(states=STATES)
EMBEDDER = HashingEmbedder(dim=16)


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def store(tmp_path: Path, clock: list[float]) -> Iterator[CaseStore]:
    with CaseStore(tmp_path, clock=lambda: clock[0]) as opened:
        yield opened
        assert opened.verify() == []


def add(store: CaseStore, count: int, **more: Any) -> list[int]:
    start = len(store.cases(EVERYTHING))
    cases = [CaseIn(question=f"q{start + i}", **more) for i in range(count)]
    return [r.id for r in store.add_many(cases, actor="test")]


def test_an_empty_store_has_nothing_and_says_so(store: CaseStore) -> None:
    stats = store.stats()
    assert (stats.seq, stats.states, stats.views, stats.growth) == (0, {}, (), {})
    assert stats.coverage is stats.hit_rate is stats.effect is stats.utility.mean is None
    assert stats.utility.histogram == (0,) * BINS
    assert stats.bytes["database"] > 0
    assert stats.bytes["indexes"] == 0


def test_growth_is_of_all_days_and_all_cases(store: CaseStore, clock: list[float]) -> None:
    gone, kept = add(store, 2)
    clock[0] = DAY - 1
    store.update(kept, {"answer": "x"}, expected_version=1, actor="test")
    add(store, 1)
    clock[0] = 3 * DAY
    add(store, 1)
    store.add(CaseIn(question="q1"), actor="test")
    store.purge([gone], confirm=True, actor="test")
    assert store.stats().growth == {"1970-01-01": 3, "1970-01-04": 1}


def test_vectors_and_what_is_pending(store: CaseStore) -> None:
    (first, *_) = add(store, 3)
    embed_pending(store, EMBEDDER, ("question",))
    Space(store, EMBEDDER)
    other = HashingEmbedder(dim=8)
    store.vectors.register("other", 8, {})
    some = store.cases()[:1]
    store.vectors.put("other", "plan", some, other.embed_documents(["x"]))
    store.update(first, {"question": "new"}, expected_version=1, actor="test")
    add(store, 2, kind="tool")
    found = {(v.name, v.view): v for v in store.stats().views}
    one = found["hashing", "question"]
    assert (one.active, one.dim, one.vectors, one.pending, one.bytes) == (True, 16, 3, 1, 3 * 64)
    assert (found["", "plan"].active, found["", "plan"].vectors) == (False, 1)
    assert store.stats().bytes["indexes"] > 0


def test_blocks_are_counted_by_the_rule_of_the_guard(store: CaseStore) -> None:
    store.add_many(
        [
            CaseIn(question="What is 2 + 2 (two)?", item_id="i"),
            CaseIn(question="Another thing", item_id="i (x)"),
            CaseIn(question="What is it?", plan="the answer is forty (40)"),
            CaseIn(question="Quite unlike"),
        ],
        actor="test",
    )
    cases = {case.id: case for case in store.cases()}
    state, space = State(cases, {}, store.seq), Space(store, EMBEDDER)
    reader = Reader(state, space, Rules(ReadPolicy(k=2, score=BySimilarity()), Guard()))
    for item in (GuardedItem("i", "x", ("forty",)), GuardedItem("j", "what is 2 + 2 (two)")):
        store.retrievals.log(reader.read(Query(item)).retrieval)
    stats = store.stats()
    assert stats.blocked == {"gold answer": 1, "same item": 1, "same question": 1}
    assert (stats.reads, stats.answered, stats.hit_rate) == (2, 2, 1.0)


def test_reads_without_memory_are_no_misses(store: CaseStore) -> None:
    one, two = add(store, 2)
    log = store.retrievals.log
    log(Retrieval((Hit(one, 0.5, 0),), "q", policy={"k": 4}))
    log(Retrieval((Hit(two, 0.1, None, reason="below floor"),), "q", policy={"k": 4}))
    log(Retrieval((), "q"))
    log(Retrieval((), "q", policy={"k": 0}))
    stats = store.stats()
    assert (stats.reads, stats.answered) == (3, 1)
    assert stats.hit_rate == pytest.approx(1 / 3)
    assert (stats.never_shown, stats.coverage) == (1, 0.5)


def test_the_effect_of_memory_is_taken_within_groups(store: CaseStore) -> None:
    """Item a is easy and mostly read with memory, b is hard; memory adds 0.25 and 0.5."""
    rewards = {
        ("a", "g1"): ([1.0, 1.0, 1.0], [0.75]),
        ("a", "g2"): ([0.75], [0.5]),
        ("b", "g3"): ([0.5, 0.5], [0.0, 0.0]),
        ("c", "g4"): ([1.0], []),
        (None, "g5"): ([0.5], [0.5]),
    }
    for (item, group), (on, off) in rewards.items():
        for k, values in ((2, on), (0, off)):
            for value in values:
                read = Retrieval((), "q", group_id=group, item_id=item, policy={"k": k})
                number = store.retrievals.log(read)
                store.retrievals.credit([Outcome(number, value)], actor="test")
    unscored = store.retrievals.log(Retrieval((), "q", item_id="c", group_id="g4", policy={"k": 0}))
    store.retrievals.credit([Outcome(unscored, None)], actor="test")
    effect = store.stats().effect
    assert effect == on_off_effect([([0.25], [0]), ([0.5], [0]), ([0.0], [0]), ([], [])])
    assert effect is not None
    assert (effect.items, effect.left_out) == (3, 1)


READS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(1, 6), st.booleans(), max_size=4),
        st.none() | st.floats(-2, 2),
    ),
    max_size=8,
)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "a/b", "c"]), st.sampled_from(["case", "insight", "tool"]),
                  st.sampled_from(["success", "failure", "unknown"]),
                  st.sampled_from(["active", "archived", "deleted"])), min_size=6, max_size=6,
    ),
    READS,
)  # fmt: skip
def test_statistics_are_plain_counts(
    made: list[tuple[str, str, str, str]], reads: list[tuple[dict[int, bool], float | None]]
) -> None:
    with (
        tempfile.TemporaryDirectory(dir=memory_folder()) as folder,
        CaseStore(Path(folder)) as store,
    ):
        for i, (ns, kind, outcome, state) in enumerate(made):
            given_case = CaseIn(ns=ns, kind=kind, outcome=outcome, question=f"q{i}")  # type: ignore[arg-type]
            number = store.add(given_case, actor="test").id
            if state != "active":
                getattr(store, state.removesuffix("d"))([number], actor="test")
        credits: dict[int, Utility] = {}
        for hits, advantage in reads:
            ranked = tuple(Hit(i, 0.5, i if shown else None) for i, shown in hits.items())
            read = store.retrievals.log(Retrieval(ranked, "q"))
            store.retrievals.credit([Outcome(read, 1.0, advantage)], actor="test")
            for i in (i for i, shown in sorted(hits.items()) if shown and advantage is not None):
                credits[i] = credits.get(i, Utility()).add(advantage or 0.0)
        stats = store.stats()
        active = store.cases()
        assert stats.states == Counter(c.state for c in store.cases(EVERYTHING))
        assert stats.kinds == Counter(c.kind for c in active)
        assert stats.outcomes == Counter(c.outcome for c in active)
        assert stats.namespaces == Counter(c.ns for c in active) == store.namespaces()
        shown = {i for hits, _ in reads for i, seen in hits.items() if seen}
        found = [c.id for c in active if c.kind != "tool"]
        assert stats.retrievable == len(found)
        assert stats.never_shown == len(set(found) - shown)
        assert stats.answered == sum(any(hits.values()) for hits, _ in reads)
        values = np.array([u.shrunk() for u in credits.values()])
        bins = np.clip(np.floor((values + 1) * BINS / 2), 0, BINS - 1)
        assert list(stats.utility.histogram) == [int((bins == i).sum()) for i in range(BINS)]
        assert stats.utility.credited == len(values)
        if len(values) > 1:
            half = 1.959964 * values.std(ddof=1) / len(values) ** 0.5
            told = (stats.utility.mean, stats.utility.low, stats.utility.high)
            expected = (values.mean(), values.mean() - half, values.mean() + half)
            np.testing.assert_allclose(told, expected, atol=1e-6)


def test_a_frozen_store_has_statistics(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        add(store, 2)
        embed_pending(store, EMBEDDER)
        expected = store.stats()
    with CaseStore(tmp_path, mode="frozen") as frozen:
        found = frozen.stats()
        assert (found.views, found.seq) == (expected.views, expected.seq)
        assert found.coverage == 0.0
