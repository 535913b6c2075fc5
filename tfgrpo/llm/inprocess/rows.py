"""A key-value cache whose rows come and go: the memory of continuous batching.

Rows of like length stand together on a shelf, whose slots are as wide as its longest row and are
read whole: decoding is bound by memory, which a gap between two slots slows as much as its bytes
would. Rows are numbered over all shelves, the longest first; those that join come last. A shelf's
rows all end at, and write at, its column `now`. Keys carry their own rotary positions, so columns
need not equal positions. What all rows share sits in the trunk instead of on shelves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from tfgrpo.llm.inprocess.trunk import Span, cut, join

SLACK = 16
"""Columns that a shelf has to spare, more if it is wide: once one has used them up, all rows are
arranged anew, which costs about as much as a step."""
FEWEST = 32
"""Rows below which a shelf of their own does not pay."""


@dataclass(slots=True)
class Shelf:
    """Rows `first` up to `first + count`, in slots for `rows` rows of `capacity` columns."""

    first: int
    count: int
    rows: int
    capacity: int
    now: int

    @property
    def span(self) -> slice:
        return slice(self.first, self.first + self.count)


class RowLayer(CacheLayerMixin):
    """Keys and values of one layer, `(rows, kv_heads, capacity, head_dim)` for each shelf."""

    is_sliding = False

    def __init__(self, shelves: list[Shelf]) -> None:
        super().__init__()
        self.shelves = shelves
        self.slots: list[tuple[Tensor, Tensor]] = []

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        # Zeros, not `empty`: a masked column still meets a zero weight, and 0 * NaN is NaN.
        self.slots = [
            (
                key_states.new_zeros(s.rows, key_states.shape[1], s.capacity, key_states.shape[3]),
                value_states.new_zeros(
                    s.rows, value_states.shape[1], s.capacity, value_states.shape[3]
                ),
            )
            for s in self.shelves
        ]
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write a column; what it returns is all there is only where there is a single shelf."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        for shelf, (keys, values) in zip(self.shelves, self.slots, strict=True):
            keys[: shelf.count, :, shelf.now] = key_states[shelf.span, :, 0]
            values[: shelf.count, :, shelf.now] = value_states[shelf.span, :, 0]
        if len(self.shelves) > 1:
            return key_states, value_states
        keys, values = self.slots[0]
        (shelf,) = self.shelves
        return (
            keys[: shelf.count, :, : shelf.now + 1],
            values[: shelf.count, :, : shelf.now + 1],
        )

    def release(self) -> None:
        self.slots = []
        self.is_initialized = False

    def get_seq_length(self) -> int:
        return self.shelves[0].now if self.shelves else 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):
    """The shelves of all layers, at most `most` of them, and the trunk that the rows share.

    `lengths` `(max_rows,)`: how many own columns each living row has. Methods that return an order
    have renumbered the rows: place i is now taken by the row that had been `order[i]`.
    """

    def __init__(self, layers: int, max_rows: int, device: torch.device, most: int = 1) -> None:
        self.shelves: list[Shelf] = []
        self.slot_layers = [RowLayer(self.shelves) for _ in range(layers)]
        super().__init__(layers=list(self.slot_layers))
        self.lengths = torch.zeros(max_rows, dtype=torch.long, device=device)
        self.count = 0
        self.max_rows = max_rows
        self.most = most
        self.trunk: Span = ()
        self.trunk_length = 0
        self._seen: list[Tensor] = []

    def mask(self) -> Tensor:
        """Which columns of a single shelf each row sees in the coming step: bool `(count, K)`."""
        (shelf,) = self.shelves
        return self._sees(shelf, shelf.now + 1)

    def look(self) -> None:
        """Settle, for the coming step and all layers, which columns each row sees."""
        self._seen = [self._sees(shelf, shelf.capacity) for shelf in self.shelves]

    def _sees(self, shelf: Shelf, columns: int) -> Tensor:
        at = torch.arange(columns, device=self.lengths.device)
        return (at >= shelf.now - self.lengths[shelf.span, None]) & (at <= shelf.now)

    def read(self, layer: int) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Rows, keys, values and the mask `(count, capacity)` of each shelf, as `look` saw it."""
        slots = self.slot_layers[layer].slots
        for shelf, (keys, values), seen in zip(self.shelves, slots, self._seen, strict=True):
            if shelf.count:
                yield shelf.span, keys[: shelf.count], values[: shelf.count], seen

    def clear(self) -> None:
        """Forget all rows and give their memory back."""
        for layer in self.slot_layers:
            layer.release()
        self.shelves.clear()
        self.count = 0
        self.trunk, self.trunk_length = (), 0

    def advance(self) -> None:
        """End a step: each row is a column longer."""
        self.lengths[: self.count] += 1
        for shelf in self.shelves:
            shelf.now += 1

    def make_room(self, coming: int = 0, left: int = 0, more: int = 0) -> list[int] | None:
        """Have room for a column in every row, for `coming` rows of up to `left` columns, and for
        `more` columns before the first of every row; the new order if that takes one.
        """
        last = self.shelves[-1] if self.shelves else None
        if (
            not more
            and last is not None
            and all(shelf.now < shelf.capacity for shelf in self.shelves)
            and (not coming or (last.count + coming <= last.rows and left <= last.now))
        ):
            return None
        return self._arrange(coming, left, more)

    def _arrange(self, coming: int, left: int, more: int) -> list[int]:
        """Sort the rows onto shelves that fit them; the last has room for those that will join."""
        sizes, order = self.lengths[: self.count].sort(descending=True, stable=True)
        longest, places = sizes.tolist(), order.tolist()
        parts = max(1, min(self.most, self.count // FEWEST))
        bounds = [self.count * part // parts for part in range(parts + 1)]
        before = list(self.shelves)
        self.shelves.clear()
        for first, stop in pairwise(bounds):
            now = (longest[first] if stop > first else 0) + more
            self.shelves.append(Shelf(first, stop - first, stop - first, 0, now))
        last = self.shelves[-1]
        last.now = max(last.now, left)
        for shelf in self.shelves:
            shelf.capacity = shelf.now + max(SLACK, shelf.now // SLACK)
        last.rows = min(self.max_rows, last.count + max(coming, self.count // 2))
        for layer in self.slot_layers:
            if layer.is_initialized:
                kept = layer.slots
                layer.lazy_initialization(*kept[0])
                _carry(before, kept, self.shelves, layer.slots, places)
        self.lengths[: self.count] = sizes
        return places

    def append(self, bank: Span, picks: list[int], lengths: list[int]) -> slice:
        """Add one row per entry of `picks`, holding the last `lengths` columns of that bank row.

        A bank is right-aligned, `(N, kv_heads, L, head_dim)` per layer. Returns the new rows.
        """
        device, shelf = self.lengths.device, self.shelves[-1]
        own = slice(shelf.count, shelf.count + len(picks))
        width, at = max(lengths), torch.tensor(picks, device=device)
        if width:
            for layer, source in zip(self.slot_layers, bank, strict=True):
                if not layer.is_initialized:
                    layer.lazy_initialization(*source)
                for slots, states in zip(layer.slots[-1], source, strict=True):
                    past = states[:, :, states.shape[2] - width :].index_select(0, at)
                    slots[own, :, shelf.now - width : shelf.now] = past
        fresh = slice(self.count, self.count + len(picks))
        self.lengths[fresh] = torch.tensor(lengths, device=device)
        self.count, shelf.count = fresh.stop, own.stop
        return fresh

    def prepend(self, rows: slice, past: Span) -> None:
        """Put the same tokens before the first column of each of `rows`."""
        length = past[0][0].shape[2]
        steps = torch.arange(length, device=self.lengths.device)
        for number, shelf in enumerate(self.shelves):
            start, stop = max(rows.start, shelf.first), min(rows.stop, shelf.span.stop)
            if start >= stop:
                continue
            own = slice(start - shelf.first, stop - shelf.first)
            at = (shelf.now - self.lengths[start:stop, None] - length + steps)[:, None, :, None]
            for layer, source in zip(self.slot_layers, past, strict=True):
                if not layer.is_initialized:
                    layer.lazy_initialization(*source)
                for slots, states in zip(layer.slots[number], source, strict=True):
                    into = at.expand(-1, states.shape[1], -1, states.shape[3])
                    slots[own].scatter_(2, into, states.expand(stop - start, -1, -1, -1))
        self.lengths[rows] += length

    def shrink_trunk(self, length: int) -> None:
        """Hand all but the first `length` trunk tokens back to the rows that shared them.

        There must be room for them.
        """
        tail = cut(self.trunk, length, self.trunk_length)
        if self.count:
            self.prepend(slice(0, self.count), tail)
        self.trunk, self.trunk_length = cut(self.trunk, 0, length), length

    def grow_trunk(self, more: Span, length: int) -> None:
        """Lengthen the trunk to `length` by tokens with which every living row begins."""
        self.lengths[: self.count] -= length - self.trunk_length
        self.trunk, self.trunk_length = join(self.trunk, more), length

    def drop(self, ended: list[int]) -> list[int]:
        """Remove rows, and close the ranks of each shelf; the new order of those that are left."""
        gone, order = set(ended), []
        for number, shelf in enumerate(self.shelves):
            alive = [row not in gone for row in range(shelf.first, shelf.span.stop)]
            left = sum(alive)
            holes = [own for own in range(left) if not alive[own]]
            movers = [own for own in range(left, shelf.count) if alive[own]]
            if movers:
                for layer in self.slot_layers:
                    for slots in layer.slots[number]:
                        slots[holes] = slots[movers]
            places = list(range(left))
            for hole, mover in zip(holes, movers, strict=True):
                places[hole] = mover
            order += [shelf.first + own for own in places]
            shelf.first, shelf.count = len(order) - left, left
        self.count = len(order)
        self.lengths[: self.count] = self.lengths[order]
        return order


def _carry(
    before: list[Shelf],
    kept: list[tuple[Tensor, Tensor]],
    after: list[Shelf],
    slots: list[tuple[Tensor, Tensor]],
    places: list[int],
) -> None:
    """Copy rows from shelf to shelf: place i of those after is row `places[i]` of those before."""
    for target, into in zip(after, slots, strict=True):
        rows = places[target.span]
        for source, out_of in zip(before, kept, strict=True):
            end = source.span.stop
            moved = [
                (i, row - source.first) for i, row in enumerate(rows) if source.first <= row < end
            ]
            if not moved:
                continue
            to, from_ = map(list, zip(*moved, strict=True))
            width = min(source.now, target.now)
            for new, old in zip(into, out_of, strict=True):
                new[to, :, target.now - width : target.now] = old[
                    from_, :, source.now - width : source.now
                ]
