"""A flat picture of vectors in many dimensions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def project(vectors: ArrayLike) -> NDArray[np.float64]:
    """The first two principal components of rows (n, d); shape (n, 2).

    Scores of the centred rows on the two directions of most variance (Pearson 1901). Each
    direction points to where its loading of largest size is positive, so that equal vectors give
    one picture and not its mirror image. Directions that do not exist are 0.

    Raises:
        ValueError: if the vectors are no finite matrix.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError("give vectors as a finite matrix of shape (n, d).")
    scores = np.zeros((len(rows), 2))
    if not rows.size:
        return scores
    centred = rows - rows.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    for axis, (size, direction) in enumerate(zip(sizes[:2], directions[:2], strict=True)):
        if size > 1e-9 * max(1.0, float(np.abs(rows).max())):
            mirrored = direction[np.abs(direction).argmax()] < 0
            scores[:, axis] = centred @ (-direction if mirrored else direction)
    return scores


def fitted(points: ArrayLike) -> NDArray[np.float64]:
    """Points (n, 2) moved and stretched, each axis for itself, to fill [0, 1] x [0, 1].

    An axis without any spread is 1/2 throughout.
    """
    given = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if not len(given):
        return given
    low, span = given.min(axis=0), np.ptp(given, axis=0)
    flat = span == 0
    return np.where(flat, 0.5, (given - low) / np.where(flat, 1.0, span))
