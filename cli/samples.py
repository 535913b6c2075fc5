"""`tfgrpo samples`: samples of any origin, shown and written for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli import console, options

if TYPE_CHECKING:
    from tfgrpo.verdict.arms import Evaluation
    from tfgrpo.verdict.export import Texts
    from tfgrpo.verdict.sources import Grading

app = typer.Typer(no_args_is_help=True, help="Show samples of any tool, and write them for others.")

Format = Literal["csv", "parquet", "lm-eval"]
FORMATS: Mapping[str, Format] = {".csv": "csv", ".parquet": "parquet", "": "lm-eval"}


@dataclass(frozen=True, slots=True)
class Counts:
    """What one evaluation holds. Samples are graded ones, `fewest` to `most` of them a problem."""

    arm: str
    seed: int | None
    problems: int
    samples: int
    fewest: int
    most: int
    right: int
    unread: int
    truncated: int
    failures: int

    @property
    def each(self) -> str:
        return f"{self.fewest}" if self.fewest == self.most else f"{self.fewest}-{self.most}"

    def percent(self, part: int) -> str:
        return f"{100 * part / self.samples:.1f}%" if self.samples else "-"


Source = Annotated[
    Path,
    typer.Argument(
        help="An evaluation run, or a file or folder of another tool: a table, lm-eval, Inspect, "
        "verl, TRL."
    ),
]
Name = Annotated[
    str | None, typer.Option(help="The arm's name; by default the source's.", show_default=False)
]
Score = Annotated[
    str | None,
    typer.Option(
        help="The column, METRIC,FILTER or scorer that says what is right.", show_default=False
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="The least value that is right; without it only 0 and 1.", show_default=False
    ),
]


@app.command("convert")
def convert(
    source: Source,
    out: Annotated[Path, typer.Argument(help="FILE.csv, FILE.parquet, or a folder for lm-eval.")],
    format: Annotated[
        Format | None, typer.Option(help="By default what OUT ends with.", show_default=False)
    ] = None,
    name: Name = None,
    score: Score = None,
    threshold: Threshold = None,
    json: options.Json = False,
) -> None:
    """Write samples as CSV, Parquet or lm-eval's samples_*.jsonl, one row for each.

    What is written can be read again: `tfgrpo compare` takes it as it takes the source.
    """
    from tfgrpo.errors import ConfigError
    from tfgrpo.verdict.export import Exported, write_csv, write_parquet
    from tfgrpo.verdict.lm_eval_export import write_lm_eval
    from tfgrpo.verdict.sources import Grading

    chosen = format or FORMATS.get(out.suffix)
    if chosen is None:
        raise ConfigError(f"{out} ends with no format known here; give --format.")
    if out.resolve() == source.resolve():
        raise ConfigError(f"{out} is the source itself; give another name.")
    evaluations = gathered(source, name, Grading(score, threshold))
    exported = [Exported(one, texts_of(one)) for one in evaluations]
    match chosen:
        case "csv":
            rows = write_csv(out, exported)
        case "parquet":
            rows = write_parquet(out, exported)
        case "lm-eval":
            rows = write_lm_eval(out, exported, _stamp(evaluations[0]))
    if json:
        told = {"file": out, "format": chosen, "rows": rows, "evaluations": len(evaluations)}
        console.print_json(told)
        return
    of = "1 evaluation" if len(evaluations) == 1 else f"{len(evaluations)} evaluations"
    console.show(f"Wrote {rows:,} rows of {of} to {console.safe(out)}.")


@app.command("show")
def show(
    source: Source,
    name: Name = None,
    score: Score = None,
    threshold: Threshold = None,
    json: options.Json = False,
) -> None:
    """What a source holds: one line for each arm and seed."""
    from tfgrpo.verdict.sources import Grading

    found = gathered(source, name, Grading(score, threshold))
    rows = [counted(one) for one in found]
    if json:
        both = zip(rows, found, strict=True)
        console.print_json([asdict(row) | {"protocol": one.protocol} for row, one in both])
        return
    columns = ("arm", "seed", "problems", "samples each", "right", "no answer", "cut", "failed")
    cells = [
        (console.safe(r.arm), "" if r.seed is None else r.seed, r.problems, r.each,
         r.percent(r.right), r.percent(r.unread), r.truncated, r.failures)
        for r in rows
    ]  # fmt: skip
    console.show(console.table(console.safe(source), columns, cells))


def gathered(source: Path, name: str | None, grading: Grading) -> tuple[Evaluation, ...]:
    """The evaluations of a run of ours, or of another tool's files.

    Raises:
        ConfigError: if there are none, or grading is asked for where verdicts stand.
    """
    from tfgrpo.errors import ConfigError
    from tfgrpo.runs import list_runs
    from tfgrpo.verdict.own import MANIFEST, read_own
    from tfgrpo.verdict.sources import read_evaluations

    if not source.exists():
        raise ConfigError(f"There is no {source}; give a run, or a file of samples.")
    if source.is_dir() and ((source / MANIFEST).is_file() or list_runs(source)):
        if grading.score is not None or grading.threshold is not None:
            raise ConfigError(
                f"{source} is a run of this program, whose verdicts stand; to change them give: "
                f"tfgrpo rescore {source} --reward NAME"
            )
        return read_own(source, name)
    return read_evaluations(source, name, grading, lambda told: console.note(console.safe(told)))


def texts_of(evaluation: Evaluation) -> dict[str, Texts]:
    """Prompts, gold answers and replies of an own run; nothing for what other tools made."""
    from tfgrpo.errors import RunError
    from tfgrpo.runs import RunDir
    from tfgrpo.verdict.export import Texts
    from tfgrpo.verdict.own import SAMPLES

    path = Path(evaluation.source)
    if not (path / SAMPLES).is_file() or not (path / "config.json").is_file():
        return {}
    try:
        return {
            row["task_id"]: Texts(row["prompt"], row["gold"], tuple(row["texts"]))
            for row in RunDir.open(path).read_rows(SAMPLES)
        }
    except (KeyError, TypeError):
        raise RunError(f"{path / SAMPLES} is damaged; evaluate in a new run folder.") from None


def _stamp(evaluation: Evaluation) -> str:
    """When the run was made, as lm-eval writes a date into names of files."""
    from tfgrpo.runs import RunDir

    path = Path(evaluation.source)
    if not (path / "environment.json").is_file():
        return "unknown"
    return str(RunDir.open(path).read_json("environment.json")["created"]).replace(":", "-")


def counted(one: Evaluation) -> Counts:
    outcomes = one.outcomes
    counts = [outcome.n for outcome in outcomes]
    return Counts(
        arm=one.name,
        seed=one.seed,
        problems=len(counts),
        samples=sum(counts),
        fewest=min(counts),
        most=max(counts),
        right=sum(outcome.c for outcome in outcomes),
        unread=sum(answer is None for outcome in outcomes for answer in outcome.answers),
        truncated=sum(outcome.truncated for outcome in outcomes),
        failures=sum(outcome.failures for outcome in outcomes),
    )
