"""One policy's numbers, and two policies' paired differences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType

from tfgrpo.metrics.diversity import (
    answer_entropy,
    distinct_correct_at_k,
    rarefied_entropy,
    token_entropy,
    token_entropy_bounds,
)
from tfgrpo.metrics.estimate import bootstrap_mean, paired_difference
from tfgrpo.metrics.pass_at_k import pass_at_k, with_samples
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Comparison, Estimate, TaskOutcome

AtK = Callable[[TaskOutcome, int], float]
AT_K: Mapping[str, AtK] = MappingProxyType(
    {
        "pass": lambda o, k: pass_at_k(o.n, o.c, k),
        "distinct_correct": lambda o, k: distinct_correct_at_k(o, k, "answers"),
        "distinct_modes": lambda o, k: distinct_correct_at_k(o, k, "modes"),
    }
)


@dataclass(frozen=True, slots=True)
class PolicySummary:
    """What is reported of one evaluated policy.

    `mean` is the mean of c/n over tasks. `pass_at_k`, `distinct_correct` (different correct
    answers) and `distinct_modes` (different modes of correct samples) are keyed by k; each
    estimate's `n` says how many tasks it rests on. `answer_entropy` is the plug-in at each task's
    own n. `token_entropy` is in nats per token, None if unknown; a hosted model's likeliest tokens
    tell its bounds alone. `mean_length` is in tokens per sample. `n_samples` counts graded samples;
    `failures` came on top of them.
    """

    n_tasks: int
    n_samples: int
    mean: Estimate
    pass_at_k: Mapping[int, Estimate]
    distinct_correct: Mapping[int, Estimate]
    distinct_modes: Mapping[int, Estimate]
    answer_entropy: Estimate
    token_entropy: float | None
    token_entropy_bounds: tuple[float, float] | None
    mean_length: float
    truncated: int
    failures: int


def summarise(
    outcomes: Sequence[TaskOutcome], ks: Sequence[int], seed: int, *, allow_missing: bool = False
) -> PolicySummary:
    """Every shared metric of one policy with intervals over problems; order does not matter.

    `allow_missing` drops, for each k, the tasks that have fewer than k graded samples.

    Raises:
        ValueError: if a task is listed twice, no task has samples, or a task has n < k and
            `allow_missing` is off.
    """
    by_id = _by_id(outcomes)
    ordered = [by_id[i] for i in sorted(by_id)]
    graded = with_samples(ordered, 1, allow_missing=allow_missing)

    def at(family: str, k: int) -> Estimate:
        kept = with_samples(ordered, k, allow_missing=allow_missing)
        values = [AT_K[family](o, k) for o in kept]
        ceiling = 1.0 if family == "pass" else float(k)
        return bootstrap_mean(values, derive_seed(seed, f"{family}@{k}"), ceiling=ceiling)

    lengths = [length for o in graded for length in o.lengths]
    return PolicySummary(
        n_tasks=len(ordered),
        n_samples=sum(o.n for o in ordered),
        mean=at("pass", 1),
        pass_at_k={k: at("pass", k) for k in ks},
        distinct_correct={k: at("distinct_correct", k) for k in ks},
        distinct_modes={k: at("distinct_modes", k) for k in ks},
        answer_entropy=bootstrap_mean(
            [answer_entropy(o.answers) for o in graded],
            derive_seed(seed, "answer_entropy"),
            ceiling=math.log(max(o.n for o in graded)),
        ),
        token_entropy=token_entropy(ordered),
        token_entropy_bounds=token_entropy_bounds(ordered),
        mean_length=sum(lengths) / len(lengths),
        truncated=sum(o.truncated for o in ordered),
        failures=sum(o.failures for o in ordered),
    )


def compare(
    a_outcomes: Sequence[TaskOutcome],
    b_outcomes: Sequence[TaskOutcome],
    ks: Sequence[int],
    seed: int,
    *,
    allow_missing: bool = False,
) -> tuple[Comparison, ...]:
    """Paired differences b - a over the tasks that both arms have; order does not matter.

    Named `pass@k`, `distinct_correct@k` and `distinct_modes@k` for each k, and `answer_entropy`,
    for which both arms of a task are rarefied to the smaller n. `allow_missing` drops a task
    with n < k in either arm from both.

    Raises:
        ValueError: if a task is listed twice, no task is shared, or a shared task has n < k and
            `allow_missing` is off.
    """
    a, b = _by_id(a_outcomes), _by_id(b_outcomes)
    shared = a.keys() & b.keys()
    if not shared:
        raise ValueError("The arms share no task; evaluate both on one task set.")
    a, b = {i: a[i] for i in shared}, {i: b[i] for i in shared}

    def with_k(k: int) -> set[str]:
        arms = (with_samples(list(x.values()), k, allow_missing=allow_missing) for x in (a, b))
        return set.intersection(*({o.task_id for o in kept} for kept in arms))

    def at(family: str, k: int) -> Comparison:
        kept, name = with_k(k), f"{family}@{k}"
        x, y = ({i: AT_K[family](arm[i], k) for i in kept} for arm in (a, b))
        return paired_difference(name, x, y, derive_seed(seed, name))

    def entropies(arm: Mapping[str, TaskOutcome]) -> dict[str, float]:
        return {
            i: rarefied_entropy(Counter(arm[i].answers).values(), min(a[i].n, b[i].n))
            for i in with_k(1)
        }

    name = "answer_entropy"
    return (
        *(at(family, k) for family in AT_K for k in ks),
        paired_difference(name, entropies(a), entropies(b), derive_seed(seed, name)),
    )


def compare_averages(
    a_runs: Sequence[Sequence[TaskOutcome]],
    b_runs: Sequence[Sequence[TaskOutcome]],
    ks: Sequence[int],
    seed: int,
) -> tuple[Comparison, ...]:
    """Paired differences b - a of the seed-averaged `pass@k` and `distinct_correct@k`.

    A task counts for a k if every run of both arms has at least k graded samples of it; intervals
    are over tasks.

    Raises:
        ValueError: if an arm has no run, a task is listed twice, or none counts.
    """
    a, b = ([_by_id(run) for run in runs] for runs in (a_runs, b_runs))

    def at(family: str, k: int) -> Comparison:
        name = f"{family}@{k}"
        enough = [{i for i, o in run.items() if o.n >= k} for run in (*a, *b)]
        shared = sorted(set.intersection(*enough)) if a and b else []
        if not shared:
            raise ValueError(f"The arms share no task with {k} samples; evaluate both on one set.")
        x, y = (
            {i: fmean(AT_K[family](run[i], k) for run in runs) for i in shared} for runs in (a, b)
        )
        return paired_difference(name, x, y, derive_seed(seed, name))

    return tuple(at(family, k) for family in ("pass", "distinct_correct") for k in ks)


def _by_id(outcomes: Sequence[TaskOutcome]) -> dict[str, TaskOutcome]:
    by_id = {o.task_id: o for o in outcomes}
    if len(by_id) != len(outcomes):
        raise ValueError("A task is listed twice in one evaluation; merge its samples first.")
    return by_id
