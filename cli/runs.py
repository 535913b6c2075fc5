"""`tfgrpo runs`: what was run, and what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options

if TYPE_CHECKING:
    from rich.table import Table

    from tfgrpo.llm.faults import Faults
    from tfgrpo.runs import RunDir
    from tfgrpo.types import Usage

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
    """The settings, the steps, the ledger and the faults of one run."""
    from tfgrpo.runs import RunDir
    from tfgrpo.verdict.fates import read_faults

    opened = RunDir.open(run)
    steps, faults = list(opened.read_rows("steps.jsonl")), read_faults(opened)
    if json:
        ledger = opened.read_json("ledger.json") if opened.file("ledger.json").exists() else None
        console.print_json(
            {"config": opened.config, "steps": steps, "ledger": ledger, "faults": faults.to_json()}
        )
        return
    if steps:
        own = "entries" if "entries" in steps[0]["metrics"] else "entropy"
        rows = [
            (s["step"], f"{s['reward_mean']:.3f}", s["groups"].get("mixed", 0),
             f"{s['metrics'].get(own, 0):.4g}", s["failures"])
            for s in steps
        ]  # fmt: skip
        named = {"entries": "lessons", "entropy": "token entropy"}[own]
        columns = ("step", "reward", "informative", named, "failures")
        console.show(console.table(console.safe(run), columns, rows))
    console.show(ledger_table(opened))
    if faults.by_kind:
        console.show(faults_table(faults))


def faults_table(faults: Faults) -> Table:
    """What the endpoint met by class, what it cost in samples, and what was billed in vain."""
    rows = [
        (console.safe(kind), console.count(count.seen), console.count(count.failed),
         console.count(count.lost.calls),
         console.count(count.lost.prompt_tokens + count.lost.completion_tokens))
        for kind, count in sorted(faults.by_kind.items())
    ]  # fmt: skip
    columns = ("fault", "times", "samples lost", "calls in vain", "tokens in vain")
    return console.table("\nFaults of the endpoint, mended or not", columns, rows)


def ledger_table(run: RunDir) -> Table:
    """Calls, tokens, FLOPs and dollars by phase; the last two only where they are known."""
    from tfgrpo.ledger import Ledger, Price, phase_flops

    def read(name: str) -> dict[str, Any]:
        return run.read_json(name) if run.file(name).exists() else {}

    ledger, sizes = Ledger.from_json(read("ledger.json")), read("parameters.json")
    price = Price(**(run.config.get("price") or {}))

    def work(phase: str, usage: Usage) -> float:
        if phase == "total":
            return sum(work(p, u) for p, u in ledger.by_phase.items())
        return phase_flops(phase, usage, sizes.get(phase, 0))

    rows = []
    for name, usage in ledger.rows():
        paid = price.cost(usage)
        rows.append(
            (name, console.count(usage.calls), console.count(usage.prompt_tokens),
             console.count(usage.cached_tokens), console.count(usage.completion_tokens),
             f"{usage.seconds:.1f}", console.count(work(name, usage)) if sizes else "unknown",
             "unknown" if paid is None else f"{paid:.4f}")
        )  # fmt: skip
    columns = ("phase", "calls", "prompt tokens", "of these cached", "generated", "seconds",
               "FLOPs", "US dollars")  # fmt: skip
    shown = len(columns) - (all(row[-1] == "unknown" for row in rows))
    return console.table("What it cost", columns[:shown], [row[:shown] for row in rows])
