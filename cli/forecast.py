"""How long a bench takes: seconds of a measured probe times the work of each job."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.stages import Job, Plan

if TYPE_CHECKING:
    from baselines.config import TrainSpec
    from tfgrpo.config import EvalSpec

PROBLEMS, REPLIES = 4, 64
RIGHT = 0.5
"""The share of replies that is taken to be right where only those are learned from."""

PROBED = 8
"""Temperatures that a search for an entropy usually tries, the base's own among them."""


@dataclass(frozen=True, slots=True)
class Work:
    """Replies that a job samples; that it samples and trains on once; that it only trains on."""

    sampled: float = 0.0
    stepped: float = 0.0
    trained: float = 0.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds of a sampled reply, and of one in a training step: sampled and trained on once."""

    sampled: float
    stepped: float = 0.0

    def seconds(self, work: Work) -> float:
        trained = max(0.0, self.stepped - self.sampled)
        return work.sampled * self.sampled + work.stepped * self.stepped + work.trained * trained


def work_of(job: Job, plan: Plan) -> Work:
    """The replies of a job, from its settings alone; those of reflection are few or short."""
    spec = job.spec
    match job.kind:
        case "eval":
            return Work(sampled=spec.limit * spec.n)
        case "learn":
            return Work(sampled=spec.epochs * spec.train_limit * spec.group_size)
        case "train":
            replies = spec.steps * spec.prompts * spec.group_size
            return Work(stepped=replies, trained=replies * (spec.epochs - 1))
        case "match":
            return Work(sampled=PROBED * spec.limit * spec.n)
    source = spec.source
    if source.kind == "rejection":
        seen = work_of(plan.job(job.needs[0]), plan).sampled
        return Work(trained=spec.epochs * RIGHT * seen)
    rounds = getattr(source, "rounds", 1)
    seen = rounds * spec.train_limit * source.samples
    kept = {"distil": seen, "diverse": spec.train_limit * getattr(source, "keep", 0)}
    return Work(sampled=seen, trained=spec.epochs * kept.get(source.kind, RIGHT * seen))


def expected_seconds(plan: Plan, rates: Rates | None) -> dict[str, float]:
    """Seconds of each job alone; without rates its replies, which order the jobs as well."""
    per = rates or Rates(1.0, 2.0)
    return {job.name: per.seconds(work_of(job, plan)) for job in plan.jobs}


def remaining_seconds(
    jobs: Sequence[Job],
    expected: Mapping[str, float],
    over: Mapping[str, float],
    elapsed: Mapping[str, float],
    slots: int,
) -> float:
    """What is left on `slots` processes: sum over jobs / slots, at least the longest job.

    A job's expectation is scaled by actual / expected of the finished jobs of its kind, or of all
    finished jobs if there is none of its kind. `elapsed` are the seconds that the running jobs
    have taken so far.
    """

    def scale(kind: str) -> float:
        done = [job.name for job in jobs if job.name in over]
        alike = [job.name for job in jobs if job.name in over and job.kind == kind] or done
        hoped = sum(expected[name] for name in alike)
        return sum(over[name] for name in alike) / hoped if hoped else 1.0

    left = [
        max(0.0, expected[job.name] * scale(job.kind) - elapsed.get(job.name, 0.0))
        for job in jobs
        if job.name not in over
    ]
    return max(sum(left) / slots, max(left, default=0.0))


def spoken(seconds: float) -> str:
    """90 as `2 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def cost_sentence(plan: Plan) -> str | None:
    """At most how many dollars the replies cost, from their number and longest length.

    None for models in this process.
    """
    priced = [job for job in plan.jobs if job.kind != "match"]  # those know local models only
    paid = [job for job in priced if job.spec.model.kind == "openai"]
    if not paid:
        return None
    bounds = [
        work_of(job, plan).sampled * job.spec.sampling.max_tokens * job.spec.price.completion / 1e6
        for job in paid
        if job.spec.price.completion is not None
    ]
    replies = sum(work_of(job, plan).sampled for job in paid)
    if len(bounds) < len(paid):
        return (
            f"What {replies:.0f} replies cost is unknown; give --set price.prompt=USD and --set "
            "price.completion=USD, of a million tokens."
        )
    return (
        f"{replies:.0f} replies cost at most ${sum(bounds):.2f}; prompts and reflection add to it."
    )


# the probe ----------------------------------------------------------------------------------------


def probe(evaluation: EvalSpec, training: TrainSpec | None) -> Rates:
    """Sample a few problems, and make a training step, on this machine; leaves nothing behind."""
    sampled = _sampling(evaluation)
    return Rates(sampled, _training(training) if training else 0.0)


def _sampling(spec: EvalSpec) -> float:
    """Seconds of a reply, with all that an evaluation does besides, but for loading the model."""
    from cli import sessions, wiring

    small = spec.model_copy(update={"limit": min(PROBLEMS, spec.limit), "n": min(REPLIES, spec.n)})
    with (
        tempfile.TemporaryDirectory() as folder,
        sessions.open_run(Path(folder) / "probe", small, "eval") as opened,
        wiring.session(opened.path / sessions.CALLS, small.budget, small.price) as models,
    ):
        models.get(small.model)
        started = time.monotonic()
        sessions.run_evaluation(small, opened, models, sessions.Watch())
        return (time.monotonic() - started) / (small.limit * small.n)


def _training(spec: TrainSpec) -> float:
    """Seconds of a reply in the second step of a small run: the first one warms up."""
    from cli.training import build_trainer

    prompts = min(PROBLEMS, spec.prompts)
    small = spec.model_copy(
        update={"steps": 2, "prompts": prompts, "minibatches": 1, "trackers": ()}
    )
    *_, last = build_trainer(small).run()
    return float(last.metrics["seconds"]) / (prompts * spec.group_size)


def probed(plan: Plan) -> tuple[Any, Any] | None:
    """What `probe` takes of a plan; None for a model that somebody else is paid for."""
    evaluation = next(job.spec for job in plan.jobs if job.kind == "eval")
    if evaluation.model.kind == "openai":
        return None
    training = next((job.spec for job in plan.jobs if job.kind == "train"), None)
    return evaluation, training
