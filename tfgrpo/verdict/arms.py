"""What is compared: evaluations of policies, gathered into arms by name and training seed.

An evaluation comes from a run of this program or from another tool's file; from here on nobody
asks which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tfgrpo.errors import ConfigError
from tfgrpo.types import TaskOutcome, Usage

Family = Literal["base", "control", "context", "weights", "both", "other"]
FAMILIES: tuple[Family, ...] = ("base", "control", "context", "weights", "both", "other")
_NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Cost:
    """What it took to make a policy (`making`, by phase) and to sample it (`serving`).

    `queries` are the problems that `serving` answered, `samples` the replies. `rollouts` and
    `flops` are of the making, None where a run tells no group size or the model's size is unknown;
    `usd` likewise where a price is.
    """

    making: Mapping[str, Usage] = field(default_factory=dict)
    serving: Usage = _NOTHING
    queries: int = 0
    samples: int = 0
    rollouts: int | None = None
    flops: int | None = None
    serving_flops: int | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One frozen policy, sampled on one set of problems.

    `seed` is the training seed behind it, None for a policy that was not trained. `protocol` holds
    what must be equal in all arms before they compare (problems, split, decoding, verifier,
    prompt), as names and plain values; a name that is missing is not known. `source` tells the
    user where it was read from.
    """

    name: str
    seed: int | None
    outcomes: tuple[TaskOutcome, ...]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    family: Family = "other"
    cost: Cost | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Arm:
    """All evaluations of one kind of policy: one for each seed, or a single untrained one."""

    name: str
    family: Family
    runs: tuple[Evaluation, ...]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        return tuple(run.seed for run in self.runs)


def arms_of(evaluations: Sequence[Evaluation]) -> tuple[Arm, ...]:
    """Gathered by name, in the order of first mention; seeds in ascending order.

    Raises:
        ConfigError: if there is none, one arm has a seed twice, or trained and untrained
            evaluations under one name.
    """
    if not evaluations:
        raise ConfigError("There is nothing to compare; give the folders of evaluation runs.")
    by_name: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        by_name.setdefault(evaluation.name, []).append(evaluation)
    return tuple(_arm(name, runs) for name, runs in by_name.items())


def _arm(name: str, runs: Sequence[Evaluation]) -> Arm:
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        where = ", ".join(run.source for run in runs if run.source)
        raise ConfigError(
            f"The arm {name!r} has a seed twice ({where}); name the runs apart with NAME=PATH."
        )
    if None in seeds and len(seeds) > 1:
        raise ConfigError(
            f"The arm {name!r} has runs with and without a seed; name them apart with NAME=PATH."
        )
    ordered = sorted(runs, key=lambda run: -1 if run.seed is None else run.seed)
    return Arm(name, runs[0].family, tuple(ordered))
