"""`tfgrpo claims`: what the field claims, as experiments on any model, each with a verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baselines.claims.registry import CLAIMS, RUNS, ClaimEntry, RunName, claim, needed
from cli import console, options
from cli.claims_lab import Lab
from cli.pool import workers

if TYPE_CHECKING:
    from rich.progress import Progress

DOCUMENT = "claims.json"
Key = tuple[RunName, int]
Faults = Mapping[Key, str]


def claims(
    names: Annotated[
        list[str] | None, typer.Argument(help="As --list names them; none: all of them.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only tell what is claimed.")] = False,
    seeds: Annotated[int, typer.Option(help="Training runs of each kind.", min=1)] = 1,
    limit: Annotated[int, typer.Option(help="Held-out problems.", min=2)] = 72,
    n: Annotated[int, typer.Option("--n", help="Samples a problem.", min=2)] = 64,
    model: options.Model = None,
    tasks: options.Tasks = None,
    given: Annotated[
        Path | None,
        typer.Option(
            "--from", help="The folder of a sweep, whose runs are read.", show_default=False
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
    more: options.Set = None,
    run: options.Run = None,
    json: options.Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell which runs would be made, and their work.")
    ] = False,
) -> None:
    """Put published claims to the test: statement, measured value, interval, verdict.

    Rules of decision are declared with the claims. Runs are shared between claims; what is over in
    --run or --from is not made again.
    """
    from datetime import datetime

    chosen = [claim(name) for name in dict.fromkeys(names or CLAIMS)]
    if listed:
        show_list(chosen, json)
        return
    root = run or options.RUNS / f"claims-{datetime.now():%Y%m%d-%H%M%S}"
    flags = options.overrides({"tasks": tasks, "model": model}, more)
    lab = Lab(root, given, tuple(flags), limit, n)
    wanted = check(lab, chosen, seeds)
    if dry_run:
        from cli.claims_plan import show_plan

        show_plan(lab, wanted, json)
        return
    started = time.monotonic()
    faults = make_all(lab, wanted, jobs)
    rows = [
        {"id": entry.id, "command": command(entry, lab, seeds), "seeds": seeds}
        | found(entry, lab, seeds, faults)
        for entry in chosen
    ]
    report(root, rows, json)
    console.note(f"Took {time.monotonic() - started:.0f} s. Everything is in {console.safe(root)}.")
    if any("fault" in row for row in rows):
        raise typer.Exit(1)


def show_list(chosen: Sequence[ClaimEntry], json: bool) -> None:
    if json:
        console.print_json([described(entry) for entry in chosen])
        return
    for entry in chosen:
        console.show(f"{entry.id}   {entry.source}\n  {entry.statement}\n  {entry.rule.text}\n")
    console.note("Run: tfgrpo claims ID...    What it takes: tfgrpo claims ID... --dry-run")


def described(entry: ClaimEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "statement": entry.statement,
        "source": entry.source,
        "needs": entry.needs,
        "rule": entry.rule.text,
    }


def check(lab: Lab, chosen: Sequence[ClaimEntry], seeds: int) -> list[Key]:
    """The runs that are needed, in an order in which they can be made; mistakes are told first."""
    from cli.claims_lab import training
    from tfgrpo.errors import ConfigError

    if lab.given is not None and not lab.given.is_dir():
        raise ConfigError(f"There is no folder {lab.given}; give that of a sweep.")
    wanted = [
        (name, seed) for name in needed(chosen) for seed in range(seeds if RUNS[name].seeded else 1)
    ]
    for name, seed in wanted:
        if not set(RUNS[name].after) & {"taught"}:
            training(lab, name, seed)
            lab.done(name, seed)
    return wanted


# runs ---------------------------------------------------------------------------------------------


def make_all(lab: Lab, wanted: Sequence[Key], jobs: int) -> Faults:
    """Make every run, those that others come after first; what failed, and why, is returned."""
    faults: dict[Key, str] = {}
    first = [key for key in wanted if not RUNS[key[0]].after]
    second = [key for key in wanted if RUNS[key[0]].after]
    with workers(jobs) as pool, console.progress() as progress:
        bar = progress.add_task("Runs", total=len(wanted), note="")
        for stage in (first, second):
            ready = [key for key in stage if not _missing(key, faults)]
            faults |= {
                key: f"it needs {' and '.join(_missing(key, faults))}, which failed"
                for key in stage
                if _missing(key, faults)
            }
            faults |= _stage(lab, ready, pool, progress)
            progress.update(bar, advance=len(stage))
    return faults


def _missing(key: Key, faults: Faults) -> list[str]:
    """The runs that failed among those that `key` comes after."""
    name, seed = key
    return [
        before
        for before in RUNS[name].after
        if (before, seed if RUNS[before].seeded else 0) in faults
    ]


def _stage(lab: Lab, keys: Sequence[Key], pool: Executor, progress: Progress) -> dict[Key, str]:
    from cli.claims_make import make

    started = time.monotonic()
    waiting: dict[Key, Future[None]] = {key: pool.submit(make, lab, *key) for key in keys}
    faults: dict[Key, str] = {}
    for key, future in waiting.items():
        told = f"{key[0]}, {key[1]}" if RUNS[key[0]].seeded else key[0]
        try:
            future.result()
        except Exception as error:  # one run that fails must not cost the claims on the others
            faults[key] = str(error) or type(error).__name__
            console.err.print(f"[red]{told} failed:[/] {console.safe(faults[key])}")
            continue
        progress.console.print(f"{told}  ({time.monotonic() - started:.0f} s)")
    return faults


# findings -----------------------------------------------------------------------------------------


def found(entry: ClaimEntry, lab: Lab, seeds: int, faults: Faults) -> dict[str, Any]:
    """The finding on a claim as plain values; a `fault` where there is none."""
    from dataclasses import asdict

    from cli.claims_read import Reader, find

    broken = [f"{name}: {told}" for (name, _), told in faults.items() if name in entry.needs]
    row = described(entry) | {"unit": entry.rule.unit}
    if not broken:
        try:
            return row | asdict(find(entry.id, Reader(lab, seeds)))
        except Exception as error:  # nor one claim that cannot be computed the other claims
            broken = [str(error) or type(error).__name__]
    return row | {"verdict": "failed", "fault": "; ".join(broken)}


def command(entry: ClaimEntry, lab: Lab, seeds: int) -> str:
    """What measures this claim again."""
    import shlex

    words = ["tfgrpo", "claims", entry.id, "--seeds", str(seeds), "--limit", str(lab.limit)]
    words += ["--n", str(lab.n)]
    for flag in lab.flags:
        words += ["--set", flag]
    return shlex.join(words)


def report(root: Path, rows: Sequence[Mapping[str, Any]], json: bool) -> None:
    """The table, as text and in claims.json, where claims measured before stay."""
    from json import loads

    from tfgrpo.canonical import canonical_json
    from tfgrpo.storage import write_atomic

    path = root / DOCUMENT
    before = {row["id"]: row for row in loads(path.read_bytes())} if path.is_file() else {}
    merged = before | {row["id"]: row for row in rows}
    ordered = [merged[name] for name in CLAIMS if name in merged]
    root.mkdir(parents=True, exist_ok=True)
    write_atomic(path, canonical_json(ordered).encode())
    if json:
        console.print_json(rows)
        return
    columns = ("claim", "measured", "95% interval", "verdict", "source")
    shown = [
        (row["id"], _measured(row), _interval(row), row["verdict"], row["source"]) for row in rows
    ]
    seeds = f"{rows[0]['seeds']} training seed{'s' if rows[0]['seeds'] > 1 else ''}"
    console.show(console.table(f"\n{seeds}", columns, shown, text=True))
    for row in rows:
        told = row.get("fault") or row["detail"]
        console.show(f"\n{row['id']}: {row['statement']}\n  {console.safe(told)}")


def _measured(row: Mapping[str, Any]) -> str:
    value = row.get("value")
    return "" if value is None else f"{value:.3g} {row['unit']}"


def _interval(row: Mapping[str, Any]) -> str:
    ends = row.get("low"), row.get("high")
    if ends == (None, None):
        return ""
    return "[{}, {}]".format(*("none" if end is None else f"{end:.3g}" for end in ends))
