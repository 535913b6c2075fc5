"""pass@k: the chance that at least one of k samples is correct."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from tfgrpo.types import TaskOutcome


@lru_cache(maxsize=1 << 16, typed=True)
def pass_at_k(n: int, c: int, k: int) -> float:
    """f(n, c, k) = 1 - C(n-c, k) / C(n, k), unbiased over n samples of which c are correct.

    Computed as 1 - exp(sum_{i<m} log1p(-q / (n-i))) with m = min(c, k) and q = max(c, k): f is
    symmetric in c and k, so the shorter product serves, and the logarithms keep full precision
    where the gamma function loses half of it. Chen et al. 2021, arXiv 2107.03374 eq. 1.
    Assumes exchangeable samples of one frozen policy.

    Raises:
        ValueError: unless n, c, k are integers with 1 <= k <= n and 0 <= c <= n.
    """
    check_draw(n, c, k)
    m, q = min(c, k), max(c, k)
    if q > n - m:  # fewer than k wrong samples exist
        return 1.0
    return 0.0 - math.expm1(math.fsum(math.log1p(-q / (n - i)) for i in range(m)))


def per_task(outcomes: Sequence[TaskOutcome], k: int) -> NDArray[np.float64]:
    """pass@k of each task, shape (P,), in the given order; NaN where a task has n < k.

    Raises:
        ValueError: if k is no integer >= 1.
    """
    _check_k(k)
    values = (pass_at_k(o.n, o.c, k) if o.n >= k else math.nan for o in outcomes)
    return np.fromiter(values, dtype=np.float64, count=len(outcomes))


def per_task_curve(outcomes: Sequence[TaskOutcome], k_max: int) -> NDArray[np.float64]:
    """pass@1 .. pass@k_max of each task, shape (P, K), in the given order.

    1 - prod_{i<k} (1 - c / (n - i)), all k in one running product.

    Raises:
        ValueError: if a task has n < k_max, or k_max is no integer >= 1.
    """
    n = np.array([o.n for o in with_samples(outcomes, k_max)], dtype=np.float64)[:, None]
    c = np.array([o.c for o in outcomes], dtype=np.float64)[:, None]
    hit = np.minimum(c / (n - np.arange(k_max)), 1.0)
    with np.errstate(divide="ignore"):  # log 0 where fewer than k wrong samples exist
        curve: NDArray[np.float64] = 0.0 - np.expm1(np.cumsum(np.log1p(-hit), axis=1))
    return curve


def mean_pass_at_k(
    outcomes: Sequence[TaskOutcome], k: int, *, allow_missing: bool = False
) -> float:
    """Mean pass@k over tasks; every task weighs the same.

    `allow_missing` leaves out tasks with fewer than k samples. They are never padded, because
    a padded row counts what was not sampled.

    Raises:
        ValueError: if a task has n < k and `allow_missing` is off, or if no task has n >= k.
    """
    return float(per_task(with_samples(outcomes, k, allow_missing=allow_missing), k).mean())


def pass_at_k_curve(
    outcomes: Sequence[TaskOutcome], ks: Sequence[int], *, allow_missing: bool = False
) -> dict[int, float]:
    """Mean pass@k for each k of `ks`; raises as `mean_pass_at_k` does."""
    return {k: mean_pass_at_k(outcomes, k, allow_missing=allow_missing) for k in ks}


def with_samples(
    outcomes: Sequence[TaskOutcome], k: int, *, allow_missing: bool = False
) -> tuple[TaskOutcome, ...]:
    """The tasks with at least k graded samples.

    Raises:
        ValueError: if a task falls short and `allow_missing` is off, or if none is left.
    """
    _check_k(k)
    kept = tuple(o for o in outcomes if o.n >= k)
    if not kept:
        raise ValueError(f"No task has {k} graded samples; draw more samples or lower k.")
    short = len(outcomes) - len(kept)
    if short and not allow_missing:
        raise ValueError(
            f"{short} of {len(outcomes)} tasks have fewer than {k} graded samples; "
            "draw more samples, lower k, or allow missing tasks."
        )
    return kept


def powers_of_two(n: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to n: the usual grid of k. Raises ValueError for n < 1."""
    _check_k(n)
    return tuple(1 << i for i in range(int(n).bit_length()))


def check_draw(n: int, c: int, k: int) -> None:
    """Refuse to draw k of n samples, c of them special, where that cannot be done.

    Raises:
        ValueError: unless n, c, k are integers with 1 <= k <= n and 0 <= c <= n.
    """
    _check_counts(n, c)
    _check_k(k)
    if k > n:
        raise ValueError(f"pass@{k} is undefined for {n} samples; draw more samples or lower k.")


def _check_k(k: int) -> None:
    if not _is_integer(k) or k < 1:
        raise ValueError(f"k must be an integer of at least 1, not {k!r}; choose k = 1, 2, 4, ...")


def _check_counts(n: int, c: int) -> None:
    if not _is_integer(n) or not _is_integer(c) or n < 0 or c < 0:
        raise ValueError(f"Sample counts must be integers >= 0, not n={n!r}, c={c!r}; count again.")
    if c > n:
        raise ValueError(f"{c} of {n} samples cannot be correct; count the correct samples again.")


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
