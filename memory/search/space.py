"""What a reader searches: one view of a store's cases in the space of one embedder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from memory.search.approximate import ApproximateIndex
from memory.search.embed import F32, Embedder
from memory.search.index import I64, FaissIndex, Hits, NumpyIndex
from memory.search.index_files import Index, StaleIndex, load, load_or_build
from memory.search.reembed import (
    BATCH,
    IndexKind,
    attach,
    complete,
    index_class,
    index_folder,
    settle,
    stamp,
)
from memory.sqlite.vectors import retrievable
from memory.types import STATES, Case, CaseFilter, View

if TYPE_CHECKING:
    from memory.store import CaseStore


class Space:
    """The vectors of one state of a store, and its nearest neighbours.

    It holds the state that it was last refreshed to, whatever is written meanwhile. Missing
    vectors are made; they and the index are kept where the store may be written, and otherwise
    nothing is written at all. Threads may search it together, but not while it is refreshed.

    Raises:
        FingerprintMismatch: on construction, as `memory.search.reembed.attach`.
    """

    def __init__(
        self,
        store: CaseStore,
        embedder: Embedder,
        view: View = "question",
        *,
        kind: IndexKind = "auto",
        batch: int = BATCH,
    ) -> None:
        self.fingerprint = embedder.fingerprint.digest
        self.view: View = view
        self._store = store
        self._embedder = embedder
        self._kind = kind
        self._batch = batch
        self._dim = attach(store, embedder)
        self._cases: dict[int, Case] = {}
        self._mark: tuple[int, str] | None = None
        self._rows: dict[int, F32 | None] = {}
        self._index: FaissIndex | NumpyIndex = NumpyIndex(self._dim)
        self.refresh()

    def refresh(self, cases: Iterable[Case] | None = None) -> None:
        """Turn to these cases, of all states; by default to those that the store has now.

        Those that are active and can be found by likeness are searched. The others still have
        vectors, because a guard compares ancestors, too.
        """
        if cases is None:
            cases = self._store.cases(CaseFilter(states=STATES))
        given = {case.id: case for case in cases}
        searched = retrievable(given.values())
        mark = stamp(searched)
        if mark != self._mark:
            self._index = self._opened(searched, mark)
            if self._store.mode == "rw":
                settle(self._store, self.fingerprint, (self.view,))
        self._cases, self._mark, self._rows = given, mark, {}

    def embed(self, texts: Sequence[str]) -> F32:
        """Queries as unit rows, shape (texts, dim)."""
        return self._embedder.embed_queries(texts)

    def search(self, queries: F32, k: int, allow: Iterable[int] | None = None) -> list[Hits]:
        """The k nearest cases of each query (q, dim), among those allowed; ties by id."""
        return self._index.search(queries, k, allow)

    def vector(self, case_id: int) -> F32 | None:
        """The unit row (dim,) of a case; None for one that is unknown or blank in this view."""
        if case_id not in self._rows:
            case = self._cases.get(case_id)
            rows = None if case is None else self._complete([case])[1]
            self._rows[case_id] = rows[0] if rows is not None and len(rows) else None
        return self._rows[case_id]

    def matrix(self) -> tuple[I64, F32]:
        """Ids (n,), ascending, and unit rows (n, dim) of all cases that are searched."""
        ids, rows = self._complete(retrievable(self._cases.values()))
        order = ids.argsort()
        return ids[order], rows[order]

    @property
    def floor(self) -> float:
        """The cosine that chance reaches; -1, which refuses nothing, until it can be told."""
        found = self._store.vectors.calibration(self.fingerprint, self.view)
        return -1.0 if found is None else found.floor

    def _complete(self, cases: Sequence[Case]) -> tuple[I64, F32]:
        ids, rows = complete(self._store, self._embedder, self.view, cases, batch=self._batch)
        return ids, rows.reshape(-1, self._dim)

    def _opened(self, cases: Sequence[Case], mark: tuple[int, str]) -> FaissIndex | NumpyIndex:
        """The stored index of exactly these cases, or a new one."""
        wanted = index_class(self._kind, len(cases))
        if wanted is NumpyIndex:
            return self._opened_as(NumpyIndex, cases, mark)
        if wanted is ApproximateIndex:
            return self._opened_as(ApproximateIndex, cases, mark)
        return self._opened_as(FaissIndex, cases, mark)

    def _opened_as(self, cls: type[Index], cases: Sequence[Case], mark: tuple[int, str]) -> Index:
        folder = index_folder(self._store.folder, self.fingerprint, self.view)
        seq, name = mark[0], f"{self.fingerprint}:{mark[1]}"
        if self._store.mode == "rw":
            index, _ = load_or_build(
                cls, folder, fingerprint=name, seq=seq, dim=self._dim,
                vectors=lambda: self._complete(cases),
            )  # fmt: skip
            return index
        try:
            return load(cls, folder, fingerprint=name, seq=seq)
        except StaleIndex:
            index = cls(self._dim)
            index.add(*self._complete(cases))
            return index
