"""`tfgrpo shift`: how far each policy was moved from its base, in nats, and what a nat gains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from tfgrpo.errors import ConfigError

if TYPE_CHECKING:
    from cli.shift_arms import Moved
    from tfgrpo.types import Estimate

SHIFT = "shift.json"


def shift(
    runs: Annotated[
        list[Path], typer.Argument(help="Evaluations with token ids, or a bench.", metavar="RUN...")
    ],
    base: Annotated[
        Path | None,
        typer.Option(
            help="The evaluation of the base; default: the first bare model.", show_default=False
        ),
    ] = None,
    steps: Annotated[
        bool, typer.Option("--steps", help="RUN is a learning run: its shift after each step.")
    ] = False,
    problems: Annotated[
        int | None, typer.Option(help="Problems scored; default: all.", min=2, show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option(help="Replies scored to a problem.", min=1)] = 8,
    estimator: Annotated[
        str, typer.Option("--kl", help="exact: over the whole vocabulary; k3: of the token drawn.")
    ] = "exact",
    seed: Annotated[int, typer.Option(help="Of the choice and of the intervals.")] = 0,
    run: Annotated[
        Path | None,
        typer.Option(
            help=f"The folder for {SHIFT}; default: the bench's, or a new one.", show_default=False
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Score each policy's own replies under the base: KL and NLL in nats, and points a nat.

    Both arms move one base, by its prompt or by its weights; this is how far. The evaluations must
    have been made with --set detail=true on a model in this process: endpoints give no logits.
    """
    from cli.shift_runs import Choice

    if estimator not in ("exact", "k3"):
        raise ConfigError(f"--kl is exact or k3, not {estimator!r}; give one of these.")
    choice = Choice(problems, samples, seed)
    if steps:
        from cli.shift_steps import report_steps

        report_steps(runs, choice, estimator == "exact", run, json)
        return
    from cli.shift_arms import moved, row_of

    made = moved(runs, base, choice, exact=estimator == "exact")
    rows = [row_of(m, made[0], estimator) for m in made]
    written = write(rows, run or own_folder(runs, {"runs": [str(r) for r in runs]}))
    if json:
        console.print_json(rows)
        return
    console.show(shift_table(made))
    if not all(m.on_policy for m in made):
        console.note(
            "Some replies were not sampled at temperature 1 and top-p 1: a sum over such replies "
            "is no divergence between distributions of replies."
        )
    console.note(f"Wrote {console.safe(written)}.")


def own_folder(runs: Sequence[Path], settings: dict[str, Any]) -> Path:
    """A bench keeps its own record; runs that were named one by one get a new folder."""
    if len(runs) == 1 and not (runs[0] / "config.json").is_file():
        return runs[0]
    return options.run_folder(None, "shift", settings)


def write(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    from tfgrpo.canonical import canonical_json
    from tfgrpo.storage import write_atomic

    write_atomic(folder / SHIFT, canonical_json(rows).encode())
    return folder / SHIFT


def shift_table(made: Sequence[Moved]) -> object:
    rows = [
        (
            console.safe(m.label.replace(", ", "\n")),
            f"{m.shift.kl_per_token.value:.3f}",
            stacked(m.shift.kl_per_reply),
            f"{m.shift.nll_base.value:.3f}",
            "" if m.gain is None else console.points(m.gain).replace(" ", "\n", 1),
            "" if m.points_per_nat is None else stacked(m.points_per_nat, digits=1),
        )
        for m in made
    ]
    columns = (
        "arm", "KL\na token", "KL\na reply", "NLL\nby base", "gain in\npass@1", "points\na nat"
    )  # fmt: skip
    problems = made[0].shift.problems
    return console.table(f"Shift from the base in nats, {problems} problems", columns, rows)


def stacked(estimate: Estimate, digits: int = 3) -> str:
    """An estimate with its interval below it."""
    value, low, high = (f"{x:.{digits}f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value}\n[{low}, {high}]"
