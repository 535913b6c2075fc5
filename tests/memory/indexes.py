"""Small indexes of every kind, filled with vectors that a seed decides."""

from __future__ import annotations

import numpy as np
import pytest

from memory.search.approximate import ApproximateIndex
from memory.search.embed import F32, unit_rows
from memory.search.index import FaissIndex, NumpyIndex

KINDS = [NumpyIndex, FaissIndex, ApproximateIndex]
Kind = type[NumpyIndex] | type[FaissIndex] | type[ApproximateIndex]
each_kind = pytest.mark.parametrize("kind", KINDS)


def rows(n: int, dim: int = 8, seed: int = 0) -> F32:
    return unit_rows(np.random.default_rng(seed).normal(size=(n, dim)))


def filled(kind: Kind, n: int = 20, dim: int = 8) -> NumpyIndex | FaissIndex:
    index = kind(dim)
    index.add(range(100, 100 + n), rows(n, dim))
    return index
