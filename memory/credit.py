"""What a case was worth: from the rewards of a group to the utility of the cases it was shown.

Rewards of different items cannot be compared, because items differ in difficulty, and cases about
hard topics would look harmful. Within a group of rollouts of one item, each drawing its own cases,
the difficulty cancels. This assumes that the effects of cases add up; a case that every rollout of
a group was shown learns nothing from it, and cases shown together share what each has done.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

PRIOR_STRENGTH = 4.0
PRIOR_VARIANCE = 0.25  # of a fair coin, the largest that a reward in [0, 1] can have


@dataclass(frozen=True, slots=True)
class Utility:
    """Running count, mean and sum of squared deviations of the credits of a case (Welford 1962)."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    def add(self, credit: float) -> Utility:
        """Raises ValueError if the credit is not finite."""
        if not math.isfinite(credit):
            raise ValueError("a credit is a finite number; leave out what was not scored.")
        n = self.n + 1
        delta = credit - self.mean
        mean = self.mean + delta / n
        return Utility(n, mean, self.m2 + delta * (credit - mean))

    def merge(self, other: Utility) -> Utility:
        """As if the credits of both had been added to one (Chan, Golub & LeVeque 1983)."""
        n = self.n + other.n
        if n == 0:
            return self
        delta = other.mean - self.mean
        return Utility(
            n,
            self.mean + delta * other.n / n,
            self.m2 + other.m2 + delta * delta * self.n * other.n / n,
        )

    @property
    def variance(self) -> float:
        """Sample variance, n - 1 in the denominator.

        Raises:
            ValueError: below two credits, where it is undefined.
        """
        if self.n < 2:
            raise ValueError("a variance needs two credits.")
        return self.m2 / (self.n - 1)

    def shrunk(self, prior: float = 0.0, strength: float = PRIOR_STRENGTH) -> float:
        """(n0 u0 + n mean) / (n0 + n): the prior counts as n0 credits.

        Args:
            prior: u0, the case's own reward minus the mean of its namespace.
            strength: n0 > 0. Near 100 items most of what utilities say is still this prior.
        """
        return (strength * prior + self.n * self.mean) / (strength + self.n)

    def standard_error(
        self, strength: float = PRIOR_STRENGTH, variance: float = PRIOR_VARIANCE
    ) -> float:
        """Posterior deviation of the shrunk mean: sqrt((n0 v0 + m2) / (n0 + n) / (n0 + n)).

        A case that was never credited is the least certain of all.
        """
        total = strength + self.n
        return math.sqrt((strength * variance + self.m2) / total / total)


@dataclass(frozen=True, slots=True)
class Shown:
    """One rollout of an item: its reward, None if it was not scored, and the cases it was shown."""

    reward: float | None
    cases: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupCredit:
    """`credits`: for each case the advantages of the rollouts that were shown it, in their order.

    `informative` is False where all scored rewards were equal or fewer than two: no case is
    credited, and the group is only counted.
    """

    credits: Mapping[int, tuple[float, ...]]
    informative: bool
    unscored: int


def leave_one_out(rewards: Sequence[float]) -> tuple[float, ...]:
    """A_i = r_i - mean of r_j over j != i (RLOO, arXiv 2402.14740); exactly 0 without spread.

    The mean without i does not depend on the cases that i was shown, so it is a fair baseline.
    """
    if not rewards or max(rewards) == min(rewards):
        return (0.0,) * len(rewards)
    total, others = math.fsum(rewards), len(rewards) - 1
    return tuple(r - (total - r) / others for r in rewards)


def credit_group(rollouts: Sequence[Shown], *, divide: bool = False) -> GroupCredit:
    """Credit the cases of one item's rollouts with the leave-one-out advantages.

    An unscored rollout is in no mean and credits nothing: it is not a reward of 0.

    Args:
        rollouts: all of one item and one policy.
        divide: give each case its share of the advantage, not the whole.

    Raises:
        ValueError: if a rollout names a case twice or a reward is not finite.
    """
    if any(len(set(r.cases)) < len(r.cases) for r in rollouts):
        raise ValueError("a rollout is shown a case once; name it once.")
    scored = [(r.reward, r.cases) for r in rollouts if r.reward is not None]
    rewards = [reward for reward, _ in scored]
    if not all(map(math.isfinite, rewards)):
        raise ValueError("rewards are finite numbers; None stands for one that is not known.")
    informative = len(set(rewards)) > 1
    credits: dict[int, tuple[float, ...]] = {}
    if informative:
        for (_, cases), advantage in zip(scored, leave_one_out(rewards), strict=True):
            for case in cases:
                share = advantage / len(cases) if divide else advantage
                credits[case] = (*credits.get(case, ()), share)
    return GroupCredit(credits, informative, unscored=len(rollouts) - len(scored))


def fold(
    groups: Iterable[GroupCredit], start: Mapping[int, Utility] | None = None
) -> dict[int, Utility]:
    """Utilities after these groups. Folding in two parts equals folding at once."""
    utilities = dict(start or {})
    for group in groups:
        for case, credits in group.credits.items():
            for credit in credits:
                utilities[case] = utilities.get(case, Utility()).add(credit)
    return utilities


def memory_off(group_size: int, share: float, seed: int) -> frozenset[int]:
    """Which rollouts of a group see no memory, to tell what memory as a whole does.

    share * group_size of them, and a fraction by chance, so that the expectation is exact.

    Raises:
        ValueError: if the share is not in [0, 1] or the size is negative.
    """
    if not 0 <= share <= 1 or group_size < 0:
        raise ValueError("the share of rollouts without memory is in [0, 1].")
    rng = np.random.default_rng(seed)
    exact = Fraction(share).limit_denominator(10**6) * group_size
    number = int(exact) + int(rng.random() < float(exact % 1))
    return frozenset(rng.permutation(group_size)[:number].tolist())


@dataclass(frozen=True, slots=True)
class Effect:
    """What memory does to the reward: mean over items of (mean with - mean without)."""

    value: float
    low: float
    high: float
    level: float
    items: int
    left_out: int

    @property
    def harmful(self) -> bool:
        """The whole interval is below 0: memory should be switched off here."""
        return self.high < 0


def on_off_effect(
    items: Iterable[tuple[Sequence[float], Sequence[float]]], *, level: float = 0.95
) -> Effect:
    """The average effect of memory on items, with Student's interval over items.

    Items are pairs (rewards with memory, rewards without), randomised within the item, so that the
    difference of means is unbiased for each and their difficulties cancel. Items are taken to be
    independent and weigh alike. Items without both sides are left out and counted.

    Raises:
        ValueError: if fewer than two items have both, or the level is not in (0, 1).
    """
    from scipy.stats import t

    if not 0 < level < 1:
        raise ValueError("the level of an interval is in (0, 1).")
    pairs = list(items)
    both = [(on, off) for on, off in pairs if len(on) and len(off)]
    if len(both) < 2:
        raise ValueError("an effect needs two items with rollouts both with and without memory.")
    differences = np.array([np.mean(on) - np.mean(off) for on, off in both])
    value = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(len(both))
    half = float(t.ppf((1 + level) / 2, len(both) - 1)) * error
    return Effect(
        value, value - half, value + half, level, items=len(both), left_out=len(pairs) - len(both)
    )
