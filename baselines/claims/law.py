"""Claims on the law R = -a exp(H) + b: does it predict, and where does a library stand by it?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from baselines.claims.finding import SEED, Finding, Floats, Runs, of_spread, points, spread
from baselines.claims.registry import claim
from tfgrpo.metrics.bootstrap import resampled_sums
from tfgrpo.metrics.law import fit_law
from tfgrpo.seeding import derive_seed
from tfgrpo.types import TaskOutcome

FIRST = 0.2
"""Share of a run's steps that the law is fitted to."""
LEAST = 3
"""Steps that a fit of two coefficients needs to be one."""
DRAWS = 2000
EXPLAINED = 0.5
"""R^2 from which a fitted law counts as a curve to stand on."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Accuracy of each step's rollouts and their entropy, (T,): nats, mean over replies' means."""

    accuracy: tuple[float, ...]
    entropy: tuple[float, ...]


def entropy_law(runs: Sequence[Trajectory]) -> Finding:
    """R = -a exp(H) + b (arXiv 2505.22617, eq. 4), fitted to the first fifth of the steps.

    The excess error: the root mean square error on the later steps of the law fitted to the first
    fifth, minus that of the law fitted to all steps, which is what noise alone leaves. Interval
    from a block bootstrap within either part of a run. Raises ValueError as `fit_law` does.
    """
    fits = [fit_law(run.accuracy, run.entropy, SEED) for run in runs]
    found = [[float(e) for e in _errors(run, *_whole(run))] for run in runs]
    draws = np.mean([_drawn_excess(run, i) for i, run in enumerate(runs)], axis=0)
    excess = [early - late for early, late in found]
    detail = (
        f"On the later steps the law of the first {_first(runs[0])} errs by "
        f"{points(fmean(e for e, _ in found))} points, the law of all "
        f"{len(runs[0].accuracy)} by {points(fmean(a for _, a in found))}; R^2 of all "
        f"{fmean(fit.r_squared for fit in fits):.2f}, a {fmean(fit.a.value for fit in fits):.2f}, "
        f"b {fmean(fit.b.value for fit in fits):.2f}."
    )
    return of_spread(claim("entropy-law").rule, spread(excess, draws), detail)


Steps = NDArray[np.intp]


def _first(run: Trajectory) -> int:
    return max(LEAST, math.ceil(FIRST * len(run.accuracy)))


def _whole(run: Trajectory) -> tuple[Steps, Steps]:
    steps = np.arange(len(run.accuracy))
    return steps[: _first(run)], steps[_first(run) :]


def _errors(run: Trajectory, early: Steps, late: Steps) -> tuple[Floats, Floats]:
    """Errors on `late` of the law fitted to `early`, and of that fitted to both, in accuracy.

    Steps are (..., m); so are their leading axes those of the errors.
    """
    x, y = np.exp(np.asarray(run.entropy)), np.asarray(run.accuracy)

    def error(steps: Steps) -> Floats:
        slope, offset = line(x[steps], y[steps])
        miss = offset[..., None] + slope[..., None] * x[late] - y[late]
        found: Floats = np.sqrt(np.mean(miss**2, axis=-1))
        return found

    return error(early), error(np.concatenate([early, late], axis=-1))


def line(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Slope and offset of y on x by least squares over the last axis; NaN where x never moves."""
    x_c, y_c = (v - v.mean(axis=-1, keepdims=True) for v in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        slope: Floats = (x_c * y_c).sum(axis=-1) / (x_c**2).sum(axis=-1)
    return slope, y.mean(axis=-1) - slope * x.mean(axis=-1)


def _drawn_excess(run: Trajectory, number: int) -> Floats:
    """The excess error on blocks of neighbouring steps, drawn within either part: (DRAWS,)."""
    rng = np.random.default_rng(derive_seed(SEED, "entropy-law", number))
    early, late = (part[blocks(len(part), rng)] for part in _whole(run))
    first, whole = _errors(run, early, late)
    return first - whole


def blocks(steps: int, rng: np.random.Generator) -> Steps:
    """Indices of moving block bootstraps, (DRAWS, steps), blocks of about sqrt(steps)."""
    width = min(steps, max(2, round(steps**0.5)))
    starts = rng.integers(0, steps - width + 1, (DRAWS, -(-steps // width)))
    index: Steps = (starts[..., None] + np.arange(width)).reshape(DRAWS, -1)[:, :steps]
    return index


# a library beside the curve -----------------------------------------------------------------------


def library_on_curve(base: Runs, library: Runs, runs: Sequence[Trajectory]) -> Finding:
    """A prompt prior stays on or above the trained arm's curve (arXiv 2505.22617, eq. 4).

    (R_library - R_base) - a (exp(H_base) - exp(H_library)), `a` of the same seed's training run:
    the accuracy gained, minus what the law says that the entropy spent buys. Only differences
    enter, so that training and held-out problems need not be equally hard. Problems are drawn in
    pairs, and `a` by a block bootstrap over steps. Seeds of `library` and `runs` go together.
    """
    fits = [fit_law(run.accuracy, run.entropy, SEED) for run in runs]
    slopes = [_drawn_slopes(run, i) for i, run in enumerate(runs)]
    tables = [_table(base[0], run) for run in library]
    by_seed = [
        float(_excess(t.mean(axis=0), fit.a.value)) for t, fit in zip(tables, fits, strict=True)
    ]
    # One seed for all, since the problems are the same.
    problems = derive_seed(SEED, "library-on-curve")
    draws = [
        _excess(resampled_sums(t, problems, DRAWS) / len(t), a)
        for t, a in zip(tables, slopes, strict=True)
    ]
    curve = fmean(fit.r_squared for fit in fits)
    acc, acc_base, H, H_base = np.mean([t.mean(axis=0) for t in tables], axis=0)
    detail = (
        f"Accuracy {points(acc_base)} to {points(acc)}, entropy {H_base:.3f} to {H:.3f} nats; "
        f"GRPO's curve has a {fmean(fit.a.value for fit in fits):.2f}, R^2 {curve:.2f}."
    )
    found = of_spread(
        claim("library-on-curve").rule, spread(by_seed, np.mean(draws, axis=0)), detail
    )
    return found if curve >= EXPLAINED else replace(found, verdict="inconclusive")


def _excess(means: Floats, a: float | Floats) -> Floats:
    """From means of the columns of `_table`, (..., 4), and slopes (...)."""
    acc, acc_base, H, H_base = np.moveaxis(means, -1, 0)
    value: Floats = acc - acc_base - a * (np.exp(H_base) - np.exp(H))
    return value


def _table(base: Sequence[TaskOutcome], library: Sequence[TaskOutcome]) -> Floats:
    """Accuracy and entropy of the shared problems, library then base each: (P, 4)."""
    own, plain = ({o.task_id: o for o in run if o.n} for run in (library, base))
    shared = sorted(own.keys() & plain.keys())
    if not shared:
        raise ValueError("The arms share no problem; evaluate both on one task set.")
    pairs = [(own[i], plain[i]) for i in shared]
    return np.array([[a.c / a.n, b.c / b.n, _nats(a), _nats(b)] for a, b in pairs])


def _nats(outcome: TaskOutcome) -> float:
    """Mean over replies of their mean token entropy, as in a step's `entropy_response`."""
    known = [h for h in outcome.entropies if h is not None]
    if not known:
        raise ValueError("The evaluation has no entropies; evaluate with an in-process model.")
    return fmean(known)


def _drawn_slopes(run: Trajectory, number: int) -> Floats:
    """`a` on blocks of neighbouring steps, (DRAWS,)."""
    rng = np.random.default_rng(derive_seed(SEED, "slope", number))
    x, y = np.exp(np.asarray(run.entropy)), np.asarray(run.accuracy)
    index = blocks(len(x), rng)
    return -line(x[index], y[index])[0]
