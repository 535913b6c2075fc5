"""A training session, wired, recorded and resumable; the same for one process and for several."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.config import TrainSpec
from cli import wiring
from cli.sessions import write_rows
from tfgrpo.errors import BackendError, BudgetStop, ConfigError
from tfgrpo.ledger import Ledger
from tfgrpo.prompts import load_pack
from tfgrpo.rollout import gold_grader
from tfgrpo.runs import RunDir, step_row
from tfgrpo.seeding import derive_seed
from tfgrpo.settings import dump
from tfgrpo.types import StepRecord, Usage

if TYPE_CHECKING:
    from baselines.trainer import Trainer

STEPS, POINTER, WEIGHTS = "steps.jsonl", "checkpoint.json", "weights"
OnStep = Callable[[StepRecord], None]


def build_trainer(spec: TrainSpec) -> Trainer:
    """Model, tasks and grader of `spec`, ready to train. Raises ConfigError if something is off."""
    import torch

    from baselines.trainer import Trainer, World
    from tfgrpo.llm.transformers_local import identify, load

    threads = wiring.pocket_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    bench = wiring.build_tasks(spec.tasks, spec.reward)
    tasks = bench.tasks.tasks("train", spec.train_limit, derive_seed(spec.seed, "tasks"))
    if len(tasks) < spec.prompts:
        raise ConfigError(
            f"The tasks {bench.tasks.name} have {len(tasks)} training problems, and a step takes "
            f"{spec.prompts}; lower prompts or give more tasks."
        )
    probe = spec.probe.limit if spec.probe.every else 0
    probes = bench.tasks.tasks("dev", probe, derive_seed(spec.seed, "probe")) if probe else ()
    path = wiring.weights_of(spec.model)
    model, tokenizer = load(path, "cpu", "float32")
    world = World(
        model=model,
        tokenizer=tokenizer,
        name=identify(path, model),
        pack=load_pack(spec.pack),
        tasks=tasks,
        probe=probes,
        grader=gold_grader(bench.reward),
        wrap=wiring.metering(spec.budget, spec.price),
    )
    return Trainer(spec, world)


def run_training(spec: TrainSpec, run: RunDir | None, folder: Path, on_step: OnStep) -> None:
    """Train, or go on after the last checkpoint; `run` is None in all processes but the first."""
    if (folder / WEIGHTS / "config.json").is_file():
        return
    trainer = build_trainer(spec)
    saved = _pointer(folder)
    if saved is not None:
        trainer.load(folder / saved["folder"])
    if run is not None:
        _keep_steps(run, trainer.position.step)
    if spec.trackers:
        trainer.accelerator.init_trackers("tfgrpo", config=flat(dump(spec)))
    try:
        try:
            for record in trainer.run():
                _must_be_finite(record)
                if spec.trackers:
                    told = {"reward_mean": record.reward_mean, **record.metrics}
                    trainer.accelerator.log(told, step=record.step)
                if run is not None:
                    run.append(STEPS, used_row(record))
                    on_step(record)
                done = trainer.position.step
                if done % spec.checkpoint_every == 0 or done == spec.steps:
                    checkpoint(trainer, run, folder)
        except BudgetStop:
            checkpoint(trainer, run, folder)
            raise
        finally:
            if run is not None:
                write_ledger(run, trainer.parameters)
        trainer.export(folder / WEIGHTS)
    finally:
        trainer.close()
        trainer.accelerator.end_training()


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings with dotted keys and plain values, as trackers want them."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, int | float | str) else str(value)
    return found


def used_row(record: StepRecord) -> dict[str, Any]:
    """The row of a step that pays for itself: no store of calls could be summed up instead."""
    return step_row(record) | {"usage": {p: asdict(usage) for p, usage in record.usage.items()}}


def checkpoint(trainer: Trainer, run: RunDir | None, folder: Path) -> None:
    """Save the whole state, point to it, and only then delete the one before."""
    name = f"checkpoint-{trainer.position.step}"
    trainer.save(folder / name)
    if run is None:
        return
    run.write_json(POINTER, {"folder": name, "step": trainer.position.step})
    for old in folder.glob("checkpoint-*"):
        if old.name != name:
            shutil.rmtree(old)


def _pointer(folder: Path) -> dict[str, Any] | None:
    path = folder / POINTER
    if not path.is_file():
        return None
    found: dict[str, Any] = RunDir.open(folder).read_json(POINTER)
    return found


def _keep_steps(run: RunDir, steps: int) -> None:
    """Drop the rows of steps that came after the checkpoint: they are made again."""
    rows = list(run.read_rows(STEPS))
    if len(rows) > steps:
        write_rows(run, STEPS, rows[:steps])


def _must_be_finite(record: StepRecord) -> None:
    bad = sorted(name for name, value in record.metrics.items() if not math.isfinite(value))
    if bad:
        raise BackendError(
            f"Step {record.step} gave no finite {', '.join(bad)}; lower optimiser.lr, or choose "
            "another precision, and start a new run."
        )


def write_ledger(run: RunDir, parameters: int) -> Ledger:
    ledger = Ledger()
    for row in run.read_rows(STEPS):
        for phase, usage in row["usage"].items():
            ledger = ledger.plus(phase, Usage(**usage))
    run.write_json("ledger.json", ledger.to_json())
    run.write_json("parameters.json", {"rollout": parameters, "train": parameters})
    return ledger
