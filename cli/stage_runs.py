"""One job of a bench in its folder, begun or gone on with."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from baselines.imitation_config import ImitateSpec
    from cli.match_runs import MatchSpec
    from cli.stages import Job
    from tfgrpo.config import EvalSpec, LearnSpec


def run_job(root: Path, job: Job) -> float:
    """Run or resume a job; the seconds that it took in this session."""
    started = time.monotonic()
    folder = root / job.name
    match job.kind:
        case "learn":
            learn(folder, job.spec)
        case "train":
            from cli.train import train_in

            train_in(folder, job.spec)
        case "imitate":
            imitate(folder, job.spec)
        case "match":
            match(folder, job.spec)
        case "eval":
            evaluate(folder, spec_now(root, job), job.label)
    gc.collect()  # models hang in cycles, and the next job of this process wants their memory
    return time.monotonic() - started


def spec_now(root: Path, job: Job) -> EvalSpec:
    """The settings of an evaluation, with the temperature that was found since it was planned."""
    from cli.match_runs import at_found

    spec: EvalSpec = job.spec
    return at_found(spec, root / job.matched) if job.matched else spec


def match(folder: Path, spec: MatchSpec) -> None:
    from cli import sessions
    from cli.match_runs import run_match

    with sessions.open_run(folder, spec, "match") as opened:
        run_match(spec, opened)


def learn(folder: Path, spec: LearnSpec) -> None:
    from cli import sessions, wiring
    from cli.watch import learning_watch

    with (
        sessions.open_run(folder, spec, "learn") as opened,
        wiring.session(folder / sessions.CALLS, spec.budget, spec.price) as models,
        learning_watch(spec, models.meter) as watch,
    ):
        sessions.run_learning(spec, opened, models, watch)


def imitate(folder: Path, spec: ImitateSpec) -> None:
    from cli import sessions
    from cli.imitate import build_world, run_imitation
    from cli.training import WEIGHTS

    world = None if (folder / WEIGHTS).is_dir() else build_world(spec)
    with sessions.open_run(folder, spec, "imitate") as opened:
        if world is not None:
            run_imitation(spec, opened, world)


def evaluate(folder: Path, spec: EvalSpec, label: str) -> None:
    from cli import sessions, wiring
    from cli.cases_fit import FIT, fit_once
    from cli.watch import evaluation_watch

    with (
        sessions.open_run(folder, spec, "eval") as opened,
        wiring.session(folder / sessions.CALLS, spec.budget, spec.price) as models,
        evaluation_watch(spec, models.meter, f"Evaluating {label}") as watch,
    ):
        if spec.memory is not None and spec.memory.read == "neural":
            opened.write_json(FIT, fit_once(spec.memory).notes)
        sessions.run_evaluation(spec, opened, models, watch)
