"""Choosing one of k samples, by majority vote or by a score, in expectation over k-subsets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from tfgrpo.metrics.pass_at_k import check_draw


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
    n = len(answers)
    check_draw(n, 0, k)
    right: Counter[str | None] = Counter()
    for answer, ok in zip(answers, correct, strict=True):
        right[answer] += ok
    votes = Counter(a for a in answers if a is not None)
    classes = sorted((size, right[answer] / size) for answer, size in votes.items())
    rate = k / (n + 1)
    top = max(votes.values(), default=0)
    wins = (_wins_with(v, classes, n, k, rate) for v in range(1, min(top, k) + 1))
    return min(1.0, math.fsum(wins) / float(_binomial(n, rate, k)[k]))


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


def _wins_with(v: int, classes: Sequence[tuple[int, float]], n: int, k: int, rate: float) -> float:
    """Weight of drawing k with v the winning count, times the share of winners that is right.

    `table[0, x, t]` is the weight of drawing x samples of which t classes reach v; `table[1]` the
    same with one more class at v, weighted by its share right. Classes below v cannot win and are
    one binomial together.
    """
    able = [(size, share) for size, share in classes if size >= v]
    rest = n - sum(size for size, _ in able)
    table = np.zeros((2, k + 1, k // v + 1))
    table[0, :, 0] = _binomial(rest, rate, k)
    for size, share in able:
        weights = _binomial(size, rate, v)
        drawn = np.zeros_like(table)
        for u in range(v):
            drawn[:, u:] += weights[u] * table[:, : k + 1 - u]
        tie = weights[v] * table[:, : k + 1 - v]
        drawn[:, v:, 1:] += tie[:, :, :-1]
        drawn[1, v:] += share * tie[0]
        table = drawn
    return float(np.sum(table[1, k] / np.arange(1, table.shape[2] + 1)))


def _binomial(size: int, rate: float, limit: int) -> NDArray[np.float64]:
    """Binomial(size, rate) at 0 .. limit, shape (limit + 1,)."""
    logs = (
        math.log(math.comb(size, u)) + u * math.log(rate) + (size - u) * math.log1p(-rate)
        for u in range(min(size, limit) + 1)
    )
    weights = np.zeros(limit + 1)
    weights[: min(size, limit) + 1] = [math.exp(x) for x in logs]
    return weights
