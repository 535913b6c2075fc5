"""Claims on calibration: overconfidence after a binary reward, and what the Brier reward mends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from baselines.claims.finding import (
    SEED,
    Finding,
    Runs,
    both,
    difference,
    of_difference,
    points,
    verdict,
)
from baselines.claims.registry import Rule, claim
from tfgrpo.metrics.calibration import auroc, brier, ece, stated
from tfgrpo.metrics.seeds import seeded_difference
from tfgrpo.seeding import derive_seed
from tfgrpo.types import TaskOutcome

Statements = Mapping[str, Sequence[tuple[float | None, bool]]]
"""For each problem its replies: the confidence stated, None for none, and whether it was right."""

STATING = 0.5
"""Share of replies that must state a confidence before anything is said of it."""


def overconfidence(base: Runs, tuned: Runs) -> Finding:
    """A binary reward makes a policy overconfident (arXiv 2507.16806).

    Without stated confidence a policy's agreement with itself stands for it: the share of a
    problem's most frequent answer, minus whether that answer is right (ties by fractions). The
    mean of it must rise, tuned minus base, paired by problem, and be above 0 in the end.
    """
    found = difference("overconfidence", base, tuned, excess_agreement)
    own = [{o.task_id: excess_agreement(o) for o in run if o.n} for run in tuned]
    calibrated = [dict.fromkeys(own[0], 0.0)]
    level = seeded_difference("level", calibrated, own, derive_seed(SEED, "level"))
    end = level.problems.difference
    over = verdict(OVER, end.value, end.low, end.high, level.by_seed)
    told = [fmean(agreement(o)[0] for run in arm for o in run if o.n) for arm in (base, tuned)]
    detail = (
        f"Share of the most frequent answer {points(told[0])} to {points(told[1])}, beyond its "
        f"being right {points(found.problems.a)} to {points(found.problems.b)} points."
    )
    rises = of_difference(claim("overconfidence").rule, found, detail)
    return replace(rises, verdict=both(rises.verdict, over))


OVER = Rule("agreement beyond being right after RL", "share", low=0.0)


def excess_agreement(outcome: TaskOutcome) -> float:
    share, right = agreement(outcome)
    return share - right


def agreement(outcome: TaskOutcome) -> tuple[float, float]:
    """Share of the most frequent answer among all replies, and the share of it that is right.

    Replies without an answer cannot win; a problem without any answer has (0, 0). Answers that
    tie count alike.
    """
    counts = Counter(a for a in outcome.answers if a is not None)
    if not counts:
        return 0.0, 0.0
    most = max(counts.values())
    first = {answer for answer, count in counts.items() if count == most}
    pairs = zip(outcome.answers, outcome.correct, strict=True)
    right = [correct for answer, correct in pairs if answer in first]
    return most / outcome.n, sum(right) / len(right)


def brier_reward(binary: Sequence[Statements], rewarded: Sequence[Statements]) -> Finding:
    """The Brier reward calibrates what a binary reward does not (arXiv 2507.16806, eq. 2).

    A problem's mean (q - y)^2, after the binary reward minus after the Brier reward, paired by
    problem and seed; a reply without a confidence counts as q = 0.5, so that silence is no
    calibration. Raises ValueError where fewer than `STATING` of the replies state one.
    """
    arms = (binary, rewarded)
    silent = [_silent(arm) for arm in arms]
    if max(silent) > 1 - STATING:
        raise ValueError(
            f"{points(max(silent))}% of the replies state no confidence, so nothing can be said of "
            "it; teach the form for longer (imitation settings) or choose another model."
        )
    scores = [[{i: _brier(said) for i, said in run.items()} for run in arm] for arm in arms]
    seed = derive_seed(SEED, "brier")
    found = seeded_difference("brier", scores[1], scores[0], seed)
    detail = "; ".join(
        f"{name}: Brier {score:.3f}, {_pooled(arm)}, silent {points(quiet)}%"
        for name, score, arm, quiet in zip(
            ("binary", "Brier reward"),
            (found.problems.b, found.problems.a),
            arms,
            silent,
            strict=True,
        )
    )
    return of_difference(claim("brier-reward").rule, found, f"{detail}.")


def _brier(said: Sequence[tuple[float | None, bool]]) -> float:
    return brier(*stated([q for q, _ in said], [y for _, y in said], "half"))


def _silent(arm: Sequence[Statements]) -> float:
    """Share of all replies that state no confidence."""
    return fmean(q is None for run in arm for said in run.values() for q, _ in said)


def _pooled(arm: Sequence[Statements]) -> str:
    """ECE, AUROC and accuracy over all replies that state a confidence, seeds averaged."""
    told = []
    for run in arm:
        pairs = [pair for said in run.values() for pair in said]
        q, y = stated([c for c, _ in pairs], [right for _, right in pairs], "drop")
        told.append((ece(q, y), auroc(q, y), fmean(right for _, right in pairs)))
    found, ranks, right = (fmean(column) for column in zip(*told, strict=True))
    return f"ECE {found:.3f}, AUROC {ranks:.2f}, right {points(right)}%"
