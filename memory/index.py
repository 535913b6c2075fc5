"""Exact nearest neighbours among unit vectors, and their disposable file.

`NumpyIndex` is short enough to be believed and is the oracle; `FaissIndex` gives the same hits
faster. Both rank by cosine in float64 and break ties by the smaller id, so that what is retrieved
never depends on the order of insertion, on the batch, or on the library.

The file is a cache: whoever owns the vectors can make it again. A checksummed manifest decides
whether it is believed, because FAISS reads a file with a flipped bit without complaint.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

ROUNDING = 1e-5  # above any float32 error in a dot product of unit rows of a few thousand numbers
UNIT = 1e-4
MANIFEST = "manifest.json"
FORMAT = 1


class StaleIndex(Exception):
    """A stored index cannot be believed; the message says why. Rebuild it from the vectors."""


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Neighbours of one query, best first: ids (m,) and cosines (m,), m = min(k, eligible)."""

    ids: I64
    scores: NDArray[np.float64]


class VectorIndex(Protocol):
    """Ids and their unit vectors of one space.

    `add` refuses an id that is there, `remove` returns how many were there. `search` takes queries
    (q, d) and returns one `Hits` per query; `allow` restricts it to these ids, inside the search,
    so that blocked ids never take a place among the k.
    """

    @property
    def dim(self) -> int: ...
    @property
    def ids(self) -> I64: ...
    def __len__(self) -> int: ...
    def add(self, ids: Iterable[int], vectors: F32) -> None: ...
    def remove(self, ids: Iterable[int]) -> int: ...
    def search(self, queries: F32, k: int, allow: Iterable[int] | None = None) -> list[Hits]: ...
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

    def to_bytes(self) -> bytes:
        return self._ids.tobytes() + self._vectors.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, dim: int, count: int) -> Self:
        ids = np.frombuffer(data, dtype=np.int64, count=count)
        vectors = np.frombuffer(data, dtype=np.float32, offset=8 * count).reshape(count, dim)
        index = cls(dim)
        index.add(ids.tolist(), vectors)
        return index


class FaissIndex:
    """FAISS IndexFlatIP under IndexIDMap2: exact, and ids survive removal.

    FAISS orders ties as it likes and adds up in float32. It therefore only nominates: whatever
    lies within a rounding of the k-th score is scored again as the oracle does it.
    """

    kind = "faiss-flat-ip"

    def __init__(self, dim: int) -> None:
        faiss = load_faiss()
        self._faiss = faiss
        self._index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dim))

    @property
    def dim(self) -> int:
        return int(self._index.d)

    @property
    def ids(self) -> I64:
        return np.sort(self._stored_ids())

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, ids: Iterable[int], vectors: F32) -> None:
        new, rows = checked(ids, vectors, self.dim, self._stored_ids())
        if len(new):
            self._index.add_with_ids(rows, new)

    def remove(self, ids: Iterable[int]) -> int:
        gone = np.unique(as_ids(ids))
        return int(self._index.remove_ids(gone)) if len(gone) else 0

    def search(self, queries: F32, k: int, allow: Iterable[int] | None = None) -> list[Hits]:
        rows = checked_queries(queries, k, self.dim)
        parameters, eligible = None, len(self)
        if allow is not None:
            allowed = np.intersect1d(as_ids(allow), self._stored_ids())
            eligible = len(allowed)
            # The batch is kept alive by this name while FAISS holds only its address.
            batch = self._faiss.IDSelectorBatch(allowed)
            parameters = self._faiss.SearchParameters(sel=batch)
        k = min(k, eligible)
        if k == 0 or len(rows) == 0:
            return [Hits(np.zeros(0, np.int64), np.zeros(0)) for _ in rows]
        scores, found = self._index.search(rows, min(k + 1, eligible), params=parameters)
        return [
            best(*self._near(query, row, near, k, parameters), query, k)
            for query, row, near in zip(rows, scores, found, strict=True)
        ]

    def _near(self, query: F32, scores: F32, ids: I64, k: int, parameters: Any) -> tuple[I64, F32]:
        """Everything that may be among the k best once roundings and ties are settled."""
        if len(ids) > k and scores[k] > scores[k - 1] - ROUNDING:
            least = float(scores[k - 1]) - ROUNDING
            _, _, ids = self._index.range_search(query[None], least, params=parameters)
        return ids, self._index.reconstruct_batch(ids)

    def to_bytes(self) -> bytes:
        return bytes(self._faiss.serialize_index(self._index).tobytes())

    @classmethod
    def from_bytes(cls, data: bytes, dim: int, count: int) -> Self:
        index = cls(dim)
        index._index = index._faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        if (index.dim, len(index)) != (dim, count):
            raise StaleIndex("the file holds another number of vectors than its manifest says")
        return index

    def _stored_ids(self) -> I64:
        # A copy: FAISS hands out its own memory, which a later removal moves.
        return np.array(self._faiss.vector_to_array(self._index.id_map), dtype=np.int64)


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


def as_ids(ids: Iterable[int]) -> I64:
    return np.fromiter((int(i) for i in ids), dtype=np.int64)


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


Index = TypeVar("Index", NumpyIndex, FaissIndex)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stored index claims. `seq` is the last change of its source that it has seen."""

    kind: str
    fingerprint: str
    seq: int
    count: int
    dim: int
    file: str
    sha256: str
    format: int = FORMAT

    def to_text(self) -> str:
        body = asdict(self)
        return json.dumps({**body, "check": _check(body)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Raises StaleIndex if a byte of it was changed or it is of another format."""
        try:
            body = json.loads(text)
            if body.pop("check") == _check(body) and body["format"] == FORMAT:
                return cls(**body)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StaleIndex("its manifest cannot be read") from error
        raise StaleIndex("its manifest was changed or is of another version")


def _check(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def save(index: NumpyIndex | FaissIndex, folder: Path, *, fingerprint: str, seq: int) -> Manifest:
    """Write the vectors, then the manifest that points at them; a kill leaves the old pair.

    Args:
        index: what to store.
        folder: made if absent; files of earlier generations are removed at the end.
        fingerprint: digest of the embedder that made the vectors.
        seq: the last change of the source that the index has seen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = index.to_bytes()
    digest = hashlib.sha256(data).hexdigest()
    name = f"gen-{seq}-{digest[:8]}.bin"
    manifest = Manifest(
        index.kind, fingerprint, seq, len(index), index.dim, file=name, sha256=digest
    )
    _replace(folder / name, data)
    _replace(folder / MANIFEST, manifest.to_text().encode())
    for old in folder.glob("gen-*.bin"):
        if old.name != name:
            old.unlink(missing_ok=True)
    return manifest


def load(cls: type[Index], folder: Path, *, fingerprint: str, seq: int) -> Index:
    """Read what `save` wrote, if it is exactly what is wanted.

    Raises:
        StaleIndex: if it is absent, damaged, of another space or kind, or of another `seq`.
    """
    try:
        manifest = Manifest.from_text((folder / MANIFEST).read_text(encoding="utf-8"))
        data = (folder / manifest.file).read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise StaleIndex("its files cannot be read") from error
    wanted = {"kind": cls.kind, "fingerprint": fingerprint, "seq": seq}
    for name, value in wanted.items():
        if getattr(manifest, name) != value:
            raise StaleIndex(f"its {name} is {getattr(manifest, name)}, not {value}")
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise StaleIndex("its vectors were damaged")
    try:
        return cls.from_bytes(data, manifest.dim, manifest.count)
    except (RuntimeError, ValueError) as error:
        raise StaleIndex("its vectors cannot be read") from error


def load_or_build(
    cls: type[Index],
    folder: Path,
    *,
    fingerprint: str,
    seq: int,
    dim: int,
    vectors: Callable[[], tuple[I64, F32]],
) -> tuple[Index, str | None]:
    """The stored index, or a new one from `vectors()`, which is then stored.

    Returns:
        The index, and why it had to be built (None if the stored one was good).
    """
    try:
        return load(cls, folder, fingerprint=fingerprint, seq=seq), None
    except StaleIndex as reason:
        index = cls(dim)
        ids, rows = vectors()
        index.add(ids.tolist(), rows)
        save(index, folder, fingerprint=fingerprint, seq=seq)
        return index, str(reason)


def _replace(path: Path, data: bytes) -> None:
    """Write to a temporary file, flush it to the disk, and rename it into place."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
