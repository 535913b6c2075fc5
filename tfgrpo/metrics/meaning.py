"""Replies that mean the same: classes of their embeddings, for views of diversity by meaning.

Discrete semantic entropy (Farquhar et al. 2024, Nature 630) counts classes of meaning as answer
entropy counts answers. There a model of entailment makes the classes; here any sentence encoder
does. Encoders find all replies to one problem alike, so what counts as close is measured on a base
and then frozen, as the threshold of forking tokens is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

CLOSE = 0.2
"""The share of a base's pairs of replies to one problem that count as close."""


def meaning_threshold(vectors: Iterable[NDArray[np.float32]], close: float = CLOSE) -> float:
    """The cosine that a share `close` of the pairs within each table reaches, all pairs pooled.

    Each table holds the unit vectors of one problem's replies, shape (n, d).

    Raises:
        ValueError: if no table has two rows, or `close` is not between 0 and 1.
    """
    if not 0 < close < 1:
        raise ValueError(f"A share of pairs lies between 0 and 1, not {close}; use {CLOSE}.")
    cosines = [_cosines(table)[np.triu_indices(len(table), 1)] for table in vectors]
    if not sum(map(len, cosines)):
        raise ValueError("One reply a problem has no pairs; draw two or more.")
    return float(np.quantile(np.concatenate(cosines), 1 - close))


def meaning_classes(vectors: NDArray[np.float32], cosine: float) -> list[int]:
    """A class for each of n unit vectors, shape (n, d), in which any two have at least `cosine`.

    Classes are merged bottom-up, those whose farthest members are nearest first (complete linkage),
    so that no chain of small steps joins what is far apart. Equal rows are always of one class.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    rows, which = np.unique(vectors, axis=0, return_inverse=True)
    if len(rows) == 1:
        return [0] * len(vectors)
    distances = np.maximum(0.0, 1.0 - _cosines(rows))[np.triu_indices(len(rows), 1)]
    classes = fcluster(linkage(distances, "complete"), 1.0 - cosine + 1e-9, "distance")
    return [int(found) - 1 for found in classes[which.ravel()]]


def _cosines(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    product: NDArray[np.float64] = exact @ exact.T
    return product
