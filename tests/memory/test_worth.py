from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.read.worth import Worth, auc, log_loss, with_spread, worth

scored = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.booleans()), max_size=12)


def arrays(pairs: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in pairs], float), np.array([y for _, y in pairs], bool)


@given(scored)
def test_auc_counts_pairs(pairs: list[tuple[float, bool]]) -> None:
    good = [s for s, y in pairs if y]
    bad = [s for s, y in pairs if not y]
    found = auc(*arrays(pairs))
    if not good or not bad:
        assert found is None
    else:
        won = sum((g > b) + (g == b) / 2 for g in good for b in bad)
        assert found == pytest.approx(won / len(good) / len(bad))


def test_log_loss_by_hand() -> None:
    values, labels = arrays([(0.8, True), (0.4, False)])
    assert log_loss(values, labels) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    sure = log_loss(np.array([0.0]), np.array([True]))
    assert sure == pytest.approx(-math.log(1e-7))


def test_knowing_which_queries_are_easy_is_no_ranking() -> None:
    """Query 0: 3 of 4 right, query 1: 1 of 4; every case of a query gets the query's share."""
    labels = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    groups = np.repeat([0, 1], 4)
    by_query = worth(np.repeat([0.75, 0.25], 4), labels, groups)
    assert by_query == Worth(pytest.approx(0.5623, abs=1e-4), pytest.approx(0.75), 0.5)
    ranked = worth(labels + np.repeat([0.0, 10.0], 4), labels, groups, probabilities=False)
    assert (ranked.log_loss, ranked.within) == (None, 1.0)
    assert ranked.auc == pytest.approx((3 * 1 + 4 + 0) / 16)


def test_queries_without_spread_rank_nothing() -> None:
    labels, groups = np.array([1, 1, 0, 0, 1, 0], bool), np.array([0, 0, 1, 1, 2, 2])
    assert with_spread(labels, groups) == [2]
    assert worth(np.arange(6) / 6, labels, groups).within == 0.0
    assert worth(np.arange(4) / 4, labels[:4], groups[:4]).within is None
