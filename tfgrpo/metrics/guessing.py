"""What guessing alone would score: the floor under every pass@k curve."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from tfgrpo.metrics.pass_at_k import check_draw


def chance_at_k(chances: Sequence[float], k: int) -> float:
    """Mean over problems of 1 - (1 - g)^k, g the known chance that one blind guess is right.

    Assumes independent guesses. A guesser that never repeats itself among m options, one of them
    right, is `pass_at_k(m, 1, k)`.

    Raises:
        ValueError: if there is no problem, a chance is not in [0, 1], or k < 1.
    """
    check_draw(k, 0, k)
    if not chances or not all(0.0 <= g <= 1.0 for g in chances):
        raise ValueError("A guess floor needs a chance in [0, 1] for each problem; supply them.")
    return math.fsum(-math.expm1(k * _log_miss(g)) for g in chances) / len(chances)


def guess_floor(train_answers: Sequence[str], test_answers: Sequence[str], k: int) -> float:
    """Share of test answers that are among the k most frequent training answers, in [0, 1].

    A policy that has learned nothing but which answers are common reaches this pass@k (Yona et
    al. 2024, arXiv 2410.15466). Answers tied at rank k share the places that are left, so order
    never matters.

    Raises:
        ValueError: if there is no training or no test answer, or k < 1.
    """
    check_draw(k, 0, k)
    if not train_answers or not test_answers:
        raise ValueError("A guess floor needs training and test answers; supply both.")
    seen = Counter(train_answers)
    ranked = sorted(seen.values(), reverse=True)
    edge = ranked[min(k, len(ranked)) - 1]
    above = sum(count > edge for count in ranked)
    share = min(1.0, (k - above) / ranked.count(edge))

    def caught(answer: str) -> float:
        count = seen[answer]
        return 0.0 if count < edge else 1.0 if count > edge else share

    return math.fsum(map(caught, test_answers)) / len(test_answers)


def _log_miss(chance: float) -> float:
    return -math.inf if chance == 1.0 else math.log1p(-chance)
