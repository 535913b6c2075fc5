"""What a policy learned from must not be what it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cli import console, wiring
from tfgrpo.config import EvalSpec
from tfgrpo.errors import ConfigError, TfgrpoError
from tfgrpo.runs import RunDir
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Task
from tfgrpo.verdict.own import learned_by, trained_by


def check(spec: EvalSpec, asked: Sequence[Task]) -> None:
    """Compare the problems of an evaluation with those of the runs behind its policy.

    Near duplicates are told, and counted as they are. Learning problems that can no longer be had
    are passed over.

    Raises:
        ConfigError: if a problem, or its very question, was learned from.
    """
    from tfgrpo.tasks.overlap import overlap

    for run in _makers(spec):
        found = overlap(_learned_from(run), asked)
        same = [pair for pair in found.pairs if pair.rule != "near duplicate"]
        if same:
            raise ConfigError(
                f"{len({pair.asked.task_id for pair in same})} of {len(asked)} problems were "
                f"learned from in {run.path}, the first is {same[0].asked.task_id} "
                f"({same[0].rule}); leave them out of the tasks, or choose another split."
            )
        if found.pairs:
            console.note(
                f"{len(found.known)} of {len(asked)} problems are near duplicates of problems "
                f"learned from in {console.safe(run.path)}; see: tfgrpo tasks overlap."
            )


def _makers(spec: EvalSpec) -> Iterator[RunDir]:
    settings: dict[str, Any] = spec.model_dump(mode="json")
    for run in (trained_by(settings["model"]), learned_by(settings["policy"])):
        if run is not None:
            yield run


def _learned_from(run: RunDir) -> Sequence[Task]:
    from pydantic import TypeAdapter, ValidationError

    from tfgrpo.config import RewardChoice, TasksSpec

    config = run.config
    if not config.get("tasks") or not config.get("train_limit"):
        return ()
    try:
        tasks = TypeAdapter(TasksSpec).validate_python(config["tasks"])
        reward = TypeAdapter(RewardChoice).validate_python(config["reward"])
        seed = derive_seed(config["seed"], "tasks")
        return wiring.build_tasks(tasks, reward).tasks.tasks("train", config["train_limit"], seed)
    except (TfgrpoError, ValidationError):
        return ()
