"""`tfgrpo rescore`: the stored replies of an evaluation under another verifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options

if TYPE_CHECKING:
    from cli.wiring import Bench
    from tfgrpo.config import EvalSpec
    from tfgrpo.runs import RunDir
    from tfgrpo.types import Task, TaskOutcome
    from tfgrpo.verdict.regrade import Flip, Regraded

RESCORED = "rescored.jsonl"
KEPT = ("ledger.json", "parameters.json", "faults.json", "reads.jsonl")
EXAMPLES = 5
SHOWN = 60


@dataclass(frozen=True, slots=True)
class Stored:
    """One problem of an evaluation run: as it was sampled, and as its tasks have it now."""

    task: Task
    outcome: TaskOutcome
    row: dict[str, Any]


def rescore(
    run: Annotated[Path, typer.Argument(help="A finished evaluation run; it stays as it is.")],
    reward: Annotated[
        str | None,
        typer.Option(help="Another verifier; by default the run's own.", show_default=False),
    ] = None,
    more: options.Set = None,
    out: Annotated[
        Path | None, typer.Option("--run", help="The new run folder.", show_default=False)
    ] = None,
    json: options.Json = False,
) -> None:
    """Grade stored replies again, into a new evaluation run; nothing is sampled.

    Tells how many verdicts changed, and shows some. A changed gold answer counts, too.
    """
    from cli.audit import closing
    from cli.wiring import build_tasks
    from tfgrpo.runs import RunDir
    from tfgrpo.settings import dump
    from tfgrpo.verdict.regrade import regrade

    old = RunDir.open(run)
    spec = _spec(old, reward, more)
    folder = options.run_folder(out, "eval", dump(spec))
    _check_place(old, folder)
    with closing(build_tasks(spec.tasks, spec.reward)) as bench:
        _check_used(spec, bench, reward)
        stored = _stored(old, spec, bench)
        found = [regrade(s.task, s.outcome, s.row["texts"], bench.reward) for s in stored]
    told = _summary(old, spec, stored, found)
    with RunDir.create(folder, dump(spec), "eval") as new:
        _write(old, new, stored, found, told)
    if json:
        console.print_json({"run": folder, **told})
        return
    _print(told, [flip for one in found for flip in one.flips])
    console.note(f"Samples and outcomes are in {console.safe(folder)}.")


def _spec(old: RunDir, reward: str | None, more: Sequence[str] | None) -> EvalSpec:
    from tfgrpo.config import EvalSpec
    from tfgrpo.errors import ConfigError
    from tfgrpo.settings import load
    from tfgrpo.verdict.own import OUTCOMES

    if old.kind != "eval" or not old.file(OUTCOMES).is_file():
        raise ConfigError(f"{old.path} is no finished evaluation; give a run of tfgrpo eval.")
    for setting in more or ():
        if not setting.startswith("reward"):
            raise ConfigError(f"--set {setting} is not of the reward; set reward.KEY=VALUE only.")
    flags = options.overrides({"reward": reward}, list(more or ()))
    return load(EvalSpec, None, flags, old.config)


def _check_place(old: RunDir, folder: Path) -> None:
    from tfgrpo.errors import ConfigError

    if folder.resolve().is_relative_to(old.path.resolve()):
        raise ConfigError(f"{folder} lies in the run that is graded again; give another --run.")


def _check_used(spec: EvalSpec, bench: Bench, reward: str | None) -> None:
    """Raise ConfigError for the name of a reward where the tasks bring a grader of their own."""
    from tfgrpo.errors import ConfigError
    from tfgrpo.tasks.gym import GymReward
    from tfgrpo.tasks.procedural import FamilyReward

    named = isinstance(spec.reward, str) and reward not in (None, "exact")
    if named and isinstance(bench.reward, FamilyReward | GymReward):
        raise ConfigError(
            f"The tasks {bench.tasks.name} have a grader of their own; leave out --reward, or give "
            "MODULE:FUNCTION."
        )


def _stored(old: RunDir, spec: EvalSpec, bench: Bench) -> list[Stored]:
    """The problems in their order, with the gold answers that the tasks have now.

    Raises:
        ConfigError: if the tasks have not all of them any more.
        RunError: if samples and outcomes do not fit.
    """
    from tfgrpo.errors import ConfigError, RunError
    from tfgrpo.seeding import derive_seed
    from tfgrpo.verdict.own import SAMPLES, read_outcomes

    drawn = bench.tasks.tasks(spec.split, spec.limit, derive_seed(spec.seed, "tasks"))
    tasks = {task.task_id: task for task in drawn}
    outcomes, rows = read_outcomes(old), list(old.read_rows(SAMPLES))
    stored = []
    if len(outcomes) != len(rows):
        raise RunError(f"The samples and outcomes in {old.path} do not fit; evaluate again.")
    for outcome, row in zip(outcomes, rows, strict=True):
        if (row["task_id"], len(row["texts"])) != (outcome.task_id, outcome.n):
            raise RunError(f"The samples and outcomes in {old.path} do not fit; evaluate again.")
        task = tasks.get(outcome.task_id)
        if task is None or task.prompt != row["prompt"]:
            raise ConfigError(
                f"The tasks {bench.tasks.name} have the problem {outcome.task_id} no more; restore "
                "it, or evaluate again."
            )
        stored.append(Stored(task, outcome, row))
    return stored


def _summary(
    old: RunDir, spec: EvalSpec, stored: Sequence[Stored], found: Sequence[Regraded]
) -> dict[str, Any]:
    flips = [flip for one in found for flip in one.flips]
    return {
        "from": old.path,
        "identity": old.identity,
        "reward_before": old.config["reward"],
        "reward": spec.reward if isinstance(spec.reward, str) else spec.reward.model_dump(),
        "problems": len(stored),
        "samples": sum(one.outcome.n for one in stored),
        "right_before": sum(one.outcome.c for one in stored),
        "right": sum(one.outcome.c for one in found),
        "to_right": sum(not flip.was_right for flip in flips),
        "to_wrong": sum(flip.was_right for flip in flips),
        "not_graded": sum(len(one.failures) for one in found),
        "other_golds": sum(one.task.answer != one.row["gold"] for one in stored),
    }


def _write(
    old: RunDir,
    new: RunDir,
    stored: Sequence[Stored],
    found: Sequence[Regraded],
    told: dict[str, Any],
) -> None:
    """The files of an evaluation; the outcomes, which say that it is over, come last."""
    from cli.sessions import write_rows
    from tfgrpo.canonical import fingerprint
    from tfgrpo.metrics.pass_at_k import powers_of_two
    from tfgrpo.metrics.summary import summarise
    from tfgrpo.tokens import TOKENS
    from tfgrpo.verdict.own import BEGAN, OUTCOMES, SAMPLES

    began = next(iter(old.read_rows(BEGAN)), {})
    tasks = fingerprint([[s.task.task_id, s.task.prompt, s.task.answer] for s in stored])
    new.append(BEGAN, began | {"tasks": tasks})
    new.append(RESCORED, told)
    # Token ids are in the order of the samples: where one is gone, they would be another's.
    names = KEPT if told["not_graded"] else (*KEPT, TOKENS)
    for name in names:
        if old.file(name).is_file():
            new.write_bytes(name, old.file(name).read_bytes())
    rows = [_row(before, after) for before, after in zip(stored, found, strict=True)]
    outcomes = tuple(one.outcome for one in found)
    write_rows(new, SAMPLES, rows)
    ks = powers_of_two(int(new.config["n"]))
    seed = int(new.config["seed"])
    new.write_json("summary.json", summarise(outcomes, ks, seed, allow_missing=True))
    write_rows(new, OUTCOMES, outcomes)


def _row(before: Stored, after: Regraded) -> dict[str, Any]:
    return before.row | {
        "gold": before.task.answer,
        "texts": [before.row["texts"][i] for i in after.kept],
        "correct": after.outcome.correct,
        "failures": [*before.row["failures"], *after.failures],
    }


def _print(told: dict[str, Any], flips: Sequence[Flip]) -> None:
    rows = [
        ("right before", told["right_before"]),
        ("right now", told["right"]),
        ("wrong -> right", told["to_right"]),
        ("right -> wrong", told["to_wrong"]),
        ("not graded now", told["not_graded"]),
        ("problems with another gold answer", told["other_golds"]),
    ]
    title = f"{told['problems']} problems, {told['samples']} samples"
    console.show(console.table(title, ("", "samples"), rows))
    for flip in flips[:EXAMPLES]:
        word = "right -> wrong" if flip.was_right else "wrong -> right"
        read = f"{flip.answer_before!r} -> {flip.answer!r}, gold {flip.task.answer!r}"
        end = " ".join(flip.text.split())[-SHOWN:]
        console.show(console.safe(f"{word}  {flip.task.task_id}  {read}: ...{end}"))
