"""Texts to unit vectors, and the fingerprint that says which vectors may be compared.

Vectors of two models, or of one model in two precisions, are of different spaces: their cosines
mean nothing. Every set of vectors therefore carries the fingerprint of what made it.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memory.errors import StoreError

F32 = NDArray[np.float32]


class NoEmbedder(StoreError):
    """The files or the packages of an embedder are missing."""


class FingerprintMismatch(StoreError):
    """Vectors of two different spaces were about to be compared."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What decides the vectors of an embedder; every field but the name is compared.

    `weights`, `tokenizer`, `pooling` and `prompts` are digests of files, or words where an
    embedder has no files.
    """

    model: str = field(compare=False)
    weights: str
    tokenizer: str
    pooling: str
    prompts: str
    dtype: str
    backend: str

    @property
    def digest(self) -> str:
        """SHA-256 over everything but the name: a copy of a model in another folder is equal."""
        parts = {name: value for name, value in asdict(self).items() if name != "model"}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def short(self) -> str:
        return self.digest[:12]

    def differences(self, other: Fingerprint) -> tuple[str, ...]:
        """Names of the compared fields that differ."""
        names = (f.name for f in fields(self) if f.compare)
        return tuple(name for name in names if getattr(self, name) != getattr(other, name))

    def require(self, other: Fingerprint) -> None:
        """Refuse to mix two spaces.

        Raises:
            FingerprintMismatch: if the fingerprints differ.
        """
        if different := self.differences(other):
            raise FingerprintMismatch(
                f"Vectors of {self.model} ({self.short}) and {other.model} ({other.short}) cannot "
                f"be compared, because their {', '.join(different)} differ; embed both with one."
            )


class Embedder(Protocol):
    """Texts to float32 rows of unit length, shape (texts, dim)."""

    @property
    def fingerprint(self) -> Fingerprint: ...
    @property
    def dim(self) -> int: ...
    def embed_queries(self, texts: Sequence[str]) -> F32: ...
    def embed_documents(self, texts: Sequence[str]) -> F32: ...


@dataclass(frozen=True, slots=True)
class HashingEmbedder:
    """Signed hashing of character n-grams: no download, no training, equal on every machine.

    Each n-gram of the normalised text adds +1 or -1 to one of `dim` buckets (feature hashing,
    arXiv 0902.2206), and the row is scaled to length 1. It finds texts that share spelling and
    nothing more: it is for tests, for first steps, and for tasks that are written alike.

    Raises:
        ValueError: on construction, if `dim` or `sizes` is not positive.
    """

    dim: int = 512
    sizes: tuple[int, ...] = (2, 3, 4)

    def __post_init__(self) -> None:
        if self.dim < 1 or not self.sizes or min(self.sizes) < 1:
            raise ValueError("a hashing embedder needs dim >= 1 and n-gram sizes >= 1.")

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(
            model="hashing",
            weights="none",
            tokenizer=f"characters {','.join(map(str, self.sizes))}",
            pooling=f"signed sum over {self.dim}",
            prompts="none",
            dtype="float32",
            backend="blake2b-v1",
        )

    def embed_queries(self, texts: Sequence[str]) -> F32:
        return self.embed_documents(texts)

    def embed_documents(self, texts: Sequence[str]) -> F32:
        rows = np.zeros((len(texts), self.dim), dtype=np.float64)
        for row, text in zip(rows, texts, strict=True):
            for gram in self._grams(text):
                code = int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest())
                row[(code >> 1) % self.dim] += 1.0 if code & 1 else -1.0
            if not row.any():  # every n-gram was cancelled, or there is none
                row[0] = 1.0
        return unit_rows(rows)

    def _grams(self, text: str) -> Iterable[str]:
        padded = f" {normalised(text)} "
        for size in self.sizes:
            yield from (padded[i : i + size] for i in range(len(padded) - size + 1))


def unit_rows(rows: NDArray[np.float64]) -> F32:
    """Rows (n, d) scaled to length 1.

    Raises:
        ValueError: if a row is zero or not finite.
    """
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise ValueError("a zero or non-finite vector has no direction; check the embedder.")
    scaled: F32 = (rows / norms).astype(np.float32)
    return scaled


def normalised(text: str) -> str:
    """NFKC, case folded, white space as single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
