"""The graph of a bench: stages and arms of a suite as jobs with their settings. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cli.stage_settings import Settings
from cli.suites import ArmPlan, Kind, Suite

if TYPE_CHECKING:
    from tfgrpo.verdict.arms import Family

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A run in the folder `name` of the bench, after the jobs that `needs` names.

    `matched` is the one among them that finds the temperature.
    """

    name: str
    label: str
    kind: Kind | Literal["eval"]
    spec: Any
    needs: tuple[str, ...] = ()
    matched: str | None = None


@dataclass(frozen=True, slots=True)
class PlannedArm:
    """An arm of one seed, or of none; `path` is its job's, `made_by` the stages that it took."""

    name: str
    family: Family
    seed: int | None
    path: str
    made_by: tuple[str, ...]

    @property
    def label(self) -> str:
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a bench will do; arms without a seed come first."""

    jobs: tuple[Job, ...]
    arms: tuple[PlannedArm, ...]

    def job(self, name: str) -> Job:
        return next(job for job in self.jobs if job.name == name)

    @property
    def samples(self) -> int:
        """Replies to each problem of an evaluation."""
        return int(self.job(self.arms[0].path).spec.n)


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for: `flags` are KEY=VALUE, or KIND.KEY=VALUE for one kind of job alone."""

    root: Path
    seeds: int
    limit: int
    n: int
    flags: tuple[str, ...] = ()
    preset: str = "abacus"


def plan_of(suite: Suite, order: Order) -> Plan:
    """The jobs and arms of a suite. Raises ConfigError if any of their settings is wrong."""
    from cli.match_runs import at_found

    settings = Settings({stage.kind for stage in suite.stages}, order.flags, order.preset)
    jobs: list[Job] = []
    arms: list[PlannedArm] = []
    seeds = range(order.seeds)
    for seed in seeds:
        for stage in suite.stages:
            own = {**filled(stage.settings, _places(suite, order.root, seed)), "seed": seed}
            needs = tuple(f"{name}-{seed}" for name in stage.needs)
            spec = settings.of(stage.kind, own)
            label = f"{stage.name}, seed {seed}"
            jobs.append(Job(f"{stage.name}-{seed}", label, stage.kind, spec, needs))
    plans: list[tuple[ArmPlan, int | None]] = [(a, None) for a in suite.arms if not a.seeded]
    plans += [(arm, seed) for seed in seeds for arm in suite.arms if arm.seeded]
    for arm, at in plans:
        needs = tuple(f"{name}-{at or 0}" for name in arm.needs)
        planned = PlannedArm(
            arm.name, arm.family, at, folder_of(arm.name, at), transitive(needs, jobs)
        )
        own = filled(arm.settings, _places(suite, order.root, at or 0))
        own |= {"limit": order.limit, "n": order.n, "seed": 0, "detail": True}
        spec = settings.of("eval", own)
        matched = arm.matched and f"{arm.matched}-{at or 0}"
        if matched:
            spec = at_found(spec, order.root / matched)
        jobs.append(Job(planned.path, planned.label, "eval", spec, needs, matched))
        arms.append(planned)
    return Plan(tuple(jobs), tuple(arms))


def folder_of(name: str, seed: int | None) -> str:
    plain = name.replace(", ", "-").replace(" + ", "+").replace(" ", "-").replace("'", "")
    return plain if seed is None else f"{plain}-{seed}"


def transitive(needs: Sequence[str], jobs: Sequence[Job]) -> tuple[str, ...]:
    """`needs`, and what these need, in the order of `jobs`."""
    found = set(needs)
    for job in reversed(jobs):
        if job.name in found:
            found |= set(job.needs)
    return tuple(job.name for job in jobs if job.name in found)


def filled(value: Any, places: Mapping[str, str]) -> Any:
    """`value` with each {NAME} in its texts replaced by the place of that name."""
    if isinstance(value, Mapping):
        return {key: filled(child, places) for key, child in value.items()}
    if isinstance(value, list):
        return [filled(child, places) for child in value]
    if isinstance(value, str):
        for name, place in places.items():
            value = value.replace(f"{{{name}}}", place)
    return value


def _places(suite: Suite, root: Path, seed: int) -> dict[str, str]:
    return {
        name: str(root / f"{name}-{seed}") for name in (*(s.name for s in suite.stages), "bank")
    }
