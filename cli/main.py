"""The `tfgrpo` command: puts the commands together and turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from cli import (
    abacus,
    audit,
    bench,
    cases,
    claims,
    compare,
    doctor,
    evaluate,
    experiences,
    imitate,
    learn,
    match,
    methods,
    plan,
    rescore,
    runs,
    samples,
    shift,
    sweep,
    tasks,
    train,
)
from cli.console import err, safe
from memory.errors import StoreError
from tfgrpo.errors import TfgrpoError

app = typer.Typer(
    name="tfgrpo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=(
        "What do you gain by editing a model's context, and what by editing its weights? "
        "Learn experience libraries (Training-Free GRPO), and measure them fairly."
    ),
)
app.command("learn")(learn.learn)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("bench")(bench.bench)
app.command("compare")(compare.compare)
app.command("plan")(plan.plan)
app.command("audit")(audit.audit)
app.command("rescore")(rescore.rescore)
app.add_typer(samples.app, name="samples")
app.command("imitate")(imitate.imitate)
app.command("sweep")(sweep.sweep)
app.command("shift")(shift.shift)
app.command("match")(match.match)
app.command("claims")(claims.claims)
app.command("methods")(methods.methods)
app.add_typer(experiences.app, name="experiences")
app.add_typer(cases.app, name="memory")
app.add_typer(tasks.app, name="tasks")
app.add_typer(runs.app, name="runs")
app.command("doctor")(doctor.doctor)
app.add_typer(abacus.app, name="abacus")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("tfgrpo"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command."""


def run(arguments: list[str] | None = None) -> None:
    """Exit codes: 0 ok, 1 failed, 2 wrong input, 3 a budget stopped it, 130 interrupted."""
    try:
        app(arguments)
    except (TfgrpoError, StoreError) as error:
        if os.environ.get("TFGRPO_DEBUG"):
            raise
        err.print(f"[bold red]Error:[/] {safe(error)}", soft_wrap=True)
        sys.exit(error.exit_code if isinstance(error, TfgrpoError) else 1)
    except KeyboardInterrupt:
        err.print("Interrupted. Give the same command with the same --run to go on.")
        sys.exit(130)


if __name__ == "__main__":
    run()
