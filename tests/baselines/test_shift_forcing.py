"""Divergences of replies against brute force: one row, one token, the whole vocabulary."""

from __future__ import annotations

import math
from copy import deepcopy
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from baselines.shift.forcing import FIGURES, Told, shifts, token_shift

VOCABULARY = 11
EXACT = {"rtol": 1e-9, "atol": 1e-11}
"""In float64."""


def tiny(seed: int, vocabulary: int = VOCABULARY) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
        initializer_range=0.5, pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).double().eval()


def ids(seed: int, length: int) -> tuple[int, ...]:
    draw = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(VOCABULARY, (length,), generator=draw).tolist())


@pytest.fixture(scope="module")
def policy() -> Any:
    return tiny(0)


@pytest.fixture(scope="module")
def base() -> Any:
    return tiny(1)


@pytest.fixture(scope="module")
def replies() -> list[Told]:
    """Prompts and replies of many lengths, the base's prompt now longer and now shorter."""
    sizes = ((3, 9, 4), (12, 2, 1), (1, 1, 7), (5, 5, 12), (2, 20, 3), (20, 2, 9), (7, 1, 2))
    return [
        Told(ids(3 * i, a), ids(3 * i + 1, b), ids(3 * i + 2, n))
        for i, (a, b, n) in enumerate(sizes)
    ]


@torch.no_grad()
def next_token(model: Any, before: tuple[int, ...]) -> list[float]:
    """Log-probabilities of the next token by one unpadded pass, normalised in plain Python."""
    z = model(input_ids=torch.tensor([before]), use_cache=False).logits[0, -1].tolist()
    top = max(z)
    total = top + math.log(math.fsum(math.exp(x - top) for x in z))
    return [x - total for x in z]


def by_force(policy: Any, base: Any, told: Told) -> Tensor:
    columns = []
    for t, y in enumerate(told.reply):
        lp = next_token(policy, told.prompt + told.reply[:t])
        lq = next_token(base, told.base_prompt + told.reply[:t])
        columns.append(
            [
                lp[y],
                lq[y],
                math.fsum(math.exp(a) * (a - b) for a, b in zip(lp, lq, strict=True)),
                -math.fsum(math.exp(a) * a for a in lp),
                -math.fsum(math.exp(b) * b for b in lq),
            ]
        )
    return torch.tensor(columns, dtype=torch.float64).T


def test_every_token_is_as_by_brute_force(policy: Any, base: Any, replies: list[Told]) -> None:
    for found, told in zip(shifts(policy, base, replies), replies, strict=True):
        assert found.shape == (len(FIGURES), len(told.reply))
        torch.testing.assert_close(found, by_force(policy, base, told), **EXACT)


@pytest.mark.parametrize("micro_tokens", [1, 40, 10_000])
@pytest.mark.parametrize("cells", [1, 5 * VOCABULARY, 1 << 20])
def test_neither_batches_nor_chunks_nor_padding_nor_order_count(
    policy: Any, base: Any, replies: list[Told], micro_tokens: int, cells: int
) -> None:
    alone = [shifts(policy, base, [told])[0] for told in replies]
    turned = shifts(policy, base, replies[::-1], micro_tokens=micro_tokens, cells=cells)
    for a, b in zip(alone, turned[::-1], strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_a_policy_that_is_the_base_has_not_moved(policy: Any, replies: list[Told]) -> None:
    same = [Told(told.prompt, told.prompt, told.reply) for told in replies]
    for figures in shifts(policy, policy, same):
        assert (figures[2] == 0).all()
        assert torch.equal(figures[0], figures[1])
    for figures in shifts(policy, deepcopy(policy), same):
        assert figures[2].abs().max() < 1e-12


def test_another_prompt_moves_the_same_weights(policy: Any, replies: list[Told]) -> None:
    moved = [f for f, told in zip(shifts(policy, policy, replies), replies, strict=True)
             if told.prompt != told.base_prompt]  # fmt: skip
    assert len(moved) > 5
    assert all((figures[2] > 1e-6).all() for figures in moved)


@pytest.mark.parametrize("exact", [True, False])
def test_summed_over_a_reply_it_is_the_divergence_of_replies(exact: bool) -> None:
    """sum_y p(y) sum_t KL_t = sum_y p(y) log p(y)/q(y) over all replies that end or are cut."""
    vocabulary, end, longest = 4, 0, 3
    policy, base = tiny(2, vocabulary), tiny(3, vocabulary)
    words = [
        word
        for n in range(1, longest + 1)
        for word in product(range(vocabulary), repeat=n)
        if end not in word[:-1] and (word[-1] == end or n == longest)
    ]
    found = shifts(policy, base, [Told((1, 2), (3,), word) for word in words], exact)
    chance = [math.exp(f[0].sum()) for f in found]
    assert math.fsum(chance) == pytest.approx(1.0, abs=1e-12)
    divergence = math.fsum(
        p * float(f[0].sum() - f[1].sum()) for p, f in zip(chance, found, strict=True)
    )
    by_token = math.fsum(p * float(f[2].sum()) for p, f in zip(chance, found, strict=True))
    assert divergence > 0.1
    assert by_token == pytest.approx(divergence, rel=1e-9)


# one token --------------------------------------------------------------------------------------

P, Q = (0.6, 0.3, 0.1), (0.5, 0.2, 0.3)


def logs(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64).log()


def test_a_divergence_by_hand() -> None:
    lp, lq, kl, H, H_base = token_shift(logs(*P) + 5, logs(*Q) - 3, torch.tensor([2]))[:, 0]
    assert (float(lp), float(lq)) == pytest.approx((math.log(0.1), math.log(0.3)))
    assert float(kl) == pytest.approx(0.121171, abs=1e-6)
    assert float(H) == pytest.approx(-sum(p * math.log(p) for p in P))
    assert float(H_base) == pytest.approx(-sum(q * math.log(q) for q in Q))


numbers = st.floats(-8, 8, allow_nan=False)
rows = st.integers(2, 9).flatmap(
    lambda v: st.tuples(
        st.lists(numbers, min_size=v, max_size=v), st.lists(numbers, min_size=v, max_size=v)
    )
)


@settings(max_examples=40)
@given(rows)
def test_k3_equals_it_in_the_mean_and_is_never_negative(row: tuple[list[float], ...]) -> None:
    p, q = (torch.tensor([z], dtype=torch.float64) for z in row)
    every = torch.arange(p.shape[1])
    wide_p, wide_q = (z.expand(len(every), -1) for z in (p, q))
    k3 = token_shift(wide_p, wide_q, every, exact=False)
    kl = token_shift(wide_p, wide_q, every)
    assert (k3[2] >= -1e-12).all()
    assert (kl[2] >= -1e-12).all()
    assert float((k3[0].exp() * k3[2]).sum()) == pytest.approx(float(kl[2, 0]), rel=1e-6, abs=1e-9)
    torch.testing.assert_close(k3[[0, 1, 3, 4]], kl[[0, 1, 3, 4]])


def test_tokens_that_cannot_be_drawn_add_nothing() -> None:
    ruled_out = torch.tensor([[1.0, 0.0, -torch.inf]])
    figures = token_shift(ruled_out, ruled_out.clone(), torch.tensor([0]))
    assert figures.isfinite().all()
    assert float(figures[2]) == 0
    spread = token_shift(ruled_out, torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([0]))
    shorter = token_shift(ruled_out[:, :2], torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    mass = math.log(math.e + 1 + math.e**2) - math.log(math.e + 1)
    assert float(spread[2]) == pytest.approx(float(shorter[2]) + mass, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_lifted_first(dtype: torch.dtype) -> None:
    z = torch.tensor([[2.0, 1.1, 0.3], [0.0, -4.0, 4.0]]).to(dtype)
    y = torch.tensor([1, 2])
    found = token_shift(z, z.flip(0), y)
    assert found.dtype == torch.float32
    assert torch.equal(found, token_shift(z.float(), z.float().flip(0), y))
