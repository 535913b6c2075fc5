"""`tfgrpo shift`: how far each policy was moved from its base, in nats, and what a nat gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from tfgrpo.errors import ConfigError, RunError

if TYPE_CHECKING:
    from baselines.shift.estimates import Shift
    from cli.shift_runs import Choice, Reading
    from tfgrpo.types import Comparison, Estimate
    from tfgrpo.verdict.arms import Evaluation

SHIFT = "shift.json"
ENTROPY_GAP = 0.05
"""Mean nats by which recomputed entropies may differ from the sampler's: bfloat16 needs some."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One evaluation beside the base. `gain` and `points_per_nat` are of the problems scored."""

    evaluation: Evaluation
    shift: Shift
    gain: Comparison | None
    points_per_nat: Estimate | None
    entropy_gap: float | None
    on_policy: bool

    @property
    def label(self) -> str:
        own = self.evaluation
        return own.name if own.seed is None else f"{own.name}, seed {own.seed}"


def shift(
    runs: Annotated[
        list[Path], typer.Argument(help="Evaluations with token ids, or a bench.", metavar="RUN...")
    ],
    base: Annotated[
        Path | None,
        typer.Option(help="The evaluation of the base; default: the first.", show_default=False),
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
        raise ConfigError(f"--kl is exact or k3, not {estimator!r}.")
    choice = Choice(problems, samples, seed)
    if steps:
        from cli.shift_steps import report_steps

        report_steps(runs, choice, estimator == "exact", run, json)
        return
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


def moved(paths: Sequence[Path], base: Path | None, choice: Choice, exact: bool) -> list[Moved]:
    """Every evaluation in `paths` against the base, which comes first."""
    from cli.shift_runs import reading
    from tfgrpo.tokens import TOKENS

    first, others = split_base(paths, base)
    made: list[Moved] = []
    with console.progress() as progress, reading(Path(first.source)) as ground:
        bar = progress.add_task("Scoring", total=1 + len(others), note=first.name)
        made.append(_moved(ground, ground, first, first, choice, exact))
        for evaluation in others:
            progress.update(bar, advance=1, note=evaluation.name)
            if not (Path(evaluation.source) / TOKENS).is_file():
                console.note(f"{console.safe(evaluation.source)} kept no token ids: left out.")
                continue
            with reading(Path(evaluation.source), ground.scorer) as own:
                made.append(_moved(own, ground, evaluation, first, choice, exact))
    return made


def split_base(paths: Sequence[Path], base: Path | None) -> tuple[Evaluation, list[Evaluation]]:
    """The base and the others: it is `base`, or the first evaluation that nothing moved."""
    from tfgrpo.verdict.own import read_own

    found = {e.source: e for path in paths for e in read_own(path)}
    if base is not None:
        (first, *more) = read_own(base)
        if more:
            raise ConfigError(f"{base} holds several evaluations; give the folder of one.")
    else:
        bare = [e for e in found.values() if e.family == "base"]
        if not bare:
            raise ConfigError("None of these is an evaluation of a bare model; name it by --base.")
        first = bare[0]
    others = [e for source, e in found.items() if source != first.source]
    if not others:
        raise ConfigError("There is only the base; give evaluations of other policies as well.")
    return first, others


def _moved(
    own: Reading, ground: Reading, mine: Evaluation, bare: Evaluation, choice: Choice, exact: bool
) -> Moved:
    from baselines.shift.estimates import ReplyShift, gain_of, shift_of
    from baselines.shift.forcing import shifts
    from cli.shift_runs import chosen

    picked = chosen(own, ground, choice)
    figures = shifts(own.scorer.model, ground.scorer.model, [c.told for c in picked], exact)
    replies = [ReplyShift.of(c.task_id, f) for c, f in zip(picked, figures, strict=True)]
    gap = _entropy_gap(own, [c.entropies for c in picked], [f[3].tolist() for f in figures])
    gain, rate = gain_of(replies, bare.outcomes, mine.outcomes, choice.seed)
    as_drawn = own.sampling.temperature == own.sampling.top_p == 1.0
    return Moved(mine, shift_of(replies, choice.seed), gain, rate, gap, as_drawn)


def _entropy_gap(
    own: Reading, recorded: Sequence[Sequence[float]], found: Sequence[Sequence[float]]
) -> float | None:
    """Mean absolute difference from the sampler's entropies, which prove the prompts rebuilt."""
    pairs = [p for a, b in zip(recorded, found, strict=True) if a for p in zip(a, b, strict=True)]
    if not pairs:
        return None
    gap = sum(abs(a - b) for a, b in pairs) / len(pairs)
    if gap > ENTROPY_GAP:
        raise RunError(
            f"The policy of {own.run.path} gives entropies {gap:.2f} nats from those that were "
            "recorded; evaluate in a new run, as code, device or precision has changed."
        )
    return gap


def row_of(one: Moved, ground: Moved, estimator: str) -> dict[str, Any]:
    """An entry of shift.json. Perplexities are named by who reads and whose replies are read."""
    own, shift = one.evaluation, one.shift
    return {
        "path": own.source,
        "name": own.name,
        "family": own.family,
        "seed": own.seed,
        "base": ground.evaluation.source,
        "estimator": estimator,
        "on_policy": one.on_policy,
        **shift.row(),
        "perplexity_own_own": shift.perplexity,
        "perplexity_base_own": shift.perplexity_base,
        "perplexity_base_base": ground.shift.perplexity,
        "gain": one.gain,
        "points_per_nat": one.points_per_nat,
        "entropy_gap": one.entropy_gap,
    }


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
            console.safe(m.label),
            *map(stacked, (m.shift.kl_per_token, m.shift.kl_per_reply, m.shift.nll_base)),
            "" if m.gain is None else console.points(m.gain).replace(" ", "\n", 1),
            "" if m.points_per_nat is None else stacked(m.points_per_nat, digits=1),
        )
        for m in made
    ]
    columns = ("arm", "KL a token", "KL a reply", "NLL by base", "gain, pass@1", "points a nat")
    problems = made[0].shift.problems
    return console.table(f"Shift from the base in nats, {problems} problems", columns, rows)


def stacked(estimate: Estimate, digits: int = 3) -> str:
    """An estimate with its interval below it."""
    value, low, high = (f"{x:.{digits}f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value}\n[{low}, {high}]"
