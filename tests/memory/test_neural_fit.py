from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import StoreError
from memory.read.neural import NeuralQ
from memory.read.neural_data import Example, logged, split
from memory.read.neural_fit import FitReport, Training, fit
from memory.read.rank import ByModel, Candidate, ReadPolicy, rank
from memory.read.worth import auc
from memory.search.embed import F32, HashingEmbedder, unit_rows
from memory.store import CaseStore
from memory.types import CaseIn, Hit, Outcome, Retrieval

DIM = 12
SPACE = HashingEmbedder(dim=DIM).fingerprint
BRIEF = Training(epochs=40, patience=5)


def rows(n: int, seed: int) -> F32:
    return unit_rows(np.random.default_rng(seed).normal(size=(n, DIM)))


def bank(queries: int, cases: int = 60) -> tuple[dict[str, F32], dict[int, F32]]:
    return (
        {f"q{i}": row for i, row in enumerate(rows(queries, 1))},
        dict(enumerate(rows(cases, 2))),
    )


def matching(queries: int, shown: int = 8, seed: int = 0) -> list[Example]:
    """A case helps (90% against 10%) if its first number has the sign of the query's."""
    rng = np.random.default_rng(seed)
    q, c = bank(queries)
    return [
        Example(name, case, bool(rng.random() < (0.9 if row[0] * c[case][0] > 0 else 0.1)))
        for name, row in q.items()
        for case in rng.choice(len(c), shown, replace=False).tolist()
    ]


def broadcast(queries: int, shown: int = 8) -> list[Example]:
    """Every case of a query carries the query's outcome, as in Memento's published data."""
    rng = np.random.default_rng(5)
    return [
        Example(f"q{i}", case, right)
        for i, right in enumerate((rng.random(queries) < 0.7).tolist())
        for case in rng.choice(60, shown, replace=False).tolist()
    ]


def fitted(examples: list[Example], training: Training = BRIEF) -> tuple[NeuralQ, FitReport]:
    return fit(examples, *bank(400), SPACE, training)


def test_it_learns_to_rank_the_cases_of_queries_it_never_saw() -> None:
    model, report = fitted(matching(400))
    assert report.model.within is not None
    assert report.cosine.within is not None
    # The best possible ranking knows the sign: within a query 0.9 against 0.1, an AUC of 0.9.
    assert 0.8 < report.model.within < 0.95
    assert report.model.within > report.cosine.within + 0.1
    assert report.model.log_loss < report.base_rate.log_loss - 0.1
    assert (report.base_rate.auc, report.base_rate.within) == (0.5, 0.5)
    assert report.queries == (240, 80, 80)
    assert sum(report.examples) == 3200
    assert report.epoch > 0
    query, cases = bank(400)[0]["q0"], np.stack(list(bank(400)[1].values()))
    helps = cases[:, 0] * query[0] > 0
    values = model.values(query, cases)
    assert auc(values, helps) > 0.9


def test_labels_that_are_equal_within_a_query_teach_no_ranking_and_are_not_learned_by_heart() -> (
    None
):
    examples = broadcast(400)
    _, report = fitted(examples)
    assert report.with_spread == (0, 0, 0)
    assert report.model.within is report.cosine.within is None
    # Outcomes have nothing to do with the vectors: 80 judging queries leave an error of 0.07.
    assert abs(report.model.auc - 0.5) < 0.2
    assert report.model.log_loss < report.base_rate.log_loss + 0.05
    # A split by rows would let a table of the queries know every outcome.
    half = np.random.default_rng(0).permutation(len(examples)) < len(examples) // 2
    table = {e.query: e.success for e, seen in zip(examples, half, strict=True) if seen}
    rest = [e for e, seen in zip(examples, half, strict=True) if not seen and e.query in table]
    recalled = np.array([float(table[e.query]) for e in rest])
    assert auc(recalled, np.array([e.success for e in rest])) == 1.0


def test_where_nothing_gets_better_the_base_rate_comes_back() -> None:
    """Stopping queries that say the contrary of the learning ones: no pass lowers their loss."""
    examples = [Example(f"q{i}", i % 60, i % 2 == 0) for i in range(5)]
    reports = [fitted(examples, Training(seed=seed, epochs=3)) for seed in range(20)]
    kept = [(model, report) for model, report in reports if report.epoch == 0]
    assert kept
    for model, report in kept:
        base = math.exp(-report.base_rate.log_loss)
        values = model.values(rows(1, 7)[0], rows(30, 8))
        assert len(set(values.tolist())) == 1
        assert min(abs(values[0] - base), abs(1 - values[0] - base)) < 1e-6
        assert report.model.log_loss == pytest.approx(report.base_rate.log_loss)


def test_the_same_examples_in_any_order_give_the_same_model(tmp_path: Path) -> None:
    examples = matching(60)
    quick = Training(epochs=3, seed=1)
    files = [tmp_path / name for name in "abc"]
    fitted(examples, quick)[0].save(files[0])
    fitted(examples[::-1], quick)[0].save(files[1])
    fitted(examples, Training(epochs=3, seed=2))[0].save(files[2])
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    notes = NeuralQ.load(files[0], SPACE).notes
    assert notes["training"]["seed"] == 1
    assert len(notes["examples_sha256"]) == 64
    assert notes["report"]["queries"] == [36, 12, 12]


def test_what_has_no_vector_is_left_out_and_counted() -> None:
    extra = [Example("unknown", 1, True), Example("q1", 999, True)]
    examples = matching(30)
    assert fitted([*examples, *extra], Training(epochs=1))[1].left_out == 2
    with pytest.raises(StoreError, match="Reads of 2 queries"):
        fitted([Example("q0", 0, True), Example("q1", 0, False), *extra[:1]])


@given(
    st.lists(st.integers(0, 40), min_size=3, max_size=60).filter(lambda g: len(set(g)) >= 3),
    st.floats(0.01, 0.49),
    st.integers(0, 100),
)
def test_no_query_is_on_two_sides(drawn: list[int], held: float, seed: int) -> None:
    groups = np.unique(drawn, return_inverse=True)[1].astype(np.int64)
    parts = split(groups, held, seed)
    assert (np.sum(parts, axis=0) == 1).all()
    sides = [set(groups[part].tolist()) for part in parts]
    assert all(sides)
    assert sum(map(len, sides)) == len(set(groups.tolist()))
    assert len(sides[1]) == len(sides[2])


@pytest.mark.parametrize(
    "broken", [{"hidden": 0}, {"epochs": 0}, {"rate": 0.0}, {"held": 0.5}, {"decay": -1.0}]
)
def test_nonsense_cannot_be_written(broken: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"above\.$|or above"):
        Training(**broken)


def test_from_a_store_to_a_read_that_follows_the_model(tmp_path: Path) -> None:
    """Only shown cases of scored reads become examples."""
    embedder = HashingEmbedder(dim=DIM)
    with CaseStore(tmp_path) as store:
        ids = [store.add(CaseIn(question=f"case {i}", plan="p"), actor="test").id for i in range(4)]
        for query in range(40):
            hits = (Hit(ids[query % 2], 0.5, rank=0), Hit(ids[2], 0.4, reason="outranked"))
            number = store.retrievals.log(Retrieval(hits=hits, query_sha=f"sha {query}"))
            if query < 36:
                outcome = Outcome(number, None if query >= 30 else float(query % 2 == 0))
                store.retrievals.credit([outcome], actor="test")
        examples = logged(store.retrievals)
    assert len(examples) == 30
    assert {(e.case_id, e.success) for e in examples} == {(ids[0], True), (ids[1], False)}
    questions = {f"sha {i}": embedder.embed_queries([f"question {i}"])[0] for i in range(40)}
    cases = dict(zip(ids, embedder.embed_documents([f"case {i}" for i in range(4)]), strict=True))
    model, _ = fit(examples, questions, cases, embedder.fingerprint, Training(rate=0.01))
    values = model.values(questions["sha 39"], np.stack([cases[i] for i in ids]))
    candidates = [Candidate(i, 0.5, value=float(v)) for i, v in zip(ids, values, strict=True)]
    ranking = rank(candidates, ReadPolicy(k=4, score=ByModel()))
    assert ranking.shown == tuple(np.array(ids)[np.argsort(-values)].tolist())
    assert ranking.shown.index(ids[0]) < ranking.shown.index(ids[1])
