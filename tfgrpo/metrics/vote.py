"""Choosing one of k samples, by majority vote or by a score, in expectation over k-subsets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from tfgrpo.metrics.pass_at_k import check_draw

BLOCK = 256
"""Problems that are voted on at once: their tables stay in a processor's cache."""


def maj_at_k(answers: Sequence[str | None], correct: Sequence[bool], k: int) -> float:
    """Chance that a majority vote of k of the n samples is correct, unbiased, in [0, 1].

    The mean, over all k-subsets, of the share of top-voted answers that are correct, so that ties
    count fractionally and order never matters (Wang et al. 2022, arXiv 2203.11171). None cannot
    win; a subset without answers is wrong. An answer graded both ways counts by its share right.

    Exact at every n without listing subsets. With w(s, u) = Binomial(s, r)(u), independent draws
    u_j from answer classes of size s_j are hypergeometric once sum_j u_j = k, whatever r; so for
    each winning count v the classes are multiplied as polynomials in the number of samples drawn
    and the number of ties.

    Raises:
        ValueError: if k is not in 1..n, or answers and correct differ in length.
    """
    return float(maj_at_k_each([(answers, correct)], k)[0])


def maj_at_k_each(
    problems: Sequence[tuple[Sequence[str | None], Sequence[bool]]], k: int
) -> NDArray[np.float64]:
    """`maj_at_k` of each problem's (answers, correct), shape (P,); raises as it does."""
    ballots = [_ballot(answers, correct, k) for answers, correct in problems]
    found = np.empty(len(ballots))
    order = sorted(range(len(ballots)), key=lambda p: len(ballots[p].classes))
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        found[block] = _majority([ballots[p] for p in block], k)
    return found


def best_of_k(scores: Sequence[float], correct: Sequence[bool], k: int) -> float:
    """Chance that the best-scored of k of the n samples is correct, unbiased, in [0, 1].

    sum_i w_i correct_(i) by falling score, w_i = C(n-i, k-1) / C(n, k); equal scores share their
    weights, as if one of them were picked at random.

    Raises:
        ValueError: if k is not in 1..n, a score is NaN, or lengths differ.
    """
    n = len(scores)
    check_draw(n, 0, k)
    if any(math.isnan(s) for s in scores):
        raise ValueError("A sample without a score cannot be ranked; score it or leave it out.")
    ranked = sorted(zip(scores, correct, strict=True), reverse=True)
    total, first = 0.0, 1
    for _, tied in groupby(ranked, key=lambda pair: pair[0]):
        block = [ok for _, ok in tied]
        last = first + len(block) - 1
        # sum of C(n-i, k-1) over a run of i telescopes (hockey stick)
        weight = math.comb(n - first + 1, k) - math.comb(n - last, k)
        total += weight / math.comb(n, k) * (sum(block) / len(block))
        first = last + 1
    return total


def agreement(answers: Sequence[str | None]) -> tuple[float | None, ...]:
    """Each sample's implicit confidence: the share of the other samples with the same answer.

    None for a sample without an answer, or without others. Leaving the sample itself out keeps a
    lone guess at 0.
    """
    votes, others = Counter(answers), len(answers) - 1
    return tuple((votes[a] - 1) / others if a is not None and others else None for a in answers)


@dataclass(frozen=True, slots=True)
class _Ballot:
    """One problem's n samples: (size, share right) of each answer, and those without answer."""

    n: int
    classes: tuple[tuple[int, float], ...]
    blank: int


def _ballot(answers: Sequence[str | None], correct: Sequence[bool], k: int) -> _Ballot:
    n = len(answers)
    check_draw(n, 0, k)
    right: Counter[str | None] = Counter()
    for answer, ok in zip(answers, correct, strict=True):
        right[answer] += ok
    votes = Counter(a for a in answers if a is not None)
    classes = tuple(sorted((size, right[answer] / size) for answer, size in votes.items()))
    return _Ballot(n, classes, n - votes.total())


def _majority(ballots: Sequence[_Ballot], k: int) -> NDArray[np.float64]:
    most = max(len(ballot.classes) for ballot in ballots)
    weights = np.zeros((len(ballots), most, k + 1))
    weights[:, :, 0] = 1.0
    shares = np.zeros((len(ballots), most))
    rest, total = np.empty((len(ballots), k + 1)), np.empty(len(ballots))
    for p, ballot in enumerate(ballots):
        rate = k / (ballot.n + 1)
        rest[p], total[p] = _binomial(ballot.blank, rate, k), _binomial(ballot.n, rate, k)[k]
        for j, (size, share) in enumerate(ballot.classes):
            weights[p, j], shares[p, j] = _binomial(size, rate, k), share
    wins = np.sum([_wins(weights, shares, rest, v) for v in range(1, k + 1)], axis=0)
    found: NDArray[np.float64] = np.minimum(1.0, wins / total)
    return found


def _wins(
    weights: NDArray[np.float64],
    shares: NDArray[np.float64],
    rest: NDArray[np.float64],
    v: int,
) -> NDArray[np.float64]:
    """Weight of drawing k with v the winning count, times the share of winners that is right: (P,).

    `weights` (P, J, k + 1) are the binomials of J answer classes of each problem, all-rest beyond a
    problem's own, `shares` (P, J) their shares right and `rest` (P, k + 1) the binomial of samples
    without an answer. `table[:, 0, x, t]` is the weight of drawing x samples of which t classes
    reach v; `table[:, 1]` the same with one more class at v, weighted by its share right.
    """
    problems, classes, width = weights.shape
    table = np.zeros((problems, 2, width, (width - 1) // v + 1))
    table[:, 0, :, 0] = rest
    for j in range(classes):
        w = weights[:, j, :, None, None, None]
        drawn = w[:, 0] * table
        for u in range(1, v):
            drawn[:, :, u:] += w[:, u] * table[:, :, : width - u]
        tie = w[:, v] * table[:, :, : width - v]
        drawn[:, :, v:, 1:] += tie[..., :-1]
        drawn[:, 1, v:] += shares[:, j, None, None] * tie[:, 0]
        table = drawn
    ties = np.arange(1, table.shape[3] + 1)
    won: NDArray[np.float64] = np.sum(table[:, 1, width - 1] / ties, axis=1)
    return won


@lru_cache(maxsize=1 << 14)
def _binomial(size: int, rate: float, limit: int) -> NDArray[np.float64]:
    """Binomial(size, rate) at 0 .. limit, shape (limit + 1,)."""
    logs = (
        math.log(math.comb(size, u)) + u * math.log(rate) + (size - u) * math.log1p(-rate)
        for u in range(min(size, limit) + 1)
    )
    weights = np.zeros(limit + 1)
    weights[: min(size, limit) + 1] = [math.exp(x) for x in logs]
    weights.flags.writeable = False  # shared by all who ask again
    return weights
