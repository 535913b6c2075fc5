"""What a reader searches: one view of a store's cases in the space of one embedder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memory.errors import CaseNotFound
from memory.search.embed import F32, Embedder
from memory.search.index import I64, FaissIndex, Hits, NumpyIndex
from memory.search.index_files import StaleIndex, load, save
from memory.search.reembed import (
    BATCH,
    IndexKind,
    attach,
    complete,
    index_class,
    index_folder,
    settle,
    stamp,
    stamp_of,
)
from memory.sqlite.vectors import marks_of, retrievable
from memory.types import Case, View

if TYPE_CHECKING:
    from memory.store import CaseStore


class Space:
    """The vectors of one state of a store, and its nearest neighbours.

    It holds the state that it was last refreshed to, whatever is written meanwhile; only the vector
    of a case that is not searched is looked up when it is asked for, unless the cases were given.
    Missing vectors are made; they and the index are kept where the store may be written, and
    otherwise nothing is written at all. Threads may search it together, but not while it is
    refreshed.

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
        self._cases: dict[int, Case] | None = None
        self._mark: tuple[int, str] | None = None
        self._rows: dict[int, F32 | None] = {}
        self._index: FaissIndex | NumpyIndex = NumpyIndex(self._dim)
        self.refresh()

    def refresh(self, cases: Iterable[Case] | None = None) -> None:
        """Turn to these cases, of all states; by default to those that the store has now.

        Those that are active and can be found by likeness are searched. The others still have
        vectors, because a guard compares ancestors, too.
        """
        self._cases = None if cases is None else {case.id: case for case in cases}
        self._rows = {}
        if self._cases is None:
            known = self._store.marks()
        else:
            known = marks_of(retrievable(self._cases.values()))
        mark = stamp_of(known)
        if mark == self._mark:
            return
        index = self._stored(len(known), mark)
        if index is None:
            given = self._store.cases() if self._cases is None else self._cases.values()
            some = retrievable(given)
            mark = stamp(some)  # others may have been added since
            index = self._built(some, mark)
        self._index, self._mark = index, mark
        if self._store.mode == "rw":
            settle(self._store, self.fingerprint, (self.view,))

    def embed(self, texts: Sequence[str]) -> F32:
        """Queries as unit rows, shape (texts, dim)."""
        return self._embedder.embed_queries(texts)

    def search(self, queries: F32, k: int, allow: Iterable[int] | None = None) -> list[Hits]:
        """The k nearest cases of each query (q, dim), among those allowed; ties by id."""
        return self._index.search(queries, k, allow)

    def vector(self, case_id: int) -> F32 | None:
        """The unit row (dim,) of a case; None for one that is unknown or blank in this view."""
        if case_id not in self._rows:
            rows = self._index.vectors([case_id])[1]
            if not len(rows) and (case := self._unsearched(case_id)) is not None:
                rows = self._complete([case])[1]
            self._rows[case_id] = rows[0] if len(rows) else None
        return self._rows[case_id]

    def matrix(self) -> tuple[I64, F32]:
        """Ids (n,), ascending, and unit rows (n, dim) of all cases that are searched."""
        return self._index.vectors(self._index.ids)

    @property
    def floor(self) -> float:
        """The cosine that chance reaches; -1, which refuses nothing, until it can be told."""
        found = self._store.vectors.calibration(self.fingerprint, self.view)
        return -1.0 if found is None else found.floor

    def _unsearched(self, case_id: int) -> Case | None:
        if self._cases is not None:
            return self._cases.get(case_id)
        try:
            return self._store.get(case_id)
        except CaseNotFound:
            return None

    def _complete(self, cases: Sequence[Case]) -> tuple[I64, F32]:
        ids, rows = complete(self._store, self._embedder, self.view, cases, batch=self._batch)
        return ids, rows.reshape(-1, self._dim)

    def _stored(self, count: int, mark: tuple[int, str]) -> FaissIndex | NumpyIndex | None:
        """The index of exactly these cases, if it was kept."""
        folder, name = self._place(mark)
        try:
            return load(index_class(self._kind, count), folder, fingerprint=name, seq=mark[0])
        except StaleIndex:
            return None

    def _built(self, cases: Sequence[Case], mark: tuple[int, str]) -> FaissIndex | NumpyIndex:
        index = index_class(self._kind, len(cases))(self._dim)
        index.add(*self._complete(cases))
        if self._store.mode == "rw":
            folder, name = self._place(mark)
            save(index, folder, fingerprint=name, seq=mark[0])
        return index

    def _place(self, mark: tuple[int, str]) -> tuple[Path, str]:
        """The folder of the index, and what it calls its space and its cases."""
        folder = index_folder(self._store.folder, self.fingerprint, self.view)
        return folder, f"{self.fingerprint}:{mark[1]}"
