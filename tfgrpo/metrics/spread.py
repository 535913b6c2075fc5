"""How far one problem's estimated pass@k spreads, from a model of skill or from a pilot.

Problems' chances of a correct sample are p ~ Beta(a, b); correct counts are then beta-binomial.
All spreads are variances of one problem's estimated pass@k, in squared shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfgrpo.metrics.pass_at_k import check_draw, pass_at_k, per_task, with_samples
from tfgrpo.types import TaskOutcome


@dataclass(frozen=True, slots=True)
class Skill:
    """Beta(a, b) of problems' chances. Small a + b: most problems are nearly hopeless or sure."""

    a: float
    b: float

    def __post_init__(self) -> None:
        if not (0 < self.a < math.inf and 0 < self.b < math.inf):
            raise ValueError(f"Beta({self.a}, {self.b}) is no skill; choose a, b > 0.")

    @property
    def mean(self) -> float:
        return self.a / (self.a + self.b)


@dataclass(frozen=True, slots=True)
class Spread:
    """Variance of one problem's pass@k estimate: between problems' true values, and sampling."""

    between: float
    within: float

    @property
    def total(self) -> float:
        return self.between + self.within


def fit_skill(outcomes: Sequence[TaskOutcome]) -> Skill:
    """Beta skill of a pilot by unbiased moments.

    E p from c/n, E p^2 from c(c-1) / n(n-1), and (E p)^2 from products of different tasks; then
    Var p = E p (1 - E p) / (a + b + 1).

    Raises:
        ValueError: for fewer than 2 tasks, a task with fewer than 2 samples, or a pilot without
            spread of skill or of only hopeless and sure problems, where no Beta fits.
    """
    pilot = with_samples(outcomes, 2)
    shares = [o.c / o.n for o in pilot]
    size, total = len(shares), math.fsum(shares)
    if size < 2:
        raise ValueError("A pilot of 1 task shows no spread of skill; evaluate more tasks.")
    square = math.fsum(o.c * (o.c - 1) / (o.n * (o.n - 1)) for o in pilot) / size
    product = (total**2 - math.fsum(x * x for x in shares)) / (size * (size - 1))
    mean, between = total / size, square - product
    if not 0 < between < mean - product:
        raise ValueError("The pilot fits no Beta skill; draw more samples of more problems.")
    weight = (mean - product) / between - 1
    return Skill(mean * weight, (1 - mean) * weight)


def pass_spread(skill: Skill, n: int, k: int) -> Spread:
    """Variance of pass@k as estimated from n samples of a random problem, exactly.

    between = Var (1-p)^k from Beta moments E (1-p)^j = B(a, b+j) / B(a, b); the total is
    Var f(n, C, k) over the beta-binomial law of C.

    Raises:
        ValueError: if k is not in 1..n.
    """
    check_draw(n, 0, k)
    miss = math.exp(_log_miss(skill, k))
    between = max(0.0, math.exp(_log_miss(skill, 2 * k)) - miss**2)
    values = np.array([pass_at_k(n, c, k) for c in range(n + 1)])
    law = _beta_binomial(skill, n)
    total = float(law @ (values - (1 - miss)) ** 2)
    return Spread(between, max(0.0, total - between))


def sampling_sd(p: float, n: int, k: int) -> float:
    """Standard deviation of one problem's pass@k estimate from n samples at chance p.

    Raises:
        ValueError: if k is not in 1..n or p is not in [0, 1].
    """
    check_draw(n, 0, k)
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"A chance must lie in [0, 1], not {p}; use 0.05.")
    law = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    values = [pass_at_k(n, c, k) for c in range(n + 1)]
    mean = math.fsum(w * v for w, v in zip(law, values, strict=True))
    return math.sqrt(math.fsum(w * (v - mean) ** 2 for w, v in zip(law, values, strict=True)))


def paired_spread(spread: Spread, correlation: float) -> Spread:
    """Variance of b - a on one problem, both arms alike: 2 (1 - rho) between, 2 within.

    `correlation` is that of the arms' true pass@k over problems; 1 for a policy against itself.

    Raises:
        ValueError: if the correlation is not in [-1, 1].
    """
    if not -1.0 <= correlation <= 1.0:
        raise ValueError(f"A correlation lies in [-1, 1], not {correlation}; use 0.8.")
    return Spread(2 * (1 - correlation) * spread.between, 2 * spread.within)


def pilot_spread(a: Sequence[TaskOutcome], b: Sequence[TaskOutcome], n: int, k: int) -> Spread:
    """Variance of b - a on one problem at n samples, from a pilot of both arms on shared tasks.

    The pilot's variance of differences less its own sampling noise is what problems contribute;
    noise at n comes from each arm's fitted skill.

    Raises:
        ValueError: if fewer than 2 tasks are shared, a shared one lacks k samples, or no Beta
            fits an arm.
    """
    arms = [{o.task_id: o for o in arm} for arm in (a, b)]
    shared = sorted(arms[0].keys() & arms[1].keys())
    if len(shared) < 2:
        raise ValueError("A paired pilot needs at least 2 shared tasks; evaluate both on one set.")
    kept = [with_samples([arm[i] for i in shared], k) for arm in arms]
    skills = [fit_skill(arm) for arm in kept]
    seen = float(np.var(per_task(kept[1], k) - per_task(kept[0], k), ddof=1))
    noise = math.fsum(
        pass_spread(skill, o.n, k).within / len(arm)
        for skill, arm in zip(skills, kept, strict=True)
        for o in arm
    )
    within = math.fsum(pass_spread(skill, n, k).within for skill in skills)
    return Spread(max(0.0, seen - noise), within)


def _log_miss(skill: Skill, k: int) -> float:
    """ln E (1-p)^k = ln B(a, b+k) - ln B(a, b), as a sum that loses no digits."""
    a, b = skill.a, skill.b
    return math.fsum(math.log1p(-a / (a + b + i)) for i in range(k))


def _beta_binomial(skill: Skill, n: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """P(C = c) for c = 0..n, shape (n + 1,)."""
    from scipy.special import betaln

    c = np.arange(n + 1)
    ways = -betaln(c + 1, n - c + 1) - math.log(n + 1)
    law = np.exp(ways + betaln(c + skill.a, n - c + skill.b) - betaln(skill.a, skill.b))
    return np.asarray(law / law.sum(), dtype=np.float64)
