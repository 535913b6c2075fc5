"""Arms in, verdict out: every figure with its interval, every arm against the base.

Pure: no file is read or written, and the same arms and question give the same verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from tfgrpo.errors import ConfigError
from tfgrpo.metrics.claims import Claim, declared_claims
from tfgrpo.metrics.columns import bootstrap_columns
from tfgrpo.metrics.crossover import crossover_law
from tfgrpo.metrics.diversity import mode_histogram
from tfgrpo.metrics.pass_at_k import per_task_curve
from tfgrpo.metrics.seeds import SeededDifference, seeded_columns
from tfgrpo.metrics.solved import solved_sets
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Estimate
from tfgrpo.verdict.arms import Arm
from tfgrpo.verdict.costs import mean_cost, unmatched
from tfgrpo.verdict.problems import few_seeds, only, shared_problems
from tfgrpo.verdict.record import (
    ArmFigures,
    Interaction,
    Judgement,
    Question,
    Reading,
    Verdict,
)
from tfgrpo.verdict.sentences import judged
from tfgrpo.verdict.values import Metrics, Table, grid, metrics_of, tabulate

LAW_DRAWS = 2_000
"""Draws behind a crossover's distribution: its k* is told in whole numbers."""


@dataclass(frozen=True, slots=True)
class Square:
    """The names of four arms that make the 2x2 of context and weights."""

    base: str
    context: str
    weights: str
    both: str


@dataclass(frozen=True, slots=True)
class Tabled:
    """An arm with its values; `curve` is pass@1 .. pass@K of each problem, seeds averaged."""

    arm: Arm
    table: Table
    curve: Table

    def of(self, seeds: Sequence[int | None]) -> Table:
        """The table of these seeds alone, in this order."""
        return self.table[[self.arm.seeds.index(seed) for seed in seeds]]


def judge(
    arms: Sequence[Arm],
    question: Question,
    *,
    duels: Sequence[tuple[str, str]] = (),
    square: Square | None = None,
    allow_missing: bool = False,
) -> Verdict:
    """Compare every arm with the base, and `duels` (a, b) with each other.

    Holm's correction runs over all arms and declared endpoints of the comparisons with the base;
    duels are adjusted among themselves.

    Raises:
        ConfigError: if the base or an arm of a duel is missing, or the arms share no problem with
            enough samples.
    """
    names = [arm.name for arm in arms]
    wanted = {question.base, *(name for pair in duels for name in pair)}
    wanted |= set(_corners(square)) if square else set()
    if missing := sorted(wanted - set(names)):
        raise ConfigError(
            f"There is no arm {missing[0]!r} among {', '.join(names)}; name one of these."
        )
    problems, stamps = shared_problems(arms, question.k_max, allow_missing)
    kept = [only(arm, problems) for arm in arms]
    metrics = metrics_of(question, kept)
    tabled = {arm.name: _tabled(arm, problems, metrics, question.k_max) for arm in kept}
    others = [(question.base, name) for name in names if name != question.base]
    return Verdict(
        question=question,
        problems=len(problems),
        samples=min(o.n for arm in kept for run in arm.runs for o in run.outcomes),
        datasets=dict(sorted(Counter(o.dataset for o in kept[0].runs[0].outcomes).items())),
        arms=_figures([tabled[name] for name in names], metrics, question),
        judgements=_judgements(others, tabled, metrics, question),
        duels=_judgements(duels, tabled, metrics, question),
        interaction=_interaction(square, tabled, metrics, question) if square else None,
        stamps=(*stamps, *few_seeds(arms)),
        budgets=unmatched(arms, duels),
    )


def _tabled(arm: Arm, problems: Sequence[str], metrics: Metrics, k_max: int) -> Tabled:
    curves = [per_task_curve(run.outcomes, k_max) for run in arm.runs]
    return Tabled(arm, tabulate(arm, problems, metrics), np.mean(curves, axis=0))


def _figures(
    tabled: Sequence[Tabled], metrics: Metrics, question: Question
) -> tuple[ArmFigures, ...]:
    """All columns of all arms in one bootstrap: they share the draws of the problems."""
    names = metrics.names
    means = np.concatenate([t.table.mean(axis=0) for t in tabled], axis=1)
    ceilings = [metrics.ceilings[name] for name in names] * len(tabled)
    seed = derive_seed(question.seed, "arms")
    found = bootstrap_columns(means, seed, question.level, question.resamples, ceilings)
    parts = (found[i * len(names) : (i + 1) * len(names)] for i in range(len(tabled)))
    return tuple(
        _figures_of(t, dict(zip(names, part, strict=True)), question)
        for t, part in zip(tabled, parts, strict=True)
    )


def _figures_of(tabled: Tabled, estimates: dict[str, Estimate], question: Question) -> ArmFigures:
    arm, first = tabled.arm, list(estimates).index("pass@1")
    return ArmFigures(
        name=arm.name,
        family=arm.family,
        seeds=arm.seeds,
        curve={k: estimates.pop(f"pass@{k}") for k in grid(question.k_max)},
        by_seed=tuple(tabled.table[:, :, first].mean(axis=1).tolist()),
        figures=estimates,
        reading=_reading(arm),
        cost=mean_cost(arm),
        modes=_modes(arm),
    )


def _reading(arm: Arm) -> Reading:
    outcomes = [o for run in arm.runs for o in run.outcomes]
    samples = sum(o.n for o in outcomes)
    lengths = [length for o in outcomes for length in o.lengths]
    return Reading(
        samples=samples,
        truncated=sum(o.truncated for o in outcomes) / samples,
        unread=sum(answer is None for o in outcomes for answer in o.answers) / samples,
        failures=sum(o.failures for o in outcomes),
        mean_length=fmean(lengths) if lengths else 0.0,
    )


def _modes(arm: Arm) -> Mapping[str, Mapping[str, float]]:
    """Share of each strategy by dataset, over all seeds; empty where none can be read off."""
    outcomes = [o for run in arm.runs for o in run.outcomes]
    if not any(mode for o in outcomes for mode in o.modes):
        return {}
    return mode_histogram(outcomes)


def _judgements(
    pairs: Sequence[tuple[str, str]],
    tabled: Mapping[str, Tabled],
    metrics: Metrics,
    question: Question,
) -> tuple[Judgement, ...]:
    if not pairs:
        return ()
    named = list(dict.fromkeys(pairs))
    tables = [_paired(tabled[a], tabled[b]) for a, b in named]
    seed = derive_seed(question.seed, "pairs")
    ceilings = list(metrics.ceilings.values())
    differences = seeded_columns(metrics.names, tables, seed, question.resamples, ceilings)
    found = dict(zip(named, differences, strict=True))
    comparisons = {
        f"{b} - {a}": [d.problems for d in row.values()] for (a, b), row in found.items()
    }
    margins = {f"pass@{question.k_max}": question.margin} if question.k_max > 1 else {}
    claims = declared_claims(comparisons, question.endpoints, margins)
    return tuple(
        _judgement(
            (tabled[a], tabled[b]),
            differences,
            tuple(claim for claim in claims if claim.arm == f"{b} - {a}"),
            question,
        )
        for (a, b), differences in found.items()
    )


def _judgement(
    pair: tuple[Tabled, Tabled],
    differences: Mapping[str, SeededDifference],
    claims: tuple[Claim, ...],
    question: Question,
) -> Judgement:
    a, b = pair
    law = None
    if question.k_max > 1:
        seed = derive_seed(question.seed, "crossover")
        law = crossover_law(a.curve, b.curve, seed, min(question.resamples, LAW_DRAWS))
    first = (a.arm.runs[0].outcomes, b.arm.runs[0].outcomes)
    found = Judgement(
        a=a.arm.name,
        b=b.arm.name,
        curve={k: differences[f"pass@{k}"].problems.difference for k in grid(question.k_max)},
        differences=differences,
        claims=claims,
        crossover=law,
        solved=solved_sets(*first),
        solved_twice=solved_sets(*first, at_least=2),
        sentence="",
    )
    return replace(found, sentence=judged(found, question))


def _paired(a: Tabled, b: Tabled) -> tuple[Table, Table]:
    """Tables paired by seed where both arms were trained: over the seeds that they share."""
    left, right = a.arm.seeds, b.arm.seeds
    if len(left) > 1 and len(right) > 1:
        left = right = tuple(seed for seed in left if seed in right)
        if not left:
            raise ConfigError(
                f"{a.arm.name} and {b.arm.name} share no seed; run the same seeds in both."
            )
    return a.of(left), b.of(right)


def _interaction(
    square: Square, tabled: Mapping[str, Tabled], metrics: Metrics, question: Question
) -> Interaction:
    means = {name: tabled[name].table.mean(axis=0) for name in _corners(square)}
    effect = (means[square.both] - means[square.weights]) - (
        means[square.context] - means[square.base]
    )
    found: Sequence[Estimate] = bootstrap_columns(
        effect, derive_seed(question.seed, "interaction"), question.level, question.resamples,
        [None] * len(metrics.names),
    )  # fmt: skip
    return Interaction(*_corners(square), effects=dict(zip(metrics.names, found, strict=True)))


def _corners(square: Square) -> tuple[str, str, str, str]:
    return square.base, square.context, square.weights, square.both
