"""`tfgrpo tasks`: what can be asked of a model."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import console, options

app = typer.Typer(no_args_is_help=True, help="List task families, and look at their problems.")


@app.command("list")
def list_families(json: options.Json = False) -> None:
    """The generated families and their strategies."""
    from tfgrpo.tasks.families import FAMILIES

    if json:
        console.print_json(
            {f.name: {"title": f.title, "modes": f.modes} for f in FAMILIES.values()}
        )
        return
    rows = [(f.name, f.title, ", ".join(f.modes)) for f in FAMILIES.values()]
    console.show(console.table("", ("family", "what", "strategies"), rows, text=True))
    console.note("Your own problems: jsonl:PATH. Others: hf:ID[:SUBSET], gym:NAME.")


@app.command("show")
def show(
    tasks: Annotated[str, typer.Argument(help="As in --tasks.")],
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "train",
    limit: Annotated[int, typer.Option(min=1)] = 5,
    seed: Annotated[int, typer.Option()] = 0,
    json: options.Json = False,
) -> None:
    """Some problems with their gold answers."""
    from cli.wiring import build_tasks
    from tfgrpo.config import EvalSpec
    from tfgrpo.settings import load

    spec = load(EvalSpec, None, options.overrides({"tasks": tasks, "split": split}, None))
    found = build_tasks(spec.tasks, spec.reward).tasks.tasks(spec.split, limit, seed)
    if json:
        console.print_json(found)
        return
    rows = [(t.task_id, console.safe(t.prompt), console.safe(t.answer or "")) for t in found]
    console.show(console.table("", ("id", "problem", "gold"), rows, text=True))
