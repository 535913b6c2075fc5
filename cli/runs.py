"""`tfgrpo runs`: what was run, and what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console, options

if TYPE_CHECKING:
    from rich.table import Table

    from tfgrpo.runs import RunDir

app = typer.Typer(no_args_is_help=True, help="List runs and show one.")


@app.command("list")
def list_all(
    root: Annotated[Path, typer.Argument(help="The folder of runs.")] = options.RUNS,
    json: options.Json = False,
) -> None:
    """All runs below a folder, oldest first."""
    from tfgrpo.runs import list_runs

    found = list_runs(root)
    if json:
        console.print_json([{"path": r.path, "kind": r.kind, "config": r.config} for r in found])
        return
    rows = [(console.safe(r.path), console.safe(r.kind), r.config.get("seed", "")) for r in found]
    console.show(console.table("", ("run", "kind", "seed"), rows))


@app.command("show")
def show(run: Annotated[Path, typer.Argument()], json: options.Json = False) -> None:
    """The settings, the steps and the ledger of one run."""
    from tfgrpo.runs import RunDir

    opened = RunDir.open(run)
    steps = list(opened.read_rows("steps.jsonl"))
    if json:
        ledger = opened.read_json("ledger.json") if opened.file("ledger.json").exists() else None
        console.print_json({"config": opened.config, "steps": steps, "ledger": ledger})
        return
    if steps:
        rows = [
            (s["step"], f"{s['reward_mean']:.3f}", s["groups"].get("mixed", 0),
             int(s["metrics"]["entries"]), s["failures"])
            for s in steps
        ]  # fmt: skip
        columns = ("step", "reward", "informative", "lessons", "failures")
        console.show(console.table(console.safe(run), columns, rows))
    console.show(ledger_table(opened))


def ledger_table(run: RunDir) -> Table:
    """Calls and tokens by phase."""
    from tfgrpo.ledger import Ledger

    path = run.file("ledger.json")
    ledger = Ledger.from_json(run.read_json("ledger.json")) if path.exists() else Ledger()
    rows = [
        (name, console.count(u.calls), console.count(u.prompt_tokens),
         console.count(u.cached_tokens), console.count(u.completion_tokens), f"{u.seconds:.1f}")
        for name, u in ledger.rows()
    ]  # fmt: skip
    columns = ("phase", "calls", "prompt tokens", "of these cached", "generated", "seconds")
    return console.table("What it cost", columns, rows)
