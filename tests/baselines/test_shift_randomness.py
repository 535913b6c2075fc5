"""Entropies of what is sampled: by hand, by brute force, and by counting what the sampler draws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from baselines.shift.randomness import Reply, mean_entropy, reply_entropies, sampling_entropy
from tfgrpo.llm.inprocess.draw import Wanted, draw

VOCABULARY = 11


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
        initializer_range=0.5, pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).double().eval()


@pytest.fixture(scope="module")
def replies() -> list[Reply]:
    draw = torch.Generator().manual_seed(0)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(VOCABULARY, (length,), generator=draw).tolist())

    return [(ids(a), ids(b)) for a, b in ((3, 4), (12, 1), (1, 7), (5, 12), (20, 3))]


def by_hand(z: list[float], temperature: float, top_p: float) -> float:
    """The same in plain Python: the likeliest tokens until their mass reaches top_p."""
    top = max(z)
    weights = sorted((math.exp((x - top) / temperature) for x in z), reverse=True)
    total = math.fsum(weights)
    kept: list[float] = []
    for weight in weights:
        if kept and math.fsum(kept) >= top_p * total:
            break
        kept.append(weight)
    mass = math.fsum(kept)
    return -math.fsum(w / mass * math.log(w / mass) for w in kept if w > 0)


@pytest.mark.parametrize(
    ("temperature", "top_p", "nats"),
    [
        (1.0, 1.0, 1.142120),
        (0.5, 1.0, 0.810328),  # (25, 9, 2.25, 0.25) / 36.5
        (1.0, 0.7, 0.661563),  # (5, 3) / 8
        (1.0, 0.4, 0.0),
    ],
)
def test_golden_values(temperature: float, top_p: float, nats: float) -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log()
    assert sampling_entropy(logits, temperature, top_p).item() == pytest.approx(nats, abs=1e-6)


@given(
    st.lists(st.floats(-8, 8), min_size=2, max_size=9),
    st.floats(0.2, 3),
    st.floats(0.05, 1).map(lambda p: round(p, 3) + 1e-7 if p < 0.99 else 1.0),
)
def test_it_is_the_entropy_by_hand(z: list[float], temperature: float, top_p: float) -> None:
    found = sampling_entropy(torch.tensor([z], dtype=torch.float64), temperature, top_p)
    assert found.item() == pytest.approx(by_hand(z, temperature, top_p), abs=1e-9)


@pytest.mark.parametrize(("temperature", "top_p"), [(0.6, 1.0), (1.7, 1.0), (1.3, 0.8)])
def test_it_is_the_entropy_of_what_the_sampler_draws(temperature: float, top_p: float) -> None:
    """Every 1 / 20000 of the unit interval draws once, so counts are the probabilities."""
    rows = 20_000
    logits = torch.tensor([2.0, 1.5, 0.0, -0.5, -3.0])
    drawn = draw(
        logits.expand(rows, -1),
        (torch.arange(rows, dtype=torch.float64) + 0.5) / rows,
        torch.full((rows,), temperature),
        torch.full((rows,), top_p, dtype=torch.float64),
        Wanted(sampled=True, nucleus=top_p < 1, detail=True),
    )
    shares = drawn.tokens.bincount(minlength=5) / rows
    counted = -torch.xlogy(shares, shares).sum().item()
    found = sampling_entropy(logits[None], temperature, top_p).item()
    assert found == pytest.approx(counted, abs=1e-3)
    # The sampler records the entropy at temperature 1, which is another one.
    assert drawn.entropies is not None
    assert abs(drawn.entropies[0].item() - found) > 0.05


@torch.no_grad()
def test_every_token_is_as_by_one_unpadded_pass(model: Any, replies: list[Reply]) -> None:
    found = reply_entropies(model, replies, 1.4, 0.9)
    for entropies, (prompt, reply) in zip(found, replies, strict=True):
        expected = []
        for t in range(len(reply)):
            before = torch.tensor([prompt + reply[:t]])
            z = model(input_ids=before, use_cache=False).logits[0, -1].tolist()
            expected.append(by_hand(z, 1.4, 0.9))
        assert entropies.tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("micro_tokens", "cells"), [(1, 1), (30, 3 * VOCABULARY)])
def test_neither_batches_nor_chunks_nor_order_count(
    model: Any, replies: list[Reply], micro_tokens: int, cells: int
) -> None:
    whole = reply_entropies(model, replies, 0.8)
    parts = reply_entropies(model, replies[::-1], 0.8, 1.0, micro_tokens, cells)
    for a, b in zip(whole, parts[::-1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_the_mean_is_over_tokens_not_over_replies(model: Any, replies: list[Reply]) -> None:
    every = [h for row in reply_entropies(model, replies, 1.0) for h in row.tolist()]
    assert len(every) == 27
    assert mean_entropy(model, replies, 1.0) == pytest.approx(math.fsum(every) / 27)
