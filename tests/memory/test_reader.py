"""Reading a bank: pure, guarded, and never short of cases because others were blocked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.credit import Utility
from memory.read.guard import Guard, GuardedItem
from memory.read.policy import BySimilarity, ByValue, ReadPolicy, Softmax, TopK
from memory.read.reader import Query, Reader, Rules, State
from memory.search.embed import F32, HashingEmbedder
from memory.search.index import Hits, NumpyIndex
from memory.types import Case, Parent

EMBEDDER = HashingEmbedder(dim=64)


class Flat:
    """Vectors of a bank's questions under the oracle index."""

    fingerprint = EMBEDDER.fingerprint.digest

    def __init__(self, state: State) -> None:
        self._rows = {i: _embedded(case.question) for i, case in state.cases.items()}
        self._index = NumpyIndex(EMBEDDER.dim)
        if self._rows:
            self._index.add(self._rows, np.stack(list(self._rows.values())))

    def embed(self, questions: Sequence[str]) -> F32:
        return np.stack([_embedded(question) for question in questions])

    def search(self, queries: F32, k: int, allow: Iterable[int] | None = None) -> list[Hits]:
        return self._index.search(queries, k, allow)

    def vector(self, case_id: int) -> F32 | None:
        return self._rows.get(case_id)


@lru_cache(maxsize=1000)
def _embedded(text: str) -> F32:
    row: F32 = EMBEDDER.embed_documents([text])[0]
    return row


def case(number: int, question: str, **more: object) -> Case:
    given = {"plan": f"plan {number}", "reward": 1.0, "outcome": "success"} | more
    return Case(id=number, uid=str(number), question=question, **given)  # type: ignore[arg-type]


def bank(*cases: Case, **utilities: Utility) -> State:
    credits = {int(name[1:]): utility for name, utility in utilities.items()}
    return State({c.id: c for c in cases}, credits, seq=7)


def reader(held: State, policy: ReadPolicy | None = None, **guard: object) -> Reader:
    policy = policy or ReadPolicy(k=2, score=BySimilarity())
    return Reader(held, Flat(held), Rules(policy, Guard(**guard)))  # type: ignore[arg-type]


def ids(found: Reader, question: str, seed: int = 0, item: str = "") -> list[int]:
    read = found.read(Query(GuardedItem(item, question), seed))
    return [c.id for c in read.shown]


TOWNS = [f"How far is {a} from {b} by train?" for a in "ABCDEFG" for b in "HIJKLMN"]


def test_blocked_neighbours_take_no_place() -> None:
    copies = [case(i, "Where was Ada born?", plan=f"way {i}") for i in range(1, 300)]
    held = bank(*copies, case(300, "Where do trains go?"), case(301, "Who bakes bread?"))
    assert ids(reader(held), "Where was Ada born?") == [300, 301]


def test_a_case_of_a_merged_copy_is_the_items_own() -> None:
    held = bank(
        case(1, "Which town is it?", item_id="a", also_items=("b",)),
        case(2, "Which town was it, then?", item_id="c"),
    )
    assert ids(reader(held, phase="practice"), "Which of the towns?", item="b") == [2]
    assert set(ids(reader(held, phase="practice"), "Which of the towns?", item="d")) == {1, 2}


def test_what_was_made_from_a_blocked_case_is_blocked_even_if_that_one_is_deleted() -> None:
    held = bank(
        case(1, "Where was Ada born?", state="deleted"),
        case(2, "Birthplaces", parents=(Parent(1),)),
        case(3, "Bakeries"),
    )
    found = reader(held).read(Query(GuardedItem("", "Where was Ada born?")))
    assert [c.id for c in found.shown] == [3]
    assert "ancestor" in str(found.verdicts[2].blocked_by)


def test_a_gold_answer_in_what_would_be_rendered_is_seen() -> None:
    held = bank(case(1, "A river", plan="It ends in Lisbon."), case(2, "A river, too"))
    rules = Rules(ReadPolicy(k=2), Guard(), render=lambda c: c.plan)
    found = Reader(held, Flat(held), rules).read(
        Query(GuardedItem("x", "Which town?", ("Lisbon",)))
    )
    assert [c.id for c in found.shown] == [2]


def test_a_success_where_others_fail_is_worth_more_before_any_credit() -> None:
    held = bank(
        case(1, "To B by train?", reward=0.0, outcome="failure"),
        case(2, "To B by train!", reward=1.0),
        case(3, "To B, by train", reward=0.0, outcome="failure"),
    )
    policy = ReadPolicy(k=1, score=ByValue(weight=1.0))
    assert ids(reader(held, policy, mode="off"), "To C by train?") == [2]
    loved = bank(*held.cases.values(), c3=Utility(50, 0.9, 0.1))
    assert ids(reader(loved, policy, mode="off"), "To C by train?") == [3]


def test_an_empty_bank_and_a_switched_off_policy_show_nothing() -> None:
    assert ids(reader(bank()), "Anything?") == []
    off = ReadPolicy(k=0, score=BySimilarity())
    assert ids(reader(bank(case(1, "Anything else?")), off), "Anything?") == []


@given(
    st.lists(st.sampled_from(TOWNS), max_size=40),
    st.sampled_from(TOWNS),
    st.integers(0, 5),
    st.sampled_from((TopK(), Softmax(0.3))),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_a_read_equals_ranking_the_whole_bank(
    questions: list[str], asked: str, k: int, draw: TopK | Softmax, seed: int
) -> None:
    """Looking at the nearest only, in growing circles, loses nothing that top-k would show."""
    held = bank(*(case(i, text) for i, text in enumerate(questions, 1)))
    policy = ReadPolicy(k=k, score=BySimilarity(), draw=draw)
    found = reader(held, policy)
    shown = ids(found, asked, seed)
    cosines = {i: float(_embedded(c.question) @ _embedded(asked)) for i, c in held.cases.items()}
    allowed = [i for i, c in held.cases.items() if cosines[i] < 0.9 and c.question != asked]
    assert set(shown) <= set(allowed)
    assert len(shown) == min(k, len(allowed))
    if isinstance(draw, TopK):
        assert sorted(cosines[i] for i in shown) == pytest.approx(
            sorted(cosines[i] for i in allowed)[len(allowed) - len(shown) :], abs=1e-5
        )
    assert shown == ids(reader(held, policy), asked, seed)


def test_a_read_says_all_that_it_rests_on() -> None:
    held = bank(case(1, "To B by train?"), case(2, "To C by ship?"), case(3, "Where was Ada born?"))
    query = Query(GuardedItem("x", "Where was Ada born?"), 5, "run", "x", "x/3")
    read = reader(held).read(query)
    logged = read.retrieval
    assert (logged.run_id, logged.group_id, logged.rollout_id, logged.item_id) == (
        "run", "x", "x/3", "x",
    )  # fmt: skip
    assert (logged.snapshot_seq, logged.seed, logged.fingerprint) == (7, 5, Flat.fingerprint)
    assert {hit.case_id: hit.rank is not None for hit in logged.hits} == {
        1: True,
        2: True,
        3: False,
    }
    assert "same question" in str(next(h.reason for h in logged.hits if h.case_id == 3))
    assert logged.policy["score"] == {"kind": "BySimilarity"}
    other = reader(held).read(replace(query, item=GuardedItem("x", "where was ada born")))
    assert other.retrieval.query_sha != ""
