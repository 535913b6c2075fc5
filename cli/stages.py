"""The graph of a bench: stages and arms of a suite as jobs with their settings, and how one runs.

Loads no torch until a job is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cli.suites import ArmPlan, Kind, Suite
from tfgrpo.settings import dump, load, merged

if TYPE_CHECKING:
    from tfgrpo.verdict.arms import Family

Table = Mapping[str, Any]
SHARED = ("tasks", "model", "pack", "reward", "sampling", "price")
SCOPES = ("learn", "train", "imitate", "eval")


@dataclass(frozen=True, slots=True)
class Job:
    """A run in the folder `name` of the bench, after the jobs that `needs` names."""

    name: str
    label: str
    kind: Kind | Literal["eval"]
    spec: Any
    needs: tuple[str, ...] = ()


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
    """What was asked for: `flags` are KEY=VALUE, or SCOPE.KEY=VALUE for one of `SCOPES` alone."""

    root: Path
    seeds: int
    limit: int
    n: int
    flags: tuple[str, ...] = ()
    preset: str = "abacus"


def plan_of(suite: Suite, order: Order) -> Plan:
    """The jobs and arms of a suite. Raises ConfigError if any of their settings is wrong."""
    settings = _Settings(suite, order)
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
        needs = tuple(f"{name}-{at}" for name in arm.needs)
        planned = PlannedArm(
            arm.name, arm.family, at, folder_of(arm.name, at), transitive(needs, jobs)
        )
        own = filled(arm.settings, _places(suite, order.root, at or 0))
        own |= {"limit": order.limit, "n": order.n, "seed": 0, "detail": True}
        jobs.append(Job(planned.path, planned.label, "eval", settings.of("eval", own), needs))
        arms.append(planned)
    return Plan(tuple(jobs), tuple(arms))


def folder_of(name: str, seed: int | None) -> str:
    plain = name.replace(", ", "-").replace(" + ", "+").replace(" ", "-")
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


# settings -----------------------------------------------------------------------------------------


class _Settings:
    """Settings of every kind of job: a preset, the user's flags over it, the job's own on top."""

    def __init__(self, suite: Suite, order: Order) -> None:
        from tfgrpo.presets import preset

        self._flags = order.flags
        self._preset = preset(order.preset)
        self._models = _specs({stage.kind for stage in suite.stages})
        self._model = self._load("eval", {}, {}).model

    def of(self, kind: str, own: Table) -> Any:
        trained = own.get("model")
        if trained and self._model.kind == "abacus":  # as the base is run
            rows = self._model.max_batch_rows
            own = {**own, "model": {**trained, "device": "cpu", "max_batch_rows": rows}}
        spec = self._load(kind, self._defaults(kind, own), own)
        _check(kind, spec)
        return spec

    def _load(self, kind: str, defaults: Table, own: Table) -> Any:
        model = self._models[kind]
        below = {k: v for k, v in self._preset.items() if k in model.model_fields}
        if kind != "learn":
            below = {k: v for k, v in below.items() if k in SHARED}
        first = load(model, None, self._given(kind, own), merged(merged(below, defaults), own))
        return load(model, None, (), merged(dump(first), own))

    def _defaults(self, kind: str, own: Table) -> Table:
        from baselines.imitation_config import POCKET
        from baselines.methods import method, pocket

        small = self._model.kind == "abacus"
        if kind == "train":
            name = own["method"]
            # As in the table of the weights arm in the docs.
            return {**pocket(name), "precision": "bfloat16"} if small else method(name).settings
        return POCKET if kind == "imitate" and small else {}

    def _given(self, kind: str, own: Table) -> list[str]:
        """The flags that are meant for jobs of a kind; learning tells of those that none knows."""
        known = {key for model in self._models.values() for key in model.model_fields}
        kept = []
        for flag in self._flags:
            scope, dot, rest = flag.partition(".")
            if dot and scope in SCOPES:
                kept += [rest] if scope == kind else []
                continue
            key = flag.partition("=")[0].partition(".")[0].strip()
            mine = key in self._models[kind].model_fields or (kind == "learn" and key not in known)
            if mine and (key != "memory" or "memory" in own):
                kept.append(flag)
        return kept


def _specs(kinds: set[Kind]) -> dict[str, Any]:
    from baselines.config import TrainSpec
    from baselines.imitation_config import ImitateSpec
    from tfgrpo.config import EvalSpec, LearnSpec

    every = {"learn": LearnSpec, "train": TrainSpec, "imitate": ImitateSpec, "eval": EvalSpec}
    return {kind: spec for kind, spec in every.items() if kind in {*kinds, "eval"}}


def _check(kind: str, spec: Any) -> None:
    from baselines import config, imitation_config

    if kind == "train":
        config.check(spec)
    elif kind == "imitate":
        imitation_config.check(spec)
