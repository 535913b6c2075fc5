"""Evaluations scored beside the base that they were moved from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cli import console
from cli.shift_runs import Choice, Reading, chosen, reading
from tfgrpo.errors import ConfigError, RunError
from tfgrpo.tokens import TOKENS
from tfgrpo.types import Comparison, Estimate
from tfgrpo.verdict.arms import Evaluation
from tfgrpo.verdict.own import read_own

if TYPE_CHECKING:
    from baselines.shift.estimates import Shift

ROUNDING = {"float32": 1e-3, "bfloat16": 0.03, "float16": 0.01}
"""Mean nats by which recomputed entropies may differ from the sampler's, by the model's precision.

Other batches round otherwise; another prompt or other weights differ by more.
"""


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


def moved(paths: Sequence[Path], base: Path | None, choice: Choice, exact: bool) -> list[Moved]:
    """Every evaluation in `paths` against the base, which comes first."""
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
    found = {Path(e.source).resolve(): e for path in paths for e in read_own(path)}
    if base is not None:
        (first, *more) = read_own(base)
        if more:
            raise ConfigError(f"{base} holds several evaluations; give the folder of one.")
    else:
        bare = [e for e in found.values() if e.family == "base"]
        if not bare:
            raise ConfigError("None of these is an evaluation of a bare model; name it by --base.")
        first = bare[0]
    others = [e for place, e in found.items() if place != Path(first.source).resolve()]
    if not others:
        raise ConfigError("There is only the base; give evaluations of other policies as well.")
    return first, others


def _moved(
    own: Reading, ground: Reading, mine: Evaluation, bare: Evaluation, choice: Choice, exact: bool
) -> Moved:
    from baselines.shift.estimates import ReplyShift, gain_of, shift_of
    from baselines.shift.forcing import shifts

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
    gap = fmean(abs(a - b) for a, b in pairs)
    kept = 2**-11 * fmean(a for a, _ in pairs)  # the file holds half precision
    if gap > kept + ROUNDING.get(str(own.scorer.model.dtype).removeprefix("torch."), 0.0):
        raise RunError(
            f"The policy of {own.run.path} gives entropies {gap:.3f} nats from those that were "
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
