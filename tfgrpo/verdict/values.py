"""The numbers behind every figure: one value for each arm, seed, problem and metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tfgrpo.metrics.diversity import distinct_correct_at_k, rarefied_entropy
from tfgrpo.metrics.pass_at_k import pass_at_k, powers_of_two
from tfgrpo.metrics.reliability import auc_at_k, covers, pass_hat_k
from tfgrpo.metrics.vote import maj_at_k_each
from tfgrpo.types import TaskOutcome
from tfgrpo.verdict.arms import Arm
from tfgrpo.verdict.record import Question

Metric: TypeAlias = Callable[[Sequence[TaskOutcome]], NDArray[np.float64]]
"""One value for each problem."""

Table: TypeAlias = NDArray[np.float64]
"""Values of one arm: shape (S, P, M) for its seeds, the shared problems and the metrics."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics by name; `ceilings` are the largest value of one problem, None where unknown."""

    of: Mapping[str, Metric]
    ceilings: Mapping[str, float | None]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.of)


def grid(k_max: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to k_max, which is always its end."""
    return tuple(sorted({*powers_of_two(k_max), k_max}))


def metrics_of(question: Question, arms: Sequence[Arm]) -> Metrics:
    """All metrics that every arm has on every problem, at the question's k.

    Entropies of answers are rarefied to the fewest samples of a problem in any arm.
    """
    mid, last = question.k_mid, question.k_max
    outcomes = [o for arm in arms for run in arm.runs for o in run.outcomes]
    common = min(o.n for o in outcomes)
    of: dict[str, Metric] = {}
    ceilings: dict[str, float | None] = {}

    def add(name: str, value: Callable[[TaskOutcome], float], ceiling: float | None = 1.0) -> None:
        of[name], ceilings[name] = partial(_each, value), ceiling

    for k in grid(last):
        add(f"pass@{k}", partial(_passes, k=k))
    for k in sorted({mid, last}):
        add(f"distinct_correct@{k}", partial(distinct_correct_at_k, k=k), float(k))
    if any(mode for o in outcomes for mode in o.modes):
        add(f"distinct_modes@{mid}", lambda o: distinct_correct_at_k(o, mid, "modes"), float(mid))
    if any(answer is not None for o in outcomes for answer in o.answers):
        of[f"maj@{mid}"] = lambda found: maj_at_k_each([(o.answers, o.correct) for o in found], mid)
        ceilings[f"maj@{mid}"] = 1.0
        add(
            "answer_entropy",
            lambda o: rarefied_entropy(Counter(o.answers).values(), common),
            float(np.log(common)) if common > 1 else None,
        )
    add(f"pass^{mid}", lambda o: pass_hat_k(o.n, o.c, mid))
    add("cover@0.5", lambda o: float(covers(o.n, o.c, 0.5)))
    if last > 1:
        add(f"auc@{last}", lambda o: auc_at_k(o.n, o.c, last))
    if all(h is not None for o in outcomes for h in o.entropies):
        add("token_entropy", _token_entropy, None)
        add("reply_entropy", lambda o: fmean(h for h in o.entropies if h is not None), None)
    if all(b is not None for o in outcomes for b in o.entropy_bounds or (None,)):
        add("token_entropy_low", partial(_bound, which=0), None)
        add("token_entropy_high", partial(_bound, which=1), None)
    if any(o.lengths and max(o.lengths) for o in outcomes):
        add("length", lambda o: fmean(o.lengths), None)
    return Metrics(of, ceilings)


def tabulate(arm: Arm, problems: Sequence[str], metrics: Metrics) -> Table:
    """Values of shape (S, P, M), problems in the given order."""
    table = np.empty((len(arm.runs), len(problems), len(metrics.of)))
    for s, run in enumerate(arm.runs):
        by_id = {o.task_id: o for o in run.outcomes}
        ordered = [by_id[task_id] for task_id in problems]
        for m, metric in enumerate(metrics.of.values()):
            table[s, :, m] = metric(ordered)
    return table


def _passes(outcome: TaskOutcome, k: int) -> float:
    return pass_at_k(outcome.n, outcome.c, k)


def _each(
    value: Callable[[TaskOutcome], float], outcomes: Sequence[TaskOutcome]
) -> NDArray[np.float64]:
    return np.fromiter(map(value, outcomes), dtype=np.float64, count=len(outcomes))


def _token_entropy(outcome: TaskOutcome) -> float:
    return _by_token(outcome, outcome.entropies)


def _bound(outcome: TaskOutcome, which: int) -> float:
    return _by_token(outcome, [b[which] for b in outcome.entropy_bounds if b is not None])


def _by_token(outcome: TaskOutcome, values: Sequence[float | None]) -> float:
    """Nats per token of all samples of a problem, weighted by their lengths."""
    entropies = np.array(values, dtype=np.float64)
    lengths = np.array(outcome.lengths, dtype=np.float64)
    tokens = lengths.sum()
    return float(entropies @ lengths / tokens if tokens else entropies.mean())
