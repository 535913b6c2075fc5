"""`tfgrpo tasks`: what can be asked of a model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options

if TYPE_CHECKING:
    from tfgrpo.config import EvalSpec
    from tfgrpo.tasks.overlap import Overlap
    from tfgrpo.types import Task

GENERATED = 1000
"""How many problems of an endless set are compared with others."""

app = typer.Typer(
    no_args_is_help=True, help="List tasks, look at their problems, try their grader."
)

TasksArgument = Annotated[str, typer.Argument(help="As in --tasks.")]


@app.command("list")
def list_tasks(json: options.Json = False) -> None:
    """Generated families, standard sets, reasoning-gym, and what installed packages offer."""
    from tfgrpo.plugins import offered
    from tfgrpo.tasks.families import FAMILIES
    from tfgrpo.tasks.gym import FAMILIES as GYM
    from tfgrpo.tasks.presets import PRESETS

    plugins = offered("tfgrpo.tasks")
    if json:
        families = {f.name: {"title": f.title, "modes": f.modes} for f in FAMILIES.values()}
        console.print_json(
            {"families": families, "sets": PRESETS, "gym": sorted(GYM), "plugins": plugins}
        )
        return
    rows = [(f.name, f.title, ", ".join(f.modes)) for f in FAMILIES.values()]
    console.show(console.table("", ("family", "what", "strategies"), rows, text=True))
    sets = [
        (f"set:{p.name}", p.title, p.train_rows or "", p.test_rows or "", p.reward, p.licence)
        for p in PRESETS.values()
    ]
    columns = ("set", "what", "train", "test", "grader", "licence")
    console.show("")
    console.show(console.table("", columns, sets, text=True))
    console.show(f"\nreasoning-gym (gym:NAME): {', '.join(sorted(GYM))}")
    if plugins:
        console.show(f"plugins (plugin:NAME): {console.safe(', '.join(plugins))}")
    console.note(
        "Your own problems: jsonl:PATH or MODULE:FUNCTION. Others: hf:ID[:SUBSET]. A set from a "
        "file: set:NAME@PATH."
    )


@app.command("show")
def show(
    tasks: TasksArgument,
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "train",
    limit: Annotated[int, typer.Option(min=1)] = 5,
    seed: Annotated[int, typer.Option()] = 0,
    more: options.Set = None,
    json: options.Json = False,
) -> None:
    """Some problems with their gold answers."""
    from cli.wiring import build_tasks

    spec = _settings(tasks, split, more)
    found = build_tasks(spec.tasks, spec.reward).tasks.tasks(spec.split, limit, seed)
    if json:
        console.print_json(found)
        return
    rows = [(t.task_id, console.safe(t.prompt), console.safe(t.answer or "")) for t in found]
    console.show(console.table("", ("id", "problem", "gold"), rows, text=True))


@app.command("grade")
def grade(
    tasks: TasksArgument,
    reply: Annotated[
        str | None,
        typer.Option(help="A reply to all of them; default: 'Answer: ' and the gold answer."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "train",
    limit: Annotated[int, typer.Option(min=1)] = 5,
    seed: Annotated[int, typer.Option()] = 0,
    more: options.Set = None,
    json: options.Json = False,
) -> None:
    """Try the grader on a reply of your own, without any model; ends with 1 if it fails."""
    from cli.wiring import build_tasks
    from tfgrpo.types import Failure

    spec = _settings(tasks, split, more)
    bench = build_tasks(spec.tasks, spec.reward)
    found = bench.tasks.tasks(spec.split, limit, seed)
    replies = [f"Answer: {task.answer}" if reply is None else reply for task in found]
    graded = [bench.reward.score(*pair) for pair in zip(found, replies, strict=True)]
    if json:
        console.print_json([_graded(*pair) for pair in zip(found, graded, strict=True)])
    else:
        rows = [
            (t.task_id, console.safe(t.answer or ""), *_told(g))
            for t, g in zip(found, graded, strict=True)
        ]
        columns = ("id", "gold", "reward", "right", "read as")
        console.show(console.table("", columns, rows, text=True))
    if any(isinstance(g, Failure) for g in graded):
        raise typer.Exit(1)


@app.command("overlap")
def overlap(
    learned: Annotated[str, typer.Argument(help="What is learned from, as in --tasks.")],
    asked: Annotated[str, typer.Argument(help="What is asked in the evaluation, as in --tasks.")],
    learned_split: Annotated[str, typer.Option(help="train, dev or test.")] = "train",
    asked_split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="How many of each; default: all, or 1000 of generated ones."),
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="How many pairs to print.")] = 10,
    json: options.Json = False,
) -> None:
    """Compare two sets; ends with 1 if problems that are asked were learned from."""
    from tfgrpo.tasks.overlap import overlap

    found = overlap(_all(learned, learned_split, limit), _all(asked, asked_split, limit))
    if json:
        console.print_json(
            {
                "learned": found.learned,
                "asked": found.asked,
                "known": sorted(found.known),
                "rules": found.rules,
                "other_numbers": found.other_numbers,
                "pairs": [
                    {"learned": p.learned.task_id, "asked": p.asked.task_id, "rule": p.rule,
                     "similarity": p.similarity, "learned_prompt": p.learned.prompt,
                     "asked_prompt": p.asked.prompt}
                    for p in found.pairs
                ],
            }
        )  # fmt: skip
    else:
        _print(found, examples)
    if found.pairs:
        raise typer.Exit(1)


def _all(tasks: str, split: str, limit: int | None) -> Sequence[Task]:
    """All tasks of a split; of generated ones, which never end, the first."""
    from cli.wiring import build_tasks
    from tfgrpo.errors import ConfigError

    spec = _settings(tasks, split, None)
    source = build_tasks(spec.tasks, spec.reward).tasks
    endless = spec.tasks.kind in ("procedural", "gym") or hasattr(source, "reward")
    found = source.tasks(spec.split, limit or (GENERATED if endless else sys.maxsize), 0)
    if not found:
        raise ConfigError(f"The tasks {tasks} have no {split} split; choose another split.")
    return found


def _print(found: Overlap, examples: int) -> None:
    console.show(
        f"learned from: {found.learned:,}    asked: {found.asked:,}    "
        f"asked and learned from: {len(found.known) or 'none'}"
    )
    if found.pairs:
        rules = [(rule, f"{count:,}") for rule, count in found.rules.items()]
        console.show(console.table("", ("rule", "pairs"), rows=rules))
    if found.other_numbers:
        console.note(f"{found.other_numbers:,} pairs differ in their numbers only, and are none.")
    for pair in found.pairs[:examples]:
        console.show(
            f"\n{pair.rule}, {pair.similarity:.2f}\n  {console.safe(pair.learned.prompt)}"
            f"\n  {console.safe(pair.asked.prompt)}"
        )
    if len(found.pairs) > examples:
        console.note(f"{len(found.pairs) - examples:,} more; all of them: --json.")


def _settings(tasks: str, split: str, more: list[str] | None) -> EvalSpec:
    from tfgrpo.config import EvalSpec
    from tfgrpo.settings import load

    return load(EvalSpec, None, options.overrides({"tasks": tasks, "split": split}, more))


def _graded(task: Task, graded: object) -> dict[str, Any]:
    from tfgrpo.types import Failure

    key = "failure" if isinstance(graded, Failure) else "score"
    return {"task_id": task.task_id, "answer": task.answer, key: graded}


def _told(graded: Any) -> tuple[str, str, str]:
    from tfgrpo.types import Failure

    if isinstance(graded, Failure):
        return "failed", "", console.safe(graded.reason)
    right = "yes" if graded.correct else "no"
    return f"{graded.reward:g}", right, console.safe(graded.answer or "nothing")
