from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baselines.batch import TokenBatch, padded
from tests.baselines.objective.cases import random_batch

TWO_DIMENSIONAL = (
    "targets", "mask", "logp_rollout", "entropy_rollout", "planning", "logp_old", "logp_ref"
)  # fmt: skip


def test_lengths_are_of_the_reply_and_sizes_of_all() -> None:
    batch = random_batch()
    assert batch.lengths.tolist() == [sum(row) for row in batch.mask.tolist()]
    assert torch.equal(batch.sizes, batch.prompt + batch.lengths)
    assert len(batch) == 8


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8))
def test_rows_are_the_rows_cut_to_what_they_need(chosen: list[int]) -> None:
    batch, index = random_batch(), torch.tensor(chosen)
    part = batch.rows(index)
    long, wide = int(batch.lengths[index].max()), int(batch.sizes[index].max())
    assert part.mask.shape == (len(chosen), long)
    assert torch.equal(part.ids, batch.ids[index][:, :wide])
    for name in TWO_DIMENSIONAL:
        assert torch.equal(getattr(part, name), getattr(batch, name)[index][:, :long])
    for name in ("prompt", "group", "rewards", "correct", "advantages"):
        assert torch.equal(getattr(part, name), getattr(batch, name)[index])
    assert torch.equal(part.lengths, batch.lengths[index])


def test_all_rows_are_the_batch() -> None:
    batch = random_batch()
    whole = batch.rows(torch.arange(8))
    for field in fields(batch):
        value = getattr(batch, field.name)
        assert value is None or torch.equal(getattr(whole, field.name), value)


def test_no_rows_are_an_empty_batch() -> None:
    part = random_batch().rows(torch.tensor([], dtype=torch.long))
    assert len(part) == 0
    assert part.mask.shape == (0, 0)
    assert part.lengths.tolist() == []


def test_what_a_critic_adds_is_cut_as_well() -> None:
    batch = random_batch()
    table = torch.arange(48.0).view(8, 6)
    batch = replace(batch, advantages=table, values=table + 1, returns=table + 2)
    index = (batch.lengths < 6).nonzero()[:, 0]
    part = batch.rows(index)
    width = part.mask.shape[1]
    assert width < 6
    assert torch.equal(part.advantages, table[index, :width])
    assert part.values is not None
    assert part.returns is not None
    assert torch.equal(part.returns - part.values, torch.ones(len(index), width))


def test_what_is_not_there_stays_so() -> None:
    batch = replace(random_batch(on_policy=True), planning=None)
    for other in (batch.rows(torch.tensor([0, 2])), batch.to(torch.device("cpu"))):
        assert other.logp_old is None
        assert other.planning is None
        assert other.values is None


def test_a_batch_moves_as_a_whole() -> None:
    batch = random_batch().to(torch.device("meta"))
    moved = [getattr(batch, f.name) for f in fields(TokenBatch)]
    assert {value.device.type for value in moved if value is not None} == {"meta"}


@pytest.mark.parametrize(
    ("rows", "width", "expected"),
    [
        ([[1, 2], [3]], 0, [[1, 2], [3, 0]]),
        ([[1, 2], [3]], 4, [[1, 2, 0, 0], [3, 0, 0, 0]]),
        ([[1, 2, 3], []], 2, [[1, 2, 3], [0, 0, 0]]),
        ([[], []], 0, [[], []]),
    ],
)
def test_padded(rows: list[list[float]], width: int, expected: list[list[float]]) -> None:
    found = padded(rows, torch.int64, width)
    assert found.dtype == torch.int64
    assert found.tolist() == expected


def test_no_rows_padded_are_an_empty_table() -> None:
    assert padded([], torch.float32).shape == (0, 0)
