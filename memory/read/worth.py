"""How well numbers predict which shown cases end in success, and rank the cases of one query.

A number that only knows which queries are easy has a high AUC over all queries and 1/2 within them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Worth:
    """How well numbers predict outcomes. None where it is undefined.

    Attributes:
        log_loss: mean over examples, in nats; None for what is no probability.
        auc: P(a success scores above a failure), ties half, over all queries together.
        within: the same inside one query, averaged over the queries that have both outcomes.
    """

    log_loss: float | None
    auc: float | None
    within: float | None


def worth(scores: F64, labels: Flags, groups: I64, *, probabilities: bool = True) -> Worth:
    """Measures of scores (n,) against outcomes (n,), with the query of each in `groups` (n,)."""
    inside = [auc(scores[groups == g], labels[groups == g]) for g in with_spread(labels, groups)]
    kept = [value for value in inside if value is not None]
    return Worth(
        log_loss(scores, labels) if probabilities else None,
        auc(scores, labels),
        math.fsum(kept) / len(kept) if kept else None,
    )


def auc(scores: F64, labels: Flags) -> float | None:
    """P(score of a success > score of a failure) + P(equal) / 2; None without both outcomes."""
    good, bad = scores[labels], np.sort(scores[~labels])
    if not len(good) or not len(bad):
        return None
    below, upto = np.searchsorted(bad, good, "left"), np.searchsorted(bad, good, "right")
    return float((below + upto).sum() / 2 / len(good) / len(bad))


def log_loss(values: F64, labels: Flags) -> float:
    """-mean of log p(outcome), in nats; a certainty counts as 1 - 1e-7."""
    right = np.clip(np.where(labels, values, 1 - values), 1e-7, 1.0)
    return float(-np.log(right).mean())


def with_spread(labels: Flags, groups: I64) -> list[int]:
    """The queries that have both outcomes."""
    return sorted(set(groups[labels].tolist()) & set(groups[~labels].tolist()))
