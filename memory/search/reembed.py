"""Giving cases their vectors, and moving a whole store from one embedder to another.

Every batch is committed by itself and nothing else is remembered: whoever is killed and begins
again goes on where the vectors end.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from memory.errors import StoreError
from memory.search.approximate import ApproximateIndex, choose
from memory.search.calibrate import (
    Calibration,
    chance_level,
    probe,
    random_pair_cosines,
    require_same_space,
)
from memory.search.embed import F32, Embedder, FingerprintMismatch, normalised
from memory.search.index import I64, FaissIndex, NumpyIndex
from memory.search.index_files import save
from memory.sqlite.codec import canonical_json, sha256, view_text
from memory.sqlite.vectors import marks_of, retrievable
from memory.types import Case, Mark, View

if TYPE_CHECKING:
    from memory.store import CaseStore

IndexKind = Literal["auto", "exact", "approximate", "numpy"]

BATCH = 64
PAIRS = 20_000
FEWEST_TEXTS = 100
"""Below this many different texts, what chance amounts to cannot be told."""


def attach(store: CaseStore, embedder: Embedder) -> int:
    """Make sure that an embedder makes the vectors of this store; returns their dimension.

    A store that may be written learns a new embedder if it has none yet.

    Raises:
        FingerprintMismatch: if the store is searched in another space, or if the embedder no
            longer makes the vectors that it made once.
    """
    active = store.vectors.active
    own = embedder.fingerprint
    if active not in (None, own.digest):
        known = store.vectors.known(active) if active else None
        which = f", because their {', '.join(known.differences(own))} differ" if known else ""
        raise FingerprintMismatch(
            f"This store holds vectors of {known.model if known else active}, not of "
            f"{own.model} ({own.short}){which}; open it with that embedder, or re-embed it."
        )
    return introduce(store, embedder)


def introduce(store: CaseStore, embedder: Embedder) -> int:
    """Make an embedder known beside those that are, and check it if it is known already."""
    own, fresh = embedder.fingerprint, probe(embedder)
    kept = store.vectors.probe(own.digest)
    if kept is not None:
        require_same_space(kept, fresh)
    elif store.mode == "rw":
        details = asdict(own)
        name = details.pop("model")
        with store.transaction():
            store.vectors.register(own.digest, fresh.shape[1], details, name)
            store.vectors.keep_probe(own.digest, fresh)
    return int(fresh.shape[1])


def embed_pending(
    store: CaseStore,
    embedder: Embedder,
    views: Sequence[View] = ("question",),
    *,
    batch: int = BATCH,
) -> int:
    """Give every active case its vector in these views; returns how many were missing.

    Raises:
        FingerprintMismatch: as `attach`.
    """
    attach(store, embedder)
    made = [done for done, _ in fill(store, embedder, views, batch=batch)]
    settle(store, embedder.fingerprint.digest, views)
    return made[-1] - made[0]


def migrate(
    store: CaseStore,
    embedder: Embedder,
    views: Sequence[View] | None = None,
    *,
    batch: int = BATCH,
) -> Iterator[tuple[int, int]]:
    """Move a store to another embedder; yields (vectors made, vectors needed) as it goes.

    The store is searched in its old space until the iteration has ended; then, and only if every
    active case has its vectors, the new space becomes the active one in one write. The old one
    stays until `drop_space`. `views` are by default those that the old space has.

    Raises:
        FingerprintMismatch: if the embedder no longer makes the vectors of its half-made space.
        StoreError: if another process has moved the store meanwhile.
    """
    old, fingerprint = store.vectors.active, embedder.fingerprint.digest
    if views is None:
        views = (store.vectors.views(old) if old else ()) or ("question",)
    introduce(store, embedder)
    while True:
        yield from fill(store, embedder, views, batch=batch)
        settle(store, fingerprint, views)
        # Cases may have been added since; then the next round makes their vectors.
        if store.vectors.activate(fingerprint, views, replacing=old):
            return


def fill(
    store: CaseStore, embedder: Embedder, views: Sequence[View], *, batch: int = BATCH
) -> Iterator[tuple[int, int]]:
    """Make what is missing, one commit per batch; yields (done, total), also before the first."""
    fingerprint = embedder.fingerprint.digest
    counts = [store.vectors.progress(fingerprint, view) for view in views]
    done, total = sum(c[0] for c in counts), sum(c[1] for c in counts)
    yield done, total
    for view in views:
        after = 0
        while cases := store.vectors.pending(fingerprint, view, after=after, limit=batch):
            rows = embedder.embed_documents([view_text(case, view) for case in cases])
            store.vectors.put(fingerprint, view, cases, rows)
            after = cases[-1].id
            done += len(cases)
            yield done, max(done, total)


def complete(
    store: CaseStore, embedder: Embedder, view: View, cases: Sequence[Case], *, batch: int = BATCH
) -> tuple[I64, F32]:
    """Ids (n,) and vectors (n, dim) of these cases; blank texts are left out.

    What is missing is made, and kept where the store may be written.
    """
    fingerprint = embedder.fingerprint.digest
    matrix, fitting, pending = store.vectors.get(fingerprint, view, cases)
    parts = [matrix] if fitting else []
    for start in range(0, len(pending), batch):
        some = pending[start : start + batch]
        parts.append(embedder.embed_documents([view_text(case, view) for case in some]))
        if store.mode == "rw":
            store.vectors.put(fingerprint, view, some, parts[-1])
    ids = np.array([case.id for case in (*fitting, *pending)], dtype=np.int64)
    return ids, np.concatenate(parts) if parts else matrix


def settle(store: CaseStore, fingerprint: str, views: Sequence[View]) -> None:
    """What follows once vectors were made: chance levels, and the first space of a store."""
    for view in views:
        if store.vectors.calibration(fingerprint, view) is None:
            measure_floor(store, fingerprint, view)
    if store.vectors.active is None:
        store.vectors.activate(fingerprint, views, replacing=None)


def measure_floor(store: CaseStore, fingerprint: str, view: View) -> Calibration | None:
    """Measure the chance level of a view anew, from the store's own vectors, and keep it.

    The level of other texts can be kept as well: give what `calibrate` finds in them to
    `store.vectors.keep_calibration`. Returns None below `FEWEST_TEXTS` different texts.
    """
    matrix, cases, _ = store.vectors.get(fingerprint, view, retrievable(store.cases()))
    rows = {normalised(view_text(c, view)): row for c, row in zip(cases, matrix, strict=True)}
    if len(rows) < FEWEST_TEXTS:
        return None
    cosines = random_pair_cosines(np.stack(list(rows.values())), pairs=PAIRS, seed=0)
    level, median = chance_level(cosines), float(np.median(cosines))
    found = Calibration(fingerprint, level, median, len(cosines), len(rows))
    store.vectors.keep_calibration(view, found)
    return found


def drop_space(store: CaseStore, fingerprint: str) -> int:
    """Forget the vectors of a space that is no longer searched; returns how many there were."""
    if store.vectors.active != fingerprint:
        shutil.rmtree(index_folder(store.folder, fingerprint), ignore_errors=True)
    return store.vectors.drop(fingerprint)


def reindex(store: CaseStore, fingerprint: str, kind: IndexKind = "auto") -> dict[View, int]:
    """Write the search indexes of a space anew; returns how many vectors each view has.

    Raises:
        StoreError: if a case has no vector yet.
    """
    counts: dict[View, int] = {}
    for view in store.vectors.views(fingerprint):
        cases = retrievable(store.cases())
        matrix, fitting, pending = store.vectors.get(fingerprint, view, cases)
        if pending:
            raise StoreError(f"{len(pending)} cases have no vector yet; embed them first.")
        index = index_class(kind, len(cases))(matrix.shape[1])
        index.add([case.id for case in fitting], matrix)
        seq, mark = stamp(cases)
        folder = index_folder(store.folder, fingerprint, view)
        save(index, folder, fingerprint=f"{fingerprint}:{mark}", seq=seq)
        counts[view] = len(fitting)
    return counts


def index_class(kind: IndexKind, count: int) -> type[FaissIndex] | type[NumpyIndex]:
    """`auto` is exact for as many vectors as can be searched while a question is embedded."""
    if kind == "auto":
        return choose(count).index
    classes: dict[IndexKind, type[FaissIndex] | type[NumpyIndex]] = {
        "exact": FaissIndex,
        "approximate": ApproximateIndex,
        "numpy": NumpyIndex,
    }
    return classes[kind]


def stamp(cases: Sequence[Case]) -> tuple[int, str]:
    return stamp_of(marks_of(cases))


def stamp_of(marks: Sequence[Mark]) -> tuple[int, str]:
    """Names cases as they are now: the last event of them, and a hash.

    The hash tells apart two histories to which a restored backup gave the same numbers.
    """
    return max((seq for _, _, seq, _ in marks), default=0), sha256(canonical_json(marks))


def index_folder(folder: Path, fingerprint: str, view: View | None = None) -> Path:
    """Where the indexes of a space are, or that of one view."""
    place = folder / "index" / fingerprint[:12]
    return place if view is None else place / view
