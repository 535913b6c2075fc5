"""Which problems all arms share with enough samples; what had to be left out is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tfgrpo.errors import ConfigError
from tfgrpo.metrics.seeds import MIN_SEEDS
from tfgrpo.verdict.arms import Arm

SMALL = 100
"""Problems below which intervals are told to be taken with care (arXiv 2503.01747)."""


def shared_problems(
    arms: Sequence[Arm], k_max: int, allow_missing: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sorted ids of the problems that every run has with k_max samples or more, and stamps.

    With `allow_missing` the others are dropped in all arms alike, and a stamp says how many.

    Raises:
        ConfigError: if a run lists a problem twice, none is shared, or one would be dropped.
    """
    runs = [run for arm in arms for run in arm.runs]
    every: set[str] = set()
    kept: set[str] | None = None
    for run in runs:
        ids = [o.task_id for o in run.outcomes]
        if len(set(ids)) < len(ids):
            raise ConfigError(
                f"{run.source or run.name} lists a problem twice; merge its samples or evaluate "
                "again."
            )
        enough = {o.task_id for o in run.outcomes if o.n >= k_max}
        every |= set(ids)
        kept = enough if kept is None else kept & enough
    problems = tuple(sorted(kept or ()))
    dropped = len(every) - len(problems)
    if not problems:
        raise ConfigError(
            f"No problem has {k_max} samples or more in every arm; evaluate all arms on one set of "
            "problems, or give a smaller --k."
        )
    if dropped and not allow_missing:
        short = [_missing(arm, every, k_max) for arm in arms]
        told = ", ".join(f"{count} in {arm.name}" for arm, count in short if count)
        raise ConfigError(
            f"{dropped} of {len(every)} problems have fewer than {k_max} samples ({told}); give a "
            "smaller --k, or --allow-missing to leave these problems out of all arms."
        )
    stamps = []
    if dropped:
        stamps.append(
            f"{dropped} of {len(every)} problems were left out of all arms, because one arm has "
            f"fewer than {k_max} samples of them."
        )
    if len(problems) < SMALL:
        stamps.append(f"Only {len(problems)} problems: intervals this small a set gives are rough.")
    return problems, tuple(stamps)


def few_seeds(arms: Sequence[Arm]) -> tuple[str, ...]:
    """A stamp if an arm that was trained has too few seeds for a claim over them."""
    counts = [len(arm.runs) for arm in arms if arm.runs[0].seed is not None]
    if not counts or min(counts) >= MIN_SEEDS:
        return ()
    least = "one training seed" if min(counts) == 1 else f"{min(counts)} training seeds"
    return (f"Only {least}: nothing here speaks of the variance between seeds.",)


def only(arm: Arm, problems: Sequence[str]) -> Arm:
    """The arm with these problems alone, in their order."""
    runs = []
    for run in arm.runs:
        by_id = {o.task_id: o for o in run.outcomes}
        runs.append(replace(run, outcomes=tuple(by_id[i] for i in problems)))
    return replace(arm, runs=tuple(runs))


def _missing(arm: Arm, every: set[str], k_max: int) -> tuple[Arm, int]:
    lacking: set[str] = set()
    for run in arm.runs:
        lacking |= every - {o.task_id for o in run.outcomes if o.n >= k_max}
    return arm, len(lacking)
