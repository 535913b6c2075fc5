"""What is known of two arms before a run: their skills, and how far problems set them apart.

Skills are Beta laws of problems' chances; variances are of one problem's pass@k, in squared shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from tfgrpo.errors import ConfigError
from tfgrpo.metrics.pass_at_k import mean_pass_at_k
from tfgrpo.metrics.spread import (
    Skill,
    Spread,
    fit_skill,
    paired_spread,
    pass_spread,
    pilot_spread,
)
from tfgrpo.types import TaskOutcome


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is known of the base and of an arm before the run.

    `passes` is the base's pass@k and `between` the variance over problems of the true difference,
    both by k. `correlation` is that of the arms' true pass@k over problems. `seen` is the number of
    samples of a pilot's problem, up to which pass@k was observed; 0 if nothing was.
    """

    base: Skill
    arm: Skill
    passes: Mapping[int, float]
    between: Mapping[int, float]
    correlation: float
    measured: bool = False
    seen: int = 0


def assumed(mean: float, spread: float, correlation: float, ks: Sequence[int]) -> Expectation:
    """Beta skills of this mean and standard deviation of problems' pass@1, alike in both arms.

    Var p = mean (1 - mean) / (a + b + 1).

    Raises:
        ConfigError: if no Beta has these moments, or the correlation is not in [-1, 1].
    """
    if not 0 < mean < 1 or not 0 < spread**2 < mean * (1 - mean):
        raise ConfigError(
            f"No skill has mean {mean:g} and spread {spread:g}; give a mean between 0 and 1 and a "
            "standard deviation below sqrt(mean (1 - mean))."
        )
    weight = mean * (1 - mean) / spread**2 - 1
    return _alike(Skill(mean * weight, (1 - mean) * weight), correlation, ks)


def of_pilot(base: Sequence[TaskOutcome], correlation: float, ks: Sequence[int]) -> Expectation:
    """The base's skill as a pilot shows it, alike in both arms.

    Raises:
        ConfigError: if the pilot fits no skill, or the correlation is not in [-1, 1].
    """
    skill = _fitted(base)
    seen = min(o.n for o in base)
    passes = {k: mean_pass_at_k(base, k) if k <= seen else expected_pass(skill, k) for k in ks}
    return replace(_alike(skill, correlation, ks), passes=passes, seen=seen)


def of_pair(
    base: Sequence[TaskOutcome], arm: Sequence[TaskOutcome], ks: Sequence[int]
) -> Expectation:
    """Both arms' skills and what pairs them, from a pilot of each on shared problems.

    Up to half of the pilots' samples the variance of true differences is observed. There it gives
    rho = 1 - Var d / (Var a + Var b), and rho gives Var d at larger k, where noise hides it.

    Raises:
        ConfigError: if the pilots share fewer than two problems, or one fits no skill.
    """
    shared = {o.task_id for o in base} & {o.task_id for o in arm}
    ours = [o for o in base if o.task_id in shared]
    theirs = [o for o in arm if o.task_id in shared]
    if len(shared) < 2:
        raise ConfigError("The pilots share no problems; evaluate both on one set of problems.")
    skills = (_fitted(ours), _fitted(theirs))
    seen = min(o.n for o in [*ours, *theirs])
    middle = max(1, seen // 2)
    apart = pilot_spread(ours, theirs, middle, middle).between
    alone = math.fsum(pass_spread(skill, middle, middle).between for skill in skills)
    correlation = max(-1.0, 1 - apart / alone)

    def between(k: int) -> float:
        if k <= middle:
            return pilot_spread(ours, theirs, k, k).between
        return fmean(paired_spread(pass_spread(s, k, k), correlation).between for s in skills)

    known = of_pilot(ours, correlation, ks)
    return replace(
        known,
        arm=skills[1],
        between={k: between(k) for k in ks},
        measured=True,
        seen=seen,
    )


def expected_pass(skill: Skill, k: int) -> float:
    """E pass@k of a random problem: 1 - prod_{i<k} (b + i) / (a + b + i)."""
    a, b = skill.a, skill.b
    return -math.expm1(math.fsum(math.log1p(-a / (a + b + i)) for i in range(k)))


def spread_of(expected: Expectation, n: int, k: int, seeds: int) -> Spread:
    """Variance of one problem's arm - base, where seeds average the arm's sampling noise only.

    What training seeds add of their own is not known before a run.
    """
    once, each = (pass_spread(s, n, k).within for s in (expected.base, expected.arm))
    return Spread(expected.between[k], once + each / seeds)


def _alike(skill: Skill, correlation: float, ks: Sequence[int]) -> Expectation:
    if not -1.0 <= correlation <= 1.0:
        raise ConfigError(f"A correlation lies in [-1, 1], not {correlation:g}; give 0.8.")
    between = {k: paired_spread(pass_spread(skill, k, k), correlation).between for k in ks}
    passes = {k: expected_pass(skill, k) for k in ks}
    return Expectation(skill, skill, passes, between, correlation)


def _fitted(outcomes: Sequence[TaskOutcome]) -> Skill:
    try:
        return fit_skill(outcomes)
    except ValueError as error:
        raise ConfigError(str(error)) from error
