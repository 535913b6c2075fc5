"""`tfgrpo plan`: what a question needs and what it costs, before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console, options

if TYPE_CHECKING:
    from rich.table import Table

    from tfgrpo.runs import RunDir
    from tfgrpo.types import TaskOutcome
    from tfgrpo.verdict.expecting import Expectation
    from tfgrpo.verdict.planning import Ask, Bill, Design, Rate

PROBLEMS = "50,100,200,300,500,1000"
CORRELATION = 0.8
CLOCK_S = 5.0
"""Seconds by which a file's time may miss the time that is written in it."""


def plan(
    effect: Annotated[float, typer.Option(help="Difference worth finding; 0.03 is 3 points.")],
    pilot: Annotated[
        list[Path] | None,
        typer.Option(
            help="An evaluation of the base; a second one, of an arm, tells how they pair.",
            show_default=False,
        ),
    ] = None,
    mean: Annotated[
        float | None, typer.Option(help="Without a pilot: the base's pass@1.", show_default=False)
    ] = None,
    spread: Annotated[
        float | None,
        typer.Option(help="Without a pilot: its deviation over problems.", show_default=False),
    ] = None,
    correlation: Annotated[
        float, typer.Option(help="Of the arms over problems, where no second pilot tells it.")
    ] = CORRELATION,
    k: Annotated[str, typer.Option("--k", help="Numbers of samples that pass@k allows.")] = "1,8",
    power: Annotated[float, typer.Option(help="Chance to find the effect.")] = 0.8,
    seeds: Annotated[int, typer.Option(help="Training seeds of each arm.")] = 3,
    arms: Annotated[int, typer.Option(help="Arms, the base counted.")] = 2,
    tests: Annotated[
        int | None,
        typer.Option(help="Comparisons judged together, if other.", show_default=False),
    ] = None,
    problems: Annotated[str, typer.Option(help="Rows of the table.")] = PROBLEMS,
    samples: Annotated[
        str | None, typer.Option(help="Columns of the table.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="How many problems there are.", show_default=False)
    ] = None,
    json: options.Json = False,
) -> None:
    """Problems and samples that find an effect, and their cost, before anything is spent.

    The tests are by default the three endpoints of a comparison (pass@1, pass@K, distinct correct
    answers) for each arm.
    """
    from tfgrpo.verdict.planning import Ask, cautions, designs, grid
    from tfgrpo.verdict.record import Question

    ks = _numbers(k, "--k")
    endpoints = Question("base", max(ks), min(8, max(ks))).endpoints
    judged = len(endpoints) * (arms - 1) if tests is None else tests
    ask = Ask(effect, ks, power, arms=arms, seeds=seeds, tests=judged)
    expected, rates = _known(pilot or [], (mean, spread), correlation, ask)
    columns = _numbers(samples, "--samples") if samples else _columns(max(ks))
    cells = grid(expected, ask, _numbers(problems, "--problems"), columns)
    found = designs(expected, ask, columns, limit, rates)
    told = cautions(expected, ask, found[0])
    if json:
        asked = {**asdict(ask), "evaluations": ask.evaluations}
        console.print_json(
            {"ask": asked, "expected": expected, "grid": cells, "designs": found, "cautions": told}
        )
        return
    _print_known(expected, ask)
    for one in ks:
        console.show(_grid_table(cells, ask, one))
    console.show(_design_table(found, ask))
    if found[0].bill is None:
        console.show("\nWhat it costs is unknown without a pilot that kept its ledger.")
    else:
        console.show(_cost_table(found))
        console.note("Calls overlap in time. What it takes to make the arms is not counted.")
    for text in told:
        console.show(f"[yellow]look[/] {text}")


def _numbers(text: str, option: str) -> tuple[int, ...]:
    """`1,8,64` in ascending order. Raises ConfigError if it is anything else."""
    from tfgrpo.errors import ConfigError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise ConfigError(f"{option} {text!r} is no list of numbers; write 1,8,64.")
    return tuple(sorted({int(part) for part in parts}))


def _columns(k_max: int) -> tuple[int, ...]:
    """Powers of two from an eighth of k to four times of it, 1 to 16 at least."""
    from tfgrpo.metrics.pass_at_k import powers_of_two

    return tuple(n for n in powers_of_two(max(8 * k_max - 1, 16)) if n >= k_max // 8)


def _known(
    pilots: Sequence[Path],
    moments: tuple[float | None, float | None],
    correlation: float,
    ask: Ask,
) -> tuple[Expectation, list[Rate]]:
    from tfgrpo.errors import ConfigError
    from tfgrpo.verdict.expecting import assumed, of_pair, of_pilot

    mean, spread = moments
    if bool(pilots) == (mean is not None) or len(pilots) > 2 or (mean is None) != (spread is None):
        raise ConfigError(
            "A plan needs a pilot, or two, or else --mean and --spread; give --pilot RUN."
        )
    if mean is not None and spread is not None:
        return assumed(mean, spread, correlation, ask.ks), []
    read = [_pilot(path) for path in pilots]
    rates = [rate for _, rate in read if rate is not None]
    told = rates if len(rates) == len(read) else []
    if len(read) == 2:
        return of_pair(read[0][0], read[1][0], ask.ks), told
    return of_pilot(read[0][0], correlation, ask.ks), told


def _pilot(path: Path) -> tuple[tuple[TaskOutcome, ...], Rate | None]:
    """The outcomes of an evaluation run, and what it took where it kept a ledger."""
    from tfgrpo.errors import ConfigError
    from tfgrpo.ledger import Ledger, Price
    from tfgrpo.runs import RunDir
    from tfgrpo.verdict.own import OUTCOMES, read_outcomes
    from tfgrpo.verdict.planning import Rate

    run = RunDir.open(path)
    if run.kind != "eval" or not run.file(OUTCOMES).is_file():
        raise ConfigError(f"{path} is no finished evaluation; give a run of tfgrpo eval.")
    outcomes = read_outcomes(run)
    if not run.file("ledger.json").is_file():
        return outcomes, None
    usage = Ledger.from_json(run.read_json("ledger.json")).total
    price = Price(**(run.config.get("price") or {}))
    drawn = sum(o.n + o.failures for o in outcomes)
    return outcomes, Rate(usage, len(outcomes), drawn, _wall(run), price)


def _wall(run: RunDir) -> float | None:
    """Seconds from a run's beginning to its last file; None if it was resumed or copied."""
    from tfgrpo.verdict.own import OUTCOMES

    first, last = run.file("environment.json"), run.file(OUTCOMES)
    if run.file("resumed.jsonl").exists() or not first.is_file():
        return None
    created = datetime.fromisoformat(run.read_json(first.name)["created"]).timestamp()
    began = first.stat().st_mtime
    return None if abs(began - created) > CLOCK_S else last.stat().st_mtime - began


def _print_known(expected: Expectation, ask: Ask) -> None:
    rates = ", ".join(f"pass@{k} {100 * share:.1f}" for k, share in expected.passes.items())
    how = "measured" if expected.measured else "assumed"
    console.show(
        f"The base is expected at {rates}; the arms' correlation is {expected.correlation:.2f}, "
        f"{how}.\n{ask.evaluations} evaluations: the base, and {ask.arms - 1} x {ask.seeds} "
        f"training seeds. {ask.tests} comparisons are judged together, so each needs p < "
        f"{1 - ask.strict_level:.3g}."
    )


def _grid_table(cells: Sequence[Design], ask: Ask, k: int) -> Table:
    """What each number of problems (rows) and samples (columns) finds at one k."""
    samples = sorted({d.samples for d in cells})
    by_place = {(d.problems, d.samples): d.found.get(k) for d in cells}
    rows = [
        (p, *(_points(by_place[p, n], ask.effect) for n in samples))
        for p in sorted({d.problems for d in cells})
    ]
    title = f"\npass@{k}: points found with {100 * ask.power:.0f}% power"
    return console.table(title, ("problems", *(f"x {n}" for n in samples)), rows)


def _points(found: float | None, effect: float) -> str:
    """`2.9*` where the effect is found, `3.1 ` where it is not, `-` for a k above the samples."""
    if found is None:
        return "-"
    return f"{100 * found:.1f}{'*' if found <= effect else ' '}"


def _design_table(found: Sequence[Design], ask: Ask) -> Table:
    rows = [
        (f"{d.problems} x {d.samples}", *(_points(d.found.get(k), ask.effect) for k in ask.ks),
         f"{d.draws:,}")
        for d in found
    ]  # fmt: skip
    title = f"\nFewest problems that find {100 * ask.effect:.1f} points (*), cheapest first"
    columns = ("problems x samples", *(f"pass@{k}" for k in ask.ks), "samples in all")
    return console.table(title, columns, rows)


def _cost_table(found: Sequence[Design]) -> Table:
    rows = [(f"{d.problems} x {d.samples}", *_cost(d.bill)) for d in found if d.bill]
    columns = ("problems x samples", "calls", "tokens", "call time", "wall time", "US dollars")
    return console.table("\nWhat all evaluations cost together", columns, rows)


def _cost(bill: Bill) -> tuple[str, ...]:
    tokens = bill.usage.prompt_tokens + bill.usage.completion_tokens
    usd = "unknown" if bill.usd is None else f"{bill.usd:.2f}"
    spent = (bill.usage.seconds, bill.wall)
    return (console.count(bill.usage.calls), console.count(tokens), *map(_clock, spent), usd)


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
