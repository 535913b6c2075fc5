"""Verdicts to draw: of simulated arms, as rich or as bare as a test asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from tests.tfgrpo.report.beside import fate, panel_differences, problem_shares
from tests.tfgrpo.report.simulated import FEW, KS, SAMPLES, SORTS, Sampled, Sort, Values, sampled
from tfgrpo.metrics.claims import declared_claims
from tfgrpo.metrics.crossover import crossover_law
from tfgrpo.metrics.panel import PANEL
from tfgrpo.metrics.seeds import SeededDifference, crossed_mean
from tfgrpo.metrics.solved import SolvedSets
from tfgrpo.report.figures.album import drawings
from tfgrpo.report.figures.sketch import Drawing
from tfgrpo.types import Comparison, Estimate, Usage
from tfgrpo.verdict.arms import Cost
from tfgrpo.verdict.record import (
    ArmFigures,
    Disagreement,
    Interaction,
    Judgement,
    Question,
    Reading,
    Reply,
    Trajectory,
    Verdict,
)


def verdict(
    sorts: Sequence[Sort] = SORTS,
    problems: int = 200,
    *,
    replies: int = 6,
    text: str = "",
    stamps: tuple[str, ...] = (),
) -> Verdict:
    """All parts of a verdict, for these arms, the first of which is the base.

    `text` stands wherever people or models could have written something.
    """
    question = Question(sorts[0].name, k_max=SAMPLES, k_mid=8, resamples=500)
    arms = {sort.name: sampled(sort, problems) for sort in sorts}
    others = [arms[sort.name] for sort in sorts[1:]]
    base = arms[sorts[0].name]
    learned = [a.sort for a in others if a.sort.seeds > 1]
    return Verdict(
        question=question,
        problems=problems,
        samples=SAMPLES,
        datasets={f"countdown{text}": problems // 2, "sums": problems - problems // 2},
        arms=tuple(figures(arm) for arm in arms.values()),
        judgements=judgements(base, others, question),
        duels=judgements(others[-1], others[:1], question) if len(others) > 1 else (),
        interaction=_interaction(sorts),
        floor={k: 1 - (1 - 0.02) ** k for k in KS},
        trajectories=tuple(run for sort in learned for run in trajectories(sort)),
        disagreements=disagreements(sorts, replies, text),
        diversity=tuple(
            d for sort in sorts[1:] for d in panel_differences(sorts[0], sort, problems)
        ),
        problems_by_arm=problem_shares(arms, text),
        fates=tuple(fate(arm, text) for arm in arms.values()),
        stamps=stamps,
        settings={
            "problems": "4f1c0e", "split": "test", "base": {"kind": f"abacus{text}"},
            "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 160, "stop": []},
        },
    )  # fmt: skip


@cache
def rich() -> Verdict:
    return verdict()


@cache
def small() -> Verdict:
    return verdict(FEW, 40, replies=2)


@cache
def small_drawings() -> tuple[Drawing, ...]:
    return drawings(small())


def spoken(text: str) -> Verdict:
    """A small verdict with `text` in all of its names and texts."""
    sorts = [replace(sort, name=f"{sort.name}{text}") for sort in FEW]
    return verdict(sorts, 40, replies=2, text=text, stamps=(f"Forced: {text}",))


def bare() -> Verdict:
    """What is left where nothing but pass@1 of two untrained arms is known."""
    one = Estimate(0.5, math.nan, math.nan, 1, "none")
    reading = Reading(samples=1, truncated=0.0, unread=0.0, failures=0, mean_length=0.0)
    arms = tuple(
        ArmFigures(name, family, (None,), {1: one}, (0.5,), {}, reading)
        for name, family in (("base", "base"), ("other", "other"))
    )
    return Verdict(Question("base", 1, 1), 1, 1, {"sums": 1}, arms, ())


def figures(arm: Sampled) -> ArmFigures:
    sort, rng = arm.sort, np.random.default_rng(len(arm.sort.name))
    mean = arm.curve.mean(axis=0)
    seeds = tuple(range(sort.seeds)) if sort.seeds > 1 else (None,)
    distinct = mean[:, 7] * (1.2 + 2 * sort.entropy)
    return ArmFigures(
        name=sort.name,
        family=sort.family,
        seeds=seeds,
        curve={k: estimate(mean[:, k - 1]) for k in KS},
        by_seed=tuple(arm.curve[:, :, 0].mean(axis=1).tolist()),
        figures={
            "distinct_correct@8": estimate(distinct),
            "distinct_modes@8": estimate(0.7 * distinct),
            "maj@8": estimate(mean[:, 0] ** 0.8),
            "pass^8": estimate(mean[:, 0] ** 4),
            "cover@0.5": estimate((mean[:, 0] > 0.5).astype(float)),
            "answer_entropy": estimate(2 * sort.entropy * (1 - mean[:, 0])),
            "token_entropy": estimate(sort.entropy + rng.normal(0, 0.15, len(mean))),
            "length": estimate(60 + 40 * rng.random(len(mean))),
        },
        reading=Reading(arm.counts.size * SAMPLES, 0.01, 0.03, 2, 78.4),
        cost=cost(sort, len(mean)),
        panel=_panel(sort, len(mean), 1.0),
        panel_correct=_panel(sort, len(mean), 0.7),
        modes={
            "sums": _modes(sort.entropy, ("columns", "jumps", "swap", "near ten")),
            "countdown": _modes(sort.entropy, tuple(f"plan {c}" for c in "abcdefghij")),
        },
    )


def cost(sort: Sort, problems: int) -> Cost:
    words = 160 * SAMPLES * problems
    context = {"context": 900, "both": 900, "control": 300}.get(sort.family, 0)
    made = sort.seeds > 1
    tokens = int(4e5 if sort.family == "context" else 6e6 * (1 + sort.entropy))
    return Cost(
        making={"rollout": Usage(400, 90_000, 0, tokens, 0, 61.0)} if made else {},
        serving=Usage(problems, (120 + context) * SAMPLES * problems, 0, words, 0, 33.0),
        queries=problems,
        samples=SAMPLES * problems,
        flops=tokens * (2 if sort.family == "context" else 6) * 5_000_000 if made else 0,
        usd=None,
    )


def judgements(
    base: Sampled, others: Sequence[Sampled], question: Question
) -> tuple[Judgement, ...]:
    found = {arm.sort.name: differences(base, arm) for arm in others}
    compared = {
        f"{name} - {base.sort.name}": [d.problems for d in by_name.values()]
        for name, by_name in found.items()
    }
    margins = {f"pass@{question.k_max}": question.margin}
    claims = declared_claims(compared, question.endpoints, margins)
    return tuple(
        Judgement(
            a=base.sort.name,
            b=arm.sort.name,
            curve={k: found[arm.sort.name][f"pass@{k}"].problems.difference for k in KS},
            differences=found[arm.sort.name],
            claims=tuple(c for c in claims if c.arm == f"{arm.sort.name} - {base.sort.name}"),
            crossover=crossover_law(base.curve.mean(axis=0), arm.curve.mean(axis=0), 0, 200),
            solved=solved(base, arm, 1),
            solved_twice=solved(base, arm, 2),
            sentence=_sentence(arm.sort.name, found[arm.sort.name]["pass@1"]),
        )
        for arm in others
    )


def _sentence(name: str, found: SeededDifference) -> str:
    e = found.problems.difference
    return (
        f"{name} differs by {100 * e.value:+.1f} [{100 * e.low:+.1f}, {100 * e.high:+.1f}] points "
        f"at one sample, {found.agreeing}/{len(found.by_seed)} seeds agree."
    )


def differences(a: Sampled, b: Sampled) -> dict[str, SeededDifference]:
    """Paired differences with normal intervals."""
    gap = b.curve - a.curve.mean(axis=0)
    tables = {f"pass@{k}": (gap[:, :, k - 1], a.curve[:, :, k - 1].mean()) for k in KS}
    tables["distinct_correct@8"] = (2.4 * gap[:, :, 7] - 0.1, 1.7)
    tables["token_entropy"] = (
        0.3 * gap[:, :, 0] + b.sort.entropy - a.sort.entropy, a.sort.entropy,
    )  # fmt: skip
    made = {}
    for name, (table, level) in tables.items():
        found = estimate(table.mean(axis=0))
        by_seed = tuple(table.mean(axis=1).tolist())
        error = (found.high - found.low) / 3.92
        p = math.erfc(abs(found.value) / error / 2**0.5) if error else 1.0
        seeds = Estimate(found.value, min(by_seed), max(by_seed), len(by_seed), "t over seeds")
        compared = Comparison(name, float(level), float(level) + found.value, found, p)
        made[name] = SeededDifference(name, by_seed, compared, seeds, crossed_mean(table))
    return made


def solved(a: Sampled, b: Sampled, times: int) -> SolvedSets:
    x, y = a.counts[0] >= times, b.counts[0] >= times
    cells = (x & y, x & ~y, ~x & y, ~x & ~y)
    return SolvedSets(*(tuple(f"t{i:04d}" for i in np.flatnonzero(cell)) for cell in cells), ())


def trajectories(sort: Sort, steps: int = 120) -> tuple[Trajectory, ...]:
    """Entropy that falls to the arm's own, and accuracy along R = -a exp(H) + b."""
    found = []
    for seed in range(sort.seeds):
        rng = np.random.default_rng([seed, sum(map(ord, sort.name))])
        fall = np.exp(-np.arange(steps) / 30)
        entropy = sort.entropy + (0.62 - sort.entropy) * fall + rng.normal(0, 0.012, steps)
        a, b = 0.42 + 0.02 * seed, 1.12
        accuracy = np.clip(b - a * np.exp(entropy) + rng.normal(0, 0.03, steps), 0, 1)
        tokens = np.cumsum(rng.integers(40_000, 60_000, steps))
        law = (a, b, 0.93) if sort.family == "weights" else None
        found.append(
            Trajectory(sort.name, seed, tuple(accuracy.tolist()), tuple(entropy.tolist()),
                       tuple(tokens.tolist()), law)
        )  # fmt: skip
    return tuple(found)


def disagreements(sorts: Sequence[Sort], count: int, text: str) -> tuple[Disagreement, ...]:
    return tuple(
        Disagreement(
            task_id=f"t{i:04d}",
            dataset="sums",
            prompt=f"What is {17 * i} + {23 * i}?{text}",
            gold=f"{40 * i}{text}",
            shares={sort.name: (i + n) % 5 / 4 for n, sort in enumerate(sorts)},
            replies=tuple(
                Reply(sort.name, f"{17 * i} + {23 * i} = {40 * i + n % 2}{text}", n % 2 == 0)
                for n, sort in enumerate(sorts)
            ),
        )
        for i in range(count)
    )


def estimate(values: Values) -> Estimate:
    mean, error = float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5
    return Estimate(mean, mean - 1.96 * error, mean + 1.96 * error, len(values), "normal")


def _panel(sort: Sort, problems: int, part: float) -> dict[str, Estimate]:
    values = dict(zip(PANEL, (1.0, 2.0, 2.5, 3.0, 8.0, 0.7, 3.2, 0.3), strict=True))
    return {
        name: Estimate(v := level * part * (0.5 + sort.entropy), 0.94 * v, 1.07 * v, problems, "x")
        for name, level in values.items()
    }


def _modes(entropy: float, names: Sequence[str]) -> Mapping[str, float]:
    weights = np.exp(-np.arange(len(names)) / (0.4 + 3 * entropy))
    return dict(zip(names, (weights / weights.sum()).tolist(), strict=True))


def _interaction(sorts: Sequence[Sort]) -> Interaction | None:
    names = {sort.family: sort.name for sort in reversed(sorts)}
    if "both" not in names:
        return None
    effects = {
        "pass@1": Estimate(-0.021, -0.045, 0.003, 200, "bca"),
        "pass@64": Estimate(-0.004, -0.02, 0.012, 200, "bca"),
        "distinct_correct@8": Estimate(0.08, -0.05, 0.2, 200, "bca"),
    }
    return Interaction("base", names["context"], names["weights"], names["both"], effects)
