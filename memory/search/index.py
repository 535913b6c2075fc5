"""Exact nearest neighbours among unit vectors.

`NumpyIndex` is short enough to be believed and is the oracle; `FaissIndex` gives the same hits
faster. Both rank by cosine in float64 and break ties by the smaller id, so that what is retrieved
never depends on the order of insertion, on the batch, or on the library.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

ROUNDING = 1e-5  # above any float32 error in a dot product of unit rows of a few thousand numbers
UNIT = 1e-4
LARGEST_BITMAP = 2**24  # ids; above it a set of ids takes less memory than a bit for each


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Neighbours of one query, best first: ids (m,) and cosines (m,), m = min(k, eligible)."""

    ids: I64
    scores: NDArray[np.float64]


class VectorIndex(Protocol):
    """Ids and their unit vectors of one space.

    `add` refuses an id that is there, `remove` returns how many were there. `search` takes queries
    (q, d) and returns one `Hits` per query; `allow` restricts it to these ids, inside the search,
    so that blocked ids never take a place among the k. `vectors` gives back what was added: those
    of the ids that are there, ascending, and their rows.
    """

    @property
    def kind(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def ids(self) -> I64: ...
    def __len__(self) -> int: ...
    def add(self, ids: Iterable[int], vectors: F32) -> None: ...
    def remove(self, ids: Iterable[int]) -> int: ...
    def search(self, queries: F32, k: int, allow: Iterable[int] | None = None) -> list[Hits]: ...
    def vectors(self, ids: Iterable[int]) -> tuple[I64, F32]: ...
    def to_bytes(self) -> bytes: ...
    @classmethod
    def from_bytes(cls, data: bytes, dim: int, count: int) -> Self: ...


class NumpyIndex:
    """Every cosine, then a sort: O(n d) for each query."""

    kind = "numpy"

    def __init__(self, dim: int) -> None:
        self._ids: I64 = np.zeros(0, dtype=np.int64)
        self._vectors: F32 = np.zeros((0, dim), dtype=np.float32)

    @property
    def dim(self) -> int:
        return int(self._vectors.shape[1])

    @property
    def ids(self) -> I64:
        return np.sort(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: Iterable[int], vectors: F32) -> None:
        new, rows = checked(ids, vectors, self.dim, self._ids)
        self._ids = np.concatenate([self._ids, new])
        self._vectors = np.concatenate([self._vectors, rows])

    def remove(self, ids: Iterable[int]) -> int:
        gone = np.isin(self._ids, as_ids(ids))
        self._ids, self._vectors = self._ids[~gone], self._vectors[~gone]
        return int(gone.sum())

    def search(self, queries: F32, k: int, allow: Iterable[int] | None = None) -> list[Hits]:
        rows = checked_queries(queries, k, self.dim)
        kept = slice(None) if allow is None else np.isin(self._ids, as_ids(allow))
        ids, vectors = self._ids[kept], self._vectors[kept]
        return [best(ids, vectors, query, k) for query in rows]

    def vectors(self, ids: Iterable[int]) -> tuple[I64, F32]:
        kept = np.isin(self._ids, as_ids(ids))
        order = self._ids[kept].argsort()
        return self._ids[kept][order], self._vectors[kept][order]

    def to_bytes(self) -> bytes:
        return self._ids.tobytes() + self._vectors.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, dim: int, count: int) -> Self:
        index = cls(dim)
        index.add(*arrays_of(data, dim, count))
        return index


class FaissIndex:
    """FAISS IndexFlatIP under IndexIDMap2: exact, and ids survive removal.

    FAISS orders ties as it likes and adds up in float32. It therefore only nominates: whatever
    lies within a rounding of the k-th score is scored again as the oracle does it.
    """

    kind = "faiss-flat-ip"

    def __init__(self, dim: int) -> None:
        self._faiss = load_faiss()
        self._index: Any = self._faiss.IndexIDMap2(self._faiss.IndexFlatIP(dim))
        self._ids: I64 = np.zeros(0, dtype=np.int64)

    @property
    def dim(self) -> int:
        return int(self._index.d)

    @property
    def ids(self) -> I64:
        return self._ids.copy()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: Iterable[int], vectors: F32) -> None:
        new, rows = checked(ids, vectors, self.dim, self._ids)
        if len(new):
            self._index.add_with_ids(rows, new)
            self._ids = np.sort(np.concatenate([self._ids, new]))

    def remove(self, ids: Iterable[int]) -> int:
        gone = np.isin(self._ids, as_ids(ids))
        if gone.any():
            self._index.remove_ids(self._ids[gone])
            self._ids = self._ids[~gone]
        return int(gone.sum())

    def search(self, queries: F32, k: int, allow: Iterable[int] | None = None) -> list[Hits]:
        rows = checked_queries(queries, k, self.dim)
        allowed = self._ids if allow is None else self._ids[np.isin(self._ids, as_ids(allow))]
        k = min(k, len(allowed))
        if k == 0 or len(rows) == 0:
            return [Hits(np.zeros(0, np.int64), np.zeros(0)) for _ in rows]
        selector = None if len(allowed) == len(self) else self._selector(allowed)
        scores, found = self._nearest(rows, min(k + 1, len(allowed)), selector)
        return [
            best(*self._near(query, row, near, k, selector), query, k)
            for query, row, near in zip(rows, scores, found, strict=True)
        ]

    def vectors(self, ids: Iterable[int]) -> tuple[I64, F32]:
        wanted = np.unique(as_ids(ids))
        places = np.searchsorted(self._ids, wanted)
        there = places < len(self)
        there[there] = self._ids[places[there]] == wanted[there]
        found = wanted[there]
        return found, self._index.reconstruct_batch(found) if len(found) else self._empty()

    def _nearest(self, rows: F32, k: int, selector: Any) -> tuple[F32, I64]:
        """Scores and ids, both (queries, k), k at most what the selector lets through."""
        scores, ids = self._index.search(rows, k, params=self._parameters(selector))
        return scores, ids

    def _near(self, query: F32, scores: F32, ids: I64, k: int, selector: Any) -> tuple[I64, F32]:
        """Everything that may be among the k best once roundings and ties are settled."""
        if len(ids) > k and scores[k] > scores[k - 1] - ROUNDING:
            least, parameters = float(scores[k - 1]) - ROUNDING, self._parameters(selector)
            _, _, tied = self._index.range_search(query[None], least, params=parameters)
            ids = np.union1d(ids, tied)
        return ids, self._index.reconstruct_batch(ids)

    def _selector(self, allowed: I64) -> Any:
        if allowed[-1] >= LARGEST_BITMAP:
            return self._faiss.IDSelectorBatch(allowed)
        bits = np.zeros(int(allowed[-1]) + 1, dtype=bool)
        bits[allowed] = True
        return self._faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))

    def _parameters(self, selector: Any) -> Any:
        return None if selector is None else self._faiss.SearchParameters(sel=selector)

    def to_bytes(self) -> bytes:
        ids, vectors = self.vectors(self._ids)
        return bytes(ids.tobytes() + vectors.tobytes())

    @classmethod
    def from_bytes(cls, data: bytes, dim: int, count: int) -> Self:
        ids, vectors = arrays_of(data, dim, count)
        index = cls(dim)
        if count:
            index._index.add_with_ids(vectors, ids)
        index._ids = np.sort(ids)
        return index

    def _empty(self) -> F32:
        return np.zeros((0, self.dim), dtype=np.float32)


def load_faiss() -> Any:
    """FAISS on one thread: waking more costs more than a search of 100,000 vectors."""
    import faiss

    faiss.omp_set_num_threads(1)
    return faiss


def best(ids: I64, vectors: F32, query: F32, k: int) -> Hits:
    """The k rows with the largest dot product, ties by the smaller id.

    Each row is summed alone, because a matrix product may round a row by its position.
    """
    scores = (vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    order = np.lexsort((ids, -scores))[:k]
    return Hits(ids[order], scores[order])


def arrays_of(data: bytes, dim: int, count: int) -> tuple[I64, F32]:
    """Ids (count,) and vectors (count, dim) that follow each other in `data`.

    Raises:
        ValueError: if `data` is of another size.
    """
    ids = np.frombuffer(data, dtype=np.int64, count=count)
    return ids, np.frombuffer(data, dtype=np.float32, offset=8 * count).reshape(count, dim)


def as_ids(ids: Iterable[int]) -> I64:
    return ids.astype(np.int64) if isinstance(ids, np.ndarray) else np.fromiter(ids, dtype=np.int64)


def checked(ids: Iterable[int], vectors: F32, dim: int, present: I64) -> tuple[I64, F32]:
    """Ids and rows as they may be stored.

    Raises:
        ValueError: for a wrong shape, an id that is negative, repeated or present, or a row that
            is not finite and of length 1.
    """
    new, rows = as_ids(ids), np.ascontiguousarray(vectors, dtype=np.float32)
    if rows.shape != (len(new), dim):
        raise ValueError(f"{len(new)} ids need vectors of shape ({len(new)}, {dim}), "
                         f"not {rows.shape}.")  # fmt: skip
    if (new < 0).any():
        raise ValueError("ids are 0 or above.")
    if len(np.unique(new)) < len(new) or np.isin(new, present).any():
        raise ValueError("an id is there already; remove it before adding its new vector.")
    _require_unit(rows)
    return new, rows


def checked_queries(queries: F32, k: int, dim: int) -> F32:
    """Raises ValueError unless queries are unit rows (q, dim) and k >= 0."""
    rows = np.ascontiguousarray(queries, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise ValueError(f"queries must be rows of {dim} numbers, not {rows.shape}.")
    _require_unit(rows)
    if k < 0:
        raise ValueError("k is 0 or above.")
    return rows


def _require_unit(rows: F32) -> None:
    # Written so that a NaN fails, too.
    if not (np.abs(np.linalg.norm(rows, axis=1) - 1) <= UNIT).all():
        raise ValueError("vectors must be finite and of length 1; scale them first.")
