from __future__ import annotations

import math
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.metrics.diversity import answer_entropy, entropy
from tfgrpo.metrics.surface import (
    compression_ratio,
    distinct_n,
    ead,
    forking_share,
    forking_threshold,
    mean_ead,
    trigram_kernel,
    vendi,
)

texts = st.lists(st.text("ab +", max_size=12), min_size=1, max_size=7)


def exact_match(labels: list[str]) -> np.ndarray:
    return np.array([[float(a == b) for b in labels] for a in labels])


def test_distinct_known_values_and_no_grams_across_replies() -> None:
    replies = [list("abab"), list("ac")]
    assert distinct_n(replies, 1) == pytest.approx(3 / 6)
    assert distinct_n(replies, 2) == pytest.approx(3 / 4)
    assert distinct_n(["ab", "ba"], 2) == 1.0
    with pytest.raises(ValueError, match="No reply has 5 units"):
        distinct_n(replies, 5)


def test_ead_known_values() -> None:
    assert ead(["aab", "bcc"], 1, 10) == pytest.approx(0.640261, abs=5e-7)
    assert ead(["abc", "def"], 1, 10) == pytest.approx(1.280522, abs=5e-7)
    assert ead(["ab"], 3, 10) == 0.0
    parts = [ead(["abcab", "bcabc"], n, 50257) for n in range(1, 6)]
    assert mean_ead(["abcab", "bcabc"], 50257) == pytest.approx(sum(parts) / 5)


@given(st.lists(st.lists(st.integers(0, 5), max_size=8), min_size=1, max_size=5))
def test_ead_is_the_share_of_what_uniform_draws_would_show(replies: list[list[int]]) -> None:
    grams = [tuple(r[i : i + 2]) for r in replies for i in range(len(r) - 1)]
    if grams:
        expected = 36 * (1 - (1 - 1 / 36) ** len(grams))
        assert ead(replies, 2, 36) == pytest.approx(len(set(grams)) / expected)
        assert distinct_n(replies, 2) <= ead(replies, 2, 36) + 1e-12


@pytest.mark.parametrize(("s", "score"), [(0.5, 1.754765), (0.9, 1.219590)])
def test_vendi_known_values_of_two(s: float, score: float) -> None:
    kernel = [[1, s], [s, 1]]
    assert vendi(kernel) == pytest.approx(score, abs=1e-6)
    assert vendi(kernel, q=2) == pytest.approx(2 / (1 + s * s))
    assert vendi(kernel, q=1 + 1e-9) == pytest.approx(score, abs=1e-5)


def test_vendi_known_value_of_three() -> None:
    assert vendi([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]]) == pytest.approx(2.157300, abs=5e-7)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
def test_vendi_of_exact_matches_is_exp_entropy(labels: list[str]) -> None:
    assert vendi(exact_match(labels)) == pytest.approx(math.exp(answer_entropy(labels)))
    collisions = sum(n * n for n in Counter(labels).values()) / len(labels) ** 2
    assert vendi(exact_match(labels), q=2) == pytest.approx(1 / collisions)


@settings(max_examples=30)
@given(texts)
def test_vendi_of_texts(found: list[str]) -> None:
    kernel = trigram_kernel(found)
    score = vendi(kernel)
    assert kernel == pytest.approx(kernel.T)
    assert np.linalg.eigvalsh(kernel).min() > -1e-9
    assert 1 - 1e-9 <= score <= len(set(found)) + 1e-6
    assert vendi(trigram_kernel(found * 2)) == pytest.approx(score, rel=1e-6)
    assert vendi(trigram_kernel(found[::-1])) == pytest.approx(score, rel=1e-9)
    assert vendi(kernel, q=2) <= score + 1e-9


def test_trigram_kernel_known_values() -> None:
    kernel = trigram_kernel(["abcd", "abcx", "zz", "zz", "", "abcabc"])
    assert kernel[0, 1] == pytest.approx(1 / 2)  # abc, bcd against abc, bcx
    assert kernel[0, 5] == pytest.approx(2 / math.sqrt(2 * 6))  # abc twice, bca, cab
    assert kernel[2, 3] == pytest.approx(1.0)
    assert kernel[4, :4] == pytest.approx([0, 0, 0, 0])
    assert (np.diag(kernel) == 1).all()


def test_compression_shows_repetition_at_equal_bytes() -> None:
    same = ["take the first number and add the second"] * 12
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz ")
    varied = ["".join(rng.choice(letters, 40)) for _ in range(12)]
    size = min(len("\n".join(x).encode()) for x in (same, varied))
    assert compression_ratio(same, size) > 5 > 2 > compression_ratio(varied, size)
    raw = "\n".join(varied).encode()
    assert compression_ratio(varied) == len(raw) / len(zlib.compress(raw, 9))
    assert compression_ratio(same * 4) > compression_ratio(same)
    assert compression_ratio(same * 4, size) == compression_ratio(same, size)


def test_compression_takes_any_text() -> None:
    assert compression_ratio(["\ud800 é", "日本"]) > 0
    with pytest.raises(ValueError, match="0 bytes cannot be cut"):
        compression_ratio([])
    for limit in (0, 9):
        with pytest.raises(ValueError, match=f"cannot be cut to {limit}"):
            compression_ratio(["abcd", "abc"], limit)


def test_forking_share_of_ten_tokens() -> None:
    base = [0.001, 0.002, 0.004, 0.008, 0.01, 0.3, 0.5, 0.672, 1.1, 2.0]
    threshold = forking_threshold(base, 0.7)
    assert threshold == 0.5
    assert forking_share(base, threshold) == pytest.approx(0.3)
    assert forking_share(base, forking_threshold(base)) == pytest.approx(0.2)


@given(st.lists(st.floats(0, 5), min_size=1, max_size=40), st.floats(0, 1))
def test_threshold_leaves_at_most_the_rest_of_the_base_above(h: list[float], share: float) -> None:
    above = forking_share(h, forking_threshold(h, share))
    assert above <= 1 - share + 1e-9


def test_unusable_input_raises() -> None:
    with pytest.raises(ValueError, match="tokenizer's size"):
        ead(["ab"], 1, 1)
    with pytest.raises(ValueError, match="at least 1 unit"):
        ead(["ab"], 0, 10)
    for kernel in ([], [[1, 0]], [[2, 0], [0, 2]], [1.0]):
        with pytest.raises(ValueError, match="square kernel"):
            vendi(kernel)
    for q in (0.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="positive and finite"):
            vendi([[1.0]], q)
    with pytest.raises(ValueError, match="at least one entropy"):
        forking_share([], 0.5)
    with pytest.raises(ValueError, match="entropies and a share"):
        forking_threshold([0.1], 80)


def test_uniform_modes_reach_the_ceiling() -> None:
    assert vendi(np.eye(8)) == pytest.approx(8.0)
    assert math.exp(entropy([1] * 8)) == pytest.approx(8.0)
