"""Diversity of texts as they are written: n-grams, Vendi score, compression, forking tokens.

All but the forking share grow or shrink with the number of texts: compare arms at equal numbers.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

EAD_ORDERS = (1, 2, 3, 4, 5)


def distinct_n(replies: Sequence[Sequence[Hashable]], n: int) -> float:
    """Different n-grams / all n-grams, none across replies, in (0, 1]; falls with length.

    Li et al. 2016, arXiv 1510.03055.

    Raises:
        ValueError: if no reply has n units, or n < 1.
    """
    found = _ngrams(replies, n)
    if not found:
        raise ValueError(f"No reply has {n} units; lower n or keep longer replies.")
    return len(found) / found.total()


def ead(replies: Sequence[Sequence[Hashable]], n: int, vocabulary: int) -> float:
    """Expectation-adjusted distinct n-grams: N / (V (1 - (1 - 1/V)^C)).

    N different among C n-grams, over how many C uniform draws of V would show, so that length
    matters less than to `distinct_n`; above 1 where replies repeat less than such draws. 0 without
    n-grams. Use one V for all arms (Liu et al. 2022, arXiv 2202.13587).

    Raises:
        ValueError: if n < 1 or vocabulary < 2.
    """
    found = _ngrams(replies, n)
    if vocabulary < 2:
        raise ValueError(f"A vocabulary of {vocabulary} is too small; use the tokenizer's size.")
    expected = -vocabulary * math.expm1(found.total() * math.log1p(-1 / vocabulary))
    return len(found) / expected if found else 0.0


def mean_ead(replies: Sequence[Sequence[Hashable]], vocabulary: int) -> float:
    """Mean of `ead` over n = 1..5 with the same V (Kirk et al. 2023, arXiv 2310.06452)."""
    return math.fsum(ead(replies, n, vocabulary) for n in EAD_ORDERS) / len(EAD_ORDERS)


def trigram_kernel(texts: Sequence[str]) -> NDArray[np.float64]:
    """Cosine similarity of character 3-gram counts, shape (n, n), unit diagonal.

    A text shorter than 3 characters is its own only gram.
    """
    counts = [Counter(_trigrams(text)) for text in texts]
    columns = {gram: j for j, gram in enumerate(dict.fromkeys(g for c in counts for g in c))}
    table = np.zeros((len(texts), len(columns)))
    for row, found in zip(table, counts, strict=True):
        row[[columns[gram] for gram in found]] = list(found.values())
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    kernel = table @ table.T
    np.fill_diagonal(kernel, 1.0)
    return np.asarray(kernel, dtype=np.float64)


def vendi(kernel: ArrayLike, q: float = 1.0) -> float:
    """Vendi score exp H_q of the eigenvalues of K / n, in [1, n]: an effective number of texts.

    H_1 = -sum l ln l, H_q = ln(sum l^q) / (1 - q). With K_ij = 1 for equal answers and 0 for
    others it is exp of their entropy. Friedman and Dieng 2022, arXiv 2210.02410.

    Raises:
        ValueError: if the kernel is not square with unit diagonal, or q is not
            positive and finite.
    """
    k = np.asarray(kernel, dtype=np.float64)
    if k.ndim != 2 or not k.size or k.shape[0] != k.shape[1] or not np.allclose(np.diag(k), 1.0):
        raise ValueError("A Vendi score needs a square kernel with ones on its diagonal; scale it.")
    if not 0 < q < math.inf:
        raise ValueError(f"The order of a Vendi score must be positive and finite, not {q}; use 1.")
    # rounding leaves eigenvalues a little below 0
    values = np.clip(np.linalg.eigvalsh(k / k.shape[0]), 0.0, None)
    values = values[values > 0] / values.sum()
    if q == 1.0:
        return float(np.exp(-np.sum(values * np.log(values))))
    return float(np.sum(values**q) ** (1 / (1 - q)))


def compression_ratio(texts: Sequence[str], limit: int | None = None) -> float:
    """Bytes of the texts, newlines between, per byte of zlib level 9; high = repetitive.

    Grows with total bytes, so arms are compared at an equal `limit`, to which the bytes are cut.

    Raises:
        ValueError: if there is nothing to compress, or fewer bytes than `limit`.
    """
    raw = "\n".join(texts).encode("utf-8", "surrogatepass")
    if not raw or (limit is not None and not 0 < limit <= len(raw)):
        raise ValueError(f"{len(raw)} bytes cannot be cut to {limit}; lower it or add texts.")
    raw = raw[:limit]
    return len(raw) / len(zlib.compress(raw, 9))


def forking_share(entropies: Iterable[float], threshold: float) -> float:
    """Share of generated tokens with an entropy above `threshold` nats, in [0, 1].

    Wang et al. 2025, arXiv 2506.01939; one threshold, that of the base, for all arms.

    Raises:
        ValueError: if there are no tokens.
    """
    h = np.fromiter(entropies, dtype=np.float64)
    if not h.size:
        raise ValueError("A share of tokens needs at least one entropy; evaluate with detail.")
    return float(np.mean(h > threshold))


def forking_threshold(entropies: Iterable[float], share: float = 0.8) -> float:
    """The entropy in nats that a `share` of the base's tokens does not exceed; frozen from then on.

    Raises:
        ValueError: if there are no tokens or share is not in [0, 1].
    """
    h = np.fromiter(entropies, dtype=np.float64)
    if not h.size or not 0.0 <= share <= 1.0:
        raise ValueError("A threshold needs entropies and a share in [0, 1]; supply both.")
    return float(np.quantile(h, share, method="inverted_cdf"))


def _ngrams(replies: Sequence[Sequence[Hashable]], n: int) -> Counter[tuple[Hashable, ...]]:
    if n < 1:
        raise ValueError(f"An n-gram has at least 1 unit, not {n}; use 1 to 5.")
    return Counter(tuple(r[i : i + n]) for r in replies for i in range(len(r) - n + 1))


def _trigrams(text: str) -> list[str]:
    return [text[i : i + 3] for i in range(len(text) - 2)] or [text]
