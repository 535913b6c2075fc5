"""What a cosine means in one embedding space, and whether the space has stayed the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory.search.embed import F32, Embedder, FingerprintMismatch, normalised

PROBES = (
    "Where was the author of the novel born?",
    "12 + 7 * 3",
    "A train leaves the station at noon.",
    "naïve café, 東京",
)
SAME_SPACE = 0.9999  # int8 weights fall to 0.92 and batch sizes stay above 1 - 1e-6


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
        raise FingerprintMismatch(
            f"The probes changed from {kept.shape} to {fresh.shape}; re-embed."
        )
    worst = float(np.einsum("pd,pd->p", kept, fresh, dtype=np.float64).min())
    if not worst >= SAME_SPACE:
        raise FingerprintMismatch(
            f"This embedder no longer makes the stored vectors (probe cosine {worst:.5f}); "
            "re-embed the store, or use the environment that made it."
        )
