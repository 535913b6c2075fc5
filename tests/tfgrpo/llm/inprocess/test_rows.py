"""Rows that come and go keep their own past, on shelves that fit who is there."""

from __future__ import annotations

from itertools import count, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.llm.inprocess.rows import FEWEST, SLACK, RowCache

MAX_ROWS = 3 * FEWEST


class Driven:
    """A cache of one layer driven as the engine drives it, beside the plain lists it stands for."""

    def __init__(self, max_rows: int = MAX_ROWS, most: int = 3) -> None:
        self.cache = RowCache(1, max_rows, torch.device("cpu"), most)
        self.layer = self.cache.slot_layers[0]
        self.pasts: list[list[float]] = []
        self.fresh = count(1.0)

    def arrange(self, order: list[int] | None) -> None:
        if order is not None:
            self.pasts = [self.pasts[row] for row in order]

    def join(self, lengths: list[int]) -> None:
        cache, width = self.cache, max(lengths)
        self.arrange(cache.make_room(len(lengths), width))
        bank = torch.tensor([[next(self.fresh) for _ in range(width)] for _ in lengths])
        states = bank[:, None, :, None]
        fresh = cache.append(((states, -states),), list(range(len(lengths))), lengths)
        assert (fresh.start, fresh.stop) == (len(self.pasts), cache.count)
        rows = zip(bank.tolist(), lengths, strict=True)
        self.pasts += [row[width - length :] for row, length in rows]

    def write(self) -> None:
        cache = self.cache
        self.arrange(cache.make_room())
        coming = torch.tensor([next(self.fresh) for _ in self.pasts])[:, None, None, None]
        cache.look()
        plain = cache.mask() if len(cache.shelves) == 1 else None
        keys, values = cache.update(coming, -coming, 0)
        for past, new in zip(self.pasts, coming.flatten().tolist(), strict=True):
            past.append(new)
        found = []
        for _, own, other, seen in cache.read(0):
            assert own.is_contiguous()
            assert torch.equal(own, -other)
            found += [k[s].tolist() for k, s in zip(own[:, 0, :, 0], seen, strict=True)]
        assert found == self.pasts
        if plain is not None:  # what a model without shelves is given
            rows = zip(keys[:, 0, :, 0], plain, strict=True)
            assert [k[s].tolist() for k, s in rows] == self.pasts
            assert torch.equal(keys, -values)
        cache.advance()

    def drop(self, rows: list[int]) -> None:
        left = [past for row, past in enumerate(self.pasts) if row not in rows]
        self.arrange(self.cache.drop(rows))
        assert sorted(self.pasts) == sorted(left)

    def branch(self, length: int) -> None:
        """Give every row the same tokens before its first, as a trunk that is cut back does."""
        shared = torch.tensor([next(self.fresh) for _ in range(length)])
        states = shared[None, None, :, None]
        self.arrange(self.cache.make_room(more=length))
        self.cache.prepend(slice(0, self.cache.count), ((states, -states),))
        self.pasts = [shared.tolist() + past for past in self.pasts]


moves = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.lists(st.integers(1, 90), min_size=1, max_size=MAX_ROWS)),
        st.tuples(st.just("write"), st.integers(1, 2 * SLACK)),
        st.tuples(st.just("drop"), st.sets(st.integers(0, MAX_ROWS - 1), min_size=1)),
        st.tuples(st.just("branch"), st.integers(1, 40)),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(moves, st.integers(1, 4))
def test_every_row_reads_its_own_past_and_nothing_else(
    plan: list[tuple[str, object]], most: int
) -> None:
    driven = Driven(most=most)
    for name, what in plan:
        living = len(driven.pasts)
        if name == "join" and isinstance(what, list) and living < MAX_ROWS:
            driven.join(what[: MAX_ROWS - living])
        elif name == "write" and isinstance(what, int) and living:
            for _ in range(what):
                driven.write()
        elif name == "drop" and isinstance(what, set):
            driven.drop(sorted(row for row in what if row < living))
        elif name == "branch" and isinstance(what, int) and living:
            driven.branch(what)
    if driven.pasts:
        driven.write()


def test_long_rows_stand_apart_from_short_ones() -> None:
    driven = Driven(most=3)
    driven.join([200] * FEWEST)
    driven.join([5, 50] * FEWEST)
    for _ in range(SLACK + 1):
        driven.write()
    shelves = driven.cache.shelves
    assert [shelf.count for shelf in shelves] == [FEWEST] * 3
    longest = [200, 50, 5]
    for shelf, length in zip(shelves, longest, strict=True):
        assert length + SLACK <= shelf.capacity <= length + 2 * SLACK
    # Shorter ones join the last shelf, which has room for some more, and disturb nobody.
    kept = [slots[0].data_ptr() for slots in driven.layer.slots]
    driven.drop([0, 1, 40])
    driven.join([4, 7, 2])
    driven.write()
    assert [slots[0].data_ptr() for slots in driven.layer.slots] == kept
    assert all(a.first + a.count == b.first for a, b in pairwise(driven.cache.shelves))


def test_the_last_long_rows_of_a_batch_do_not_keep_the_slots_of_all() -> None:
    driven = Driven(64)
    driven.join([20] * 64)
    for _ in range(40):
        driven.write()
    driven.drop(list(range(3, 64)))
    for _ in range(200):
        driven.write()
    rows, _, columns, _ = driven.layer.slots[0][0].shape
    assert rows <= 4
    assert 260 <= columns <= 260 + SLACK


def test_a_single_shelf_is_all_that_a_model_without_shelves_may_have() -> None:
    driven = Driven(most=1)
    driven.join([200, 5] * FEWEST)
    driven.write()
    assert len(driven.cache.shelves) == 1
    driven = Driven(most=2)
    driven.join([200, 5] * FEWEST)
    for _ in range(SLACK + 1):
        driven.write()
    with pytest.raises(ValueError, match="unpack"):
        driven.cache.mask()
