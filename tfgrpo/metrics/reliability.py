"""How reliably a policy solves: all of k, a share of k, a share of everything, and over all k."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

from tfgrpo.metrics.pass_at_k import check_draw, pass_at_k, powers_of_two, with_samples
from tfgrpo.types import TaskOutcome

Share = Fraction | float


def pass_hat_k(n: int, c: int, k: int) -> float:
    """pass^k = C(c, k) / C(n, k): the chance that all of k samples are correct; unbiased.

    Yao et al. 2024, arXiv 2406.12045.

    Raises:
        ValueError: unless n, c, k are integers with 1 <= k <= n and 0 <= c <= n.
    """
    check_draw(n, c, k)
    return math.comb(c, k) / math.comb(n, k)


def g_pass_at_k(n: int, c: int, k: int, tau: Share) -> float:
    """G-Pass@k_tau: the chance that at least max(1, ceil(tau k)) of k samples are correct.

    sum_{j >= max(1, ceil(tau k))} C(c, j) C(n-c, k-j) / C(n, k), unbiased. tau near 0 is pass@k,
    tau = 1 is pass^k. A float tau is read as the decimal that it prints, so that ceil(0.07 * 100)
    is 7. Liu et al. 2024, arXiv 2412.13147.

    Raises:
        ValueError: as `pass_hat_k`, or if tau is not in [0, 1].
    """
    check_draw(n, c, k)
    return _at_least(n, c, k, max(1, math.ceil(_exact(tau) * k)))


def mean_g_pass_at_k(n: int, c: int, k: int) -> float:
    """mG-Pass@k = (2/k) sum_{i = ceil(k/2)+1 .. k} G-Pass@k_{i/k}, in [0, 1]; raises as pass^k."""
    check_draw(n, c, k)
    return 2 / k * math.fsum(_at_least(n, c, k, i) for i in range((k + 1) // 2 + 1, k + 1))


def covers(n: int, c: int, tau: Share) -> bool:
    """c / n >= tau, compared in integers; a float tau is read as the decimal that it prints.

    Raises:
        ValueError: unless n, c are integers with 0 <= c <= n and n >= 1, and tau is in [0, 1].
    """
    check_draw(n, c, 1)
    share = _exact(tau)
    return c * share.denominator >= share.numerator * n


def cover_at(outcomes: Sequence[TaskOutcome], tau: Share) -> float:
    """Cover@tau: share of tasks of which at least a share tau of samples is correct.

    Over tasks' true skills, pass@k = integral of Cover(tau) k (1 - tau)^(k-1) dtau: large k looks
    only at tau near 0. The plug-in of c/n, since a step has no unbiased estimator; compare arms
    at equal n. arXiv 2510.08325.

    Raises:
        ValueError: if a task has no graded sample, there is no task, or tau is not in [0, 1].
    """
    graded = with_samples(outcomes, 1)
    return sum(covers(o.n, o.c, tau) for o in graded) / len(graded)


def log_auc(curve: Mapping[int, float]) -> float:
    """Mean height of a curve over log k: trapezoids, divided by log(last k / first k).

    Raises:
        ValueError: unless the curve has two or more k >= 1.
    """
    ks = sorted(curve)
    if len(ks) < 2 or ks[0] < 1:
        raise ValueError("The area over log k needs two or more k >= 1; evaluate a longer curve.")
    area = math.fsum((curve[a] + curve[b]) / 2 * math.log(b / a) for a, b in pairwise(ks))
    return area / math.log(ks[-1] / ks[0])


def auc_at_k(n: int, c: int, k: int) -> float:
    """`log_auc` of pass@j over the grid j = 1, 2, 4, ... and k: one number for exploration.

    Linear in pass@j, hence unbiased for the area under the true curve on that grid.

    Raises:
        ValueError: as `pass_hat_k`, or if k < 2.
    """
    check_draw(n, c, k)
    return log_auc({j: pass_at_k(n, c, j) for j in {*powers_of_two(k), k}})


def _at_least(n: int, c: int, k: int, hits: int) -> float:
    ways = sum(math.comb(c, j) * math.comb(n - c, k - j) for j in range(hits, min(c, k) + 1))
    return ways / math.comb(n, k)


def _exact(tau: Share) -> Fraction:
    share = tau if isinstance(tau, Fraction) else Fraction(repr(float(tau)))
    if not 0 <= share <= 1:
        raise ValueError(f"A share of samples must lie in [0, 1], not {tau}; use 0.5.")
    return share
