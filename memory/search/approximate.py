"""Nearest neighbours that may miss a few, for more vectors than can all be looked at.

An inverted file is used and not a graph (HNSW), because cases are deleted, which a graph cannot do,
and because a graph of 100,000 vectors takes minutes to build, this index a second or two.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from memory.search.index import F32, I64, FaissIndex, VectorIndex

APPROXIMATE_FROM = 50_000
"""Exact search of as many vectors of 384 numbers takes 3 to 5 ms; approximate search saves nearly
all of it. Embedding the question takes 10 to 60: below this, speed is not worth a missed case."""
LEAST = 1_024
RECALL = 0.95
_POINTS = 64  # for each list in training; FAISS takes up to 256, which finds no better lists here
_SAMPLE, _NEAREST = 100, 10


class ApproximateIndex(FaissIndex):
    """FAISS IndexIVFFlat: the vectors in about sqrt(n) lists, of which the nearest are searched.

    Below `LEAST` vectors it is exact. It is trained then, and again whenever it has doubled, inside
    `add`. How many lists are searched is measured on the vectors themselves: enough to find 95% of
    the ten nearest. Scores are exact, ties among what was found are broken by the smaller id, and a
    search that finds fewer than are eligible looks through all lists.
    """

    kind = "faiss-ivf-flat"

    @property
    def lists(self) -> int:
        """0 while the search is exact."""
        return int(getattr(self._index, "nlist", 0))

    @property
    def probes(self) -> int:
        """How many lists a search looks through."""
        return int(getattr(self._index, "nprobe", 0))

    def add(self, ids: Any, vectors: F32) -> None:
        super().add(ids, vectors)
        if len(self) >= max(LEAST, 2 * self.lists**2):
            self._train()

    def _train(self) -> None:
        faiss, n = self._faiss, len(self)
        vectors = self._index.reconstruct_batch(self._ids)
        lists = math.isqrt(n)
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(self.dim), self.dim, lists, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.max_points_per_centroid = _POINTS
        index.set_direct_map_type(faiss.DirectMap.Hashtable)
        index.train(vectors)
        index.add_with_ids(vectors, self._ids)
        self._index = index
        drawn = np.random.default_rng(0).choice(n, size=min(n, _SAMPLE), replace=False)
        self._tune(vectors[drawn], self._ids[drawn])

    def _tune(self, queries: F32, own: I64) -> None:
        """Search as few lists as find `RECALL` of what all lists hold, themselves not counted."""
        exact, probes = self._others(queries, own, self.lists), 1
        while probes < self.lists:
            found = self._others(queries, own, probes)
            both = sum(len(a & b) for a, b in zip(exact, found, strict=True))
            if both >= RECALL * sum(map(len, exact)):
                break
            probes *= 2
        self._index.nprobe = min(probes, self.lists)

    def _others(self, queries: F32, own: I64, probes: int) -> list[set[int]]:
        parameters = self._faiss.SearchParametersIVF(nprobe=probes)
        _, found = self._index.search(queries, _NEAREST + 1, params=parameters)
        return [
            set([i for i in row if i not in (-1, me)][:_NEAREST])
            for row, me in zip(found.tolist(), own.tolist(), strict=True)
        ]

    def _nearest(self, rows: F32, k: int, selector: Any) -> tuple[F32, I64]:
        scores, ids = super()._nearest(rows, k, selector)
        short = (ids < 0).any(axis=1)
        if short.any():
            everywhere = self._faiss.SearchParametersIVF(sel=selector, nprobe=self.lists)
            scores[short], ids[short] = self._index.search(rows[short], k, params=everywhere)
        return scores, ids

    def _parameters(self, selector: Any) -> Any:
        if selector is None or not self.lists:
            return super()._parameters(selector)
        return self._faiss.SearchParametersIVF(sel=selector, nprobe=self.probes)

    def to_bytes(self) -> bytes:
        return bytes(self._faiss.serialize_index(self._index).tobytes())

    @classmethod
    def from_bytes(cls, data: bytes, dim: int, count: int) -> Self:
        index = cls(dim)
        # In parts: `deserialize_index` would hold all of it twice more.
        reader = index._faiss.PyCallbackIOReader(io.BytesIO(data).read)
        index._index = index._faiss.read_index(reader)
        index._ids = np.sort(index._stored_ids())
        if (index.dim, len(index)) != (dim, count):
            raise ValueError("these bytes hold another number of vectors.")
        return index

    def _stored_ids(self) -> I64:
        if not self.lists:
            return np.array(self._faiss.vector_to_array(self._index.id_map), dtype=np.int64)
        # Copies: FAISS hands out its own memory, which a later removal moves.
        lists = self._index.invlists
        parts = [
            self._faiss.rev_swig_ptr(lists.get_ids(i), lists.list_size(i)).copy()
            for i in range(self.lists)
        ]
        return np.concatenate(parts).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Choice:
    index: type[FaissIndex]
    reason: str


def choose(count: int) -> Choice:
    """The index for so many vectors, and why."""
    limit = f"{APPROXIMATE_FROM:,} vectors"
    if count < APPROXIMATE_FROM:
        return Choice(FaissIndex, f"exact: below {limit} it takes less time than embedding")
    return Choice(
        ApproximateIndex,
        f"approximate: from {limit} on it takes a tenth of exact search, and finds "
        f"{RECALL:.0%} of the nearest",
    )


def measured_recall(index: VectorIndex, oracle: VectorIndex, queries: F32, k: int) -> float:
    """The share of the oracle's k nearest that the index finds, over all queries (q, d) together.

    Raises:
        ValueError: if the oracle finds nothing, because then there is nothing to share.
    """
    exact = [set(hits.ids.tolist()) for hits in oracle.search(queries, k)]
    found = [set(hits.ids.tolist()) for hits in index.search(queries, k)]
    if not any(exact):
        raise ValueError("recall needs queries and vectors to be found; give both.")
    both = sum(len(a & b) for a, b in zip(exact, found, strict=True))
    return both / sum(map(len, exact))
