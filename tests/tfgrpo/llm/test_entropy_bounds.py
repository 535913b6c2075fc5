from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.llm.entropy_bounds import entropy_bounds

VOCABULARY = 50


def entropy(p: np.ndarray) -> float:
    kept = p[p > 0]
    return float(-(kept * np.log(kept)).sum())


def distribution(seed: int, spread: float) -> np.ndarray:
    """Falling probabilities of VOCABULARY tokens; the wider the spread, the more peaked."""
    logits = spread * np.random.default_rng(seed).standard_normal(VOCABULARY)
    p = np.exp(logits - logits.max())
    return np.sort(p / p.sum())[::-1]


@pytest.mark.parametrize(
    ("top", "vocabulary", "expected"),
    [
        ((0.5, 0.3), 4, (1.029653, 1.168282)),
        ((0.97, 0.01, 0.005), 50_000, (0.181563, 0.327380)),
        ((0.4, 0.1, 0.1, 0.1, 0.1), 50_000, (1.748, 3.773)),
        ((1.0,), 50_000, (0.0, 0.0)),
        ((0.5, 0.5), 2, (math.log(2), math.log(2))),
    ],
)
def test_golden(top: tuple[float, ...], vocabulary: int, expected: tuple[float, float]) -> None:
    assert entropy_bounds(top, vocabulary=vocabulary) == pytest.approx(expected, abs=5e-4)


@given(st.integers(0, 2**32), st.floats(0.0, 6.0), st.integers(1, VOCABULARY))
def test_they_hold_the_true_entropy_and_tighten(seed: int, spread: float, told: int) -> None:
    p = distribution(seed, spread)
    low, high = entropy_bounds(p[:told].tolist(), vocabulary=VOCABULARY)
    assert low - 1e-9 <= entropy(p) <= high + 1e-9
    if told < VOCABULARY:
        closer = entropy_bounds(p[: told + 1].tolist(), vocabulary=VOCABULARY)
        assert closer[0] >= low - 1e-9
        assert closer[1] <= high + 1e-9
    else:
        assert (low, high) == pytest.approx((entropy(p), entropy(p)))
    assert entropy_bounds(p[:told].tolist())[1] >= high - 1e-9


@given(st.integers(0, 2**32), st.floats(0.0, 6.0), st.integers(1, VOCABULARY - 1), st.data())
def test_a_sampled_token_that_is_not_among_them_is_known_too(
    seed: int, spread: float, told: int, data: st.DataObject
) -> None:
    p = distribution(seed, spread)
    sampled = float(p[data.draw(st.integers(told, VOCABULARY - 1))])
    top = p[:told].tolist()
    low, high = entropy_bounds(top, sampled, VOCABULARY)
    assert low - 1e-9 <= entropy(p) <= high + 1e-9
    assert high <= entropy_bounds(top, vocabulary=VOCABULARY)[1] + 1e-9


@pytest.mark.parametrize("top", [(), (math.nan,), (1.5,), (-0.1,)])
def test_what_is_no_probability_is_refused(top: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ask for them"):
        entropy_bounds(top)
