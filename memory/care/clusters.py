"""Groups of texts that are alike throughout, and what tells two problems of one wording apart."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from memory.read.guard import FORMULA, THOUSANDS
from memory.search.embed import F32, normalised
from memory.search.index import I64

DECIMALS = 6  # of a cosine: as far as float32 rows agree, whatever the order of summing
BLOCK = 512
TOKEN = re.compile(r"\d+(?:\.\d+)?|[-+*/×÷·^=<>−()]")


def formulas(text: str) -> tuple[str, ...]:
    """Numbers and operators in their order: what tells two problems of one wording apart.

    Stricter than `guard.only_numbers_differ`: texts for which that holds differ here.
    """
    plain = THOUSANDS.sub("", normalised(text))
    return tuple(token for part in FORMULA.findall(plain) for token in TOKEN.findall(part))


def clusters(
    keys: Sequence[Hashable], matrices: Sequence[F32], threshold: float
) -> list[list[int]]:
    """Groups of two or more rows, any two of which have equal keys and reach the threshold.

    Each row in turn joins the first group that it is like throughout (complete linkage, greedily);
    rows that join none stay alone.

    Args:
        keys: (n,), of which unequal ones are never put together.
        matrices: unit rows (n, d), in each of which two rows must be alike.
        threshold: least cosine, compared to six decimals.
    """
    together: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        together.setdefault(key, []).append(row)
    found: list[list[int]] = []
    for rows in together.values():
        if len(rows) > 1:
            found += _linked(rows, [matrix[rows] for matrix in matrices], threshold)
    return sorted(group for group in found if len(group) > 1)


def _linked(rows: Sequence[int], matrices: Sequence[F32], threshold: float) -> Iterator[list[int]]:
    groups: list[list[int]] = []
    group_of = np.zeros(len(rows), dtype=np.int64)
    for i, near in enumerate(_near(matrices, threshold)):
        joined, counts = np.unique(group_of[near], return_counts=True)
        whole = (g for g, n in zip(joined.tolist(), counts, strict=True) if n == len(groups[g]))
        group_of[i] = next(whole, len(groups))
        if group_of[i] == len(groups):
            groups.append([])
        groups[group_of[i]].append(i)
    return ([rows[i] for i in group] for group in groups)


def _near(matrices: Sequence[F32], threshold: float) -> Iterator[I64]:
    """For each row, which rows before it are near in all matrices."""
    n = len(matrices[0])
    for start in range(0, n, BLOCK):
        end = min(start + BLOCK, n)
        near = np.ones((end - start, end), dtype=bool)
        for matrix in matrices:
            cosines = matrix[start:end] @ matrix[:end].T
            near &= np.round(cosines.astype(np.float64), DECIMALS) >= threshold
        for i, row in enumerate(near, start=start):
            yield np.flatnonzero(row[:i])
