"""Rows that come and go keep their own past, in slots that fit who is there."""

from __future__ import annotations

from itertools import count

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tfgrpo.llm.inprocess.rows import GRAIN, RowCache

MAX_ROWS = 12


class Driven:
    """A cache of one layer driven as the engine drives it, beside the plain lists it stands for."""

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self.cache = RowCache(1, max_rows, torch.device("cpu"))
        self.layer = self.cache.slot_layers[0]
        self.pasts: list[list[float]] = []
        self.fresh = count(1.0)

    def join(self, lengths: list[int]) -> None:
        cache, width = self.cache, max(lengths)
        cache.make_room(cache.count + len(lengths), width)
        bank = torch.tensor([[next(self.fresh) for _ in range(width)] for _ in lengths])
        states = bank[:, None, :, None]
        cache.append(((states, -states),), list(range(len(lengths))), lengths)
        cache.settle()
        rows = zip(bank.tolist(), lengths, strict=True)
        self.pasts += [row[width - length :] for row, length in rows]

    def write(self) -> None:
        cache = self.cache
        coming = torch.tensor([next(self.fresh) for _ in self.pasts])[:, None, None, None]
        seen = cache.mask()
        keys, values = cache.update(coming, -coming, 0)
        assert torch.equal(keys, -values)
        for past, new in zip(self.pasts, coming.flatten().tolist(), strict=True):
            past.append(new)
        self.must_agree(keys, seen)
        cache.advance()
        cache.make_room(cache.count, 0)

    def drop(self, rows: list[int]) -> None:
        for source, target in self.cache.drop(rows):
            self.pasts[target] = self.pasts[source]
        del self.pasts[self.cache.count :]
        self.cache.settle()

    def must_agree(self, keys: Tensor, seen: Tensor) -> None:
        found = [row[mask].tolist() for row, mask in zip(keys[:, 0, :, 0], seen, strict=True)]
        assert found == self.pasts


moves = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.lists(st.integers(1, 90), min_size=1, max_size=5)),
        st.tuples(st.just("write"), st.integers(1, 60)),
        st.tuples(st.just("drop"), st.sets(st.integers(0, MAX_ROWS - 1), min_size=1)),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(moves)
def test_every_row_reads_its_own_past_and_nothing_else(plan: list[tuple[str, object]]) -> None:
    driven = Driven()
    for name, what in plan:
        living = len(driven.pasts)
        if name == "join" and isinstance(what, list) and living + len(what) <= MAX_ROWS:
            driven.join(what)
        elif name == "write" and isinstance(what, int) and living:
            for _ in range(what):
                driven.write()
        elif name == "drop" and isinstance(what, set):
            driven.drop(sorted(row for row in what if row < living))
    if driven.pasts:
        driven.write()


def test_the_last_long_rows_of_a_batch_do_not_keep_the_slots_of_all() -> None:
    driven = Driven(64)
    driven.join([20] * 64)
    for _ in range(40):
        driven.write()
    driven.drop(list(range(3, 64)))
    for _ in range(200):
        driven.write()
    rows, _, columns, _ = driven.layer.keys.shape
    assert rows == 3
    assert 260 < columns <= 260 * 5 / 4 + 2 * GRAIN


def test_slots_do_not_grow_while_rows_of_one_length_take_turns() -> None:
    driven = Driven(4)
    sizes = set()
    for _ in range(30):
        driven.join([10] * 4)
        for _ in range(50):
            driven.write()
        sizes.add(driven.layer.keys.shape[2])
        driven.drop([0, 1, 2, 3])
    assert max(sizes) <= 60 * 5 / 4 + 2 * GRAIN
