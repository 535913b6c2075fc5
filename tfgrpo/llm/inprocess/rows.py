"""A key-value cache whose rows come and go: the memory of continuous batching.

All rows write at one column, `now`; a row that joins has its past copied so that it ends there, and
`starts` says where it begins. Keys carry their own rotary positions, so columns need not equal
positions. Rows 0..count-1 are alive; what they all share sits in the trunk instead of in columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from tfgrpo.llm.inprocess.trunk import Span, cut, join

GRAIN = 32
"""Columns by which slots grow at least."""


class Columns:
    """Which part of the slots is in use; one object that all layers read."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.count = 0
        self.low = 0
        self.now = 0
        self.rows = 0
        self.capacity = 0


class RowLayer(CacheLayerMixin):
    """Slots `(rows, kv_heads, capacity, head_dim)` of one layer."""

    is_sliding = False

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.columns = columns

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        shape = self.columns.rows, key_states.shape[1], self.columns.capacity
        # Zeros, not `empty`: a masked column still meets a zero weight, and 0 * NaN is NaN.
        self.keys = key_states.new_zeros(*shape, key_states.shape[3])
        self.values = value_states.new_zeros(*shape, value_states.shape[3])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        columns, stop = self.columns, self.columns.now + key_states.shape[2]
        self.keys[: columns.count, :, columns.now : stop] = key_states
        self.values[: columns.count, :, columns.now : stop] = value_states
        return (
            self.keys[: columns.count, :, columns.low : stop],
            self.values[: columns.count, :, columns.low : stop],
        )

    def release(self) -> None:
        del self.keys, self.values
        self.is_initialized = False

    def slots(self) -> tuple[Tensor, Tensor]:
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.columns.now - self.columns.low

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):
    """The slots of all layers, and the trunk that the living rows share."""

    def __init__(self, layers: int, max_rows: int, device: torch.device) -> None:
        self.columns = Columns()
        self.slot_layers = [RowLayer(self.columns) for _ in range(layers)]
        super().__init__(layers=list(self.slot_layers))
        self.starts = torch.zeros(max_rows, dtype=torch.long, device=device)
        self.max_rows = max_rows
        self.trunk: Span = ()
        self.trunk_length = 0

    @property
    def count(self) -> int:
        return self.columns.count

    def mask(self) -> Tensor:
        """Which columns each row sees in the coming step: bool `(count, now - low + 1)`."""
        columns = self.columns
        at = torch.arange(columns.low, columns.now + 1, device=self.starts.device)
        return at >= self.starts[: columns.count, None]

    def clear(self) -> None:
        """Forget all rows and give their memory back."""
        for layer in self.slot_layers:
            if layer.is_initialized:
                layer.release()
        self.columns.reset()
        self.trunk, self.trunk_length = (), 0

    def settle(self) -> None:
        """Take up the leftmost start in use, so that no step attends further left."""
        columns = self.columns
        alive = self.starts[: columns.count]
        columns.low = int(alive.min()) if columns.count else columns.now

    def advance(self) -> None:
        self.columns.now += 1

    def make_room(self, rows: int, left: int) -> None:
        """Have slots for `rows` rows, `left` columns before `now`, and a column to write.

        Shifts the columns in use to the left while that frees a fifth of the capacity, so that
        shifts stay rare; else grows the capacity by a quarter, and lets go of rows that it no
        longer takes: the last of a batch are few and long.
        """
        columns = self.columns
        span = max(columns.now - columns.low, left)
        if rows <= columns.rows and left <= columns.now < columns.capacity:
            return
        roomy = span + span // 4 + GRAIN
        if roomy > columns.capacity:
            columns.capacity = -(-roomy // GRAIN) * GRAIN
            columns.rows = min(columns.rows, rows)
        if rows > columns.rows:
            columns.rows = min(self.max_rows, 1 << (rows - 1).bit_length())
        self._repack(span - (columns.now - columns.low))

    def _repack(self, offset: int) -> None:
        """Lay the living rows out from column `offset` on, in slots as `columns` wants them."""
        columns, used = self.columns, self.columns.now - self.columns.low
        wanted = columns.rows, columns.capacity
        for layer in self.slot_layers:
            if not layer.is_initialized:
                continue
            alive = [
                kept[: columns.count, :, columns.low : columns.now].clone()
                for kept in layer.slots()
            ]
            if wanted != (layer.keys.shape[0], layer.keys.shape[2]):
                layer.lazy_initialization(layer.keys, layer.values)
            for slots, kept in zip(layer.slots(), alive, strict=True):
                slots[: columns.count, :, offset : offset + used] = kept
        self.starts[: columns.count] += offset - columns.low
        columns.low, columns.now = offset, offset + used

    def append(self, bank: Span, picks: list[int], lengths: list[int]) -> slice:
        """Add one row per entry of `picks`, holding the last `lengths` columns of that bank row.

        A bank is right-aligned, `(N, kv_heads, L, head_dim)` per layer. Returns the new rows.
        """
        columns, device = self.columns, self.starts.device
        fresh = slice(columns.count, columns.count + len(picks))
        width, at = max(lengths), torch.tensor(picks, device=device)
        if width:
            for layer, source in zip(self.slot_layers, bank, strict=True):
                if not layer.is_initialized:
                    layer.lazy_initialization(*source)
                for slots, states in zip(layer.slots(), source, strict=True):
                    past = states[:, :, states.shape[2] - width :].index_select(0, at)
                    slots[fresh, :, columns.now - width : columns.now] = past
        self.starts[fresh] = columns.now - torch.tensor(lengths, device=device)
        columns.count = fresh.stop
        return fresh

    def prepend(self, rows: slice, past: Span) -> None:
        """Put the same tokens before the first column of each of `rows`."""
        length = past[0][0].shape[2]
        starts = self.starts[rows]
        at = (starts[:, None] - length + torch.arange(length, device=starts.device))[:, None, :]
        for layer, source in zip(self.slot_layers, past, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(*source)
            for slots, states in zip(layer.slots(), source, strict=True):
                into = at[..., None].expand(-1, states.shape[1], -1, states.shape[3])
                slots[rows].scatter_(2, into, states.expand(starts.shape[0], -1, -1, -1))
        starts -= length

    def shrink_trunk(self, length: int) -> None:
        """Hand all but the first `length` trunk tokens back to the rows that shared them."""
        tail = cut(self.trunk, length, self.trunk_length)
        if self.count:
            self.prepend(slice(0, self.count), tail)
        self.trunk, self.trunk_length = cut(self.trunk, 0, length), length

    def grow_trunk(self, more: Span, length: int) -> None:
        """Lengthen the trunk to `length` by tokens with which every living row begins."""
        self.starts[: self.count] += length - self.trunk_length
        self.trunk, self.trunk_length = join(self.trunk, more), length

    def drop(self, ended: list[int]) -> list[tuple[int, int]]:
        """Remove rows; return the moves `(from, to)` that keep the living ones at the front."""
        gone = set(ended)
        left = self.count - len(gone)
        holes = [row for row in ended if row < left]
        movers = [row for row in range(left, self.count) if row not in gone]
        if movers:
            low, now = self.columns.low, self.columns.now
            for layer in self.slot_layers:
                for slots in layer.slots():
                    slots[holes, :, low:now] = slots[movers, :, low:now]
            self.starts[holes] = self.starts[movers]
        self.columns.count = left
        return list(zip(movers, holes, strict=True))
