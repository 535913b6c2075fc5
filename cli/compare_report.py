"""The report of a verdict: what the runs' own folders tell besides, then page, figures, tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli.plain import plain

if TYPE_CHECKING:
    from tfgrpo.verdict.arms import Arm
    from tfgrpo.verdict.meanings import Meanings
    from tfgrpo.verdict.record import Verdict

GUESSED_FROM = 1000
"""Training problems whose answers the floor of guessing knows."""

TOLD = 6
"""Pairs of arms of which the report shows replies."""


def written(
    verdict: Verdict, arms: Sequence[Arm], folder: Path, meanings: Meanings | None = None
) -> tuple[Verdict, tuple[Path, ...]]:
    """The completed verdict and the files, the page first."""
    from tfgrpo.canonical import canonical_json
    from tfgrpo.report.verdict import write_report
    from tfgrpo.storage import write_atomic

    whole = completed(verdict, arms, meanings)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "verdict.json", canonical_json(plain(whole)).encode())
    return whole, write_report(whole, folder)


def completed(verdict: Verdict, arms: Sequence[Arm], meanings: Meanings | None = None) -> Verdict:
    """With the panels of diversity, the floor of guessing, the steps of training, replies and each
    problem.
    """
    from dataclasses import replace

    from tfgrpo.verdict.evidence import disagreements, problem_shares, trajectories
    from tfgrpo.verdict.panels import with_panels
    from tfgrpo.verdict.problems import shared_problems

    pairs = [(j.a, j.b) for j in (*verdict.duels, *verdict.judgements)][:TOLD]
    problems, _ = shared_problems(arms, verdict.question.k_max, allow_missing=True)
    return replace(
        with_panels(verdict, arms, meanings),
        trajectories=trajectories(run for arm in arms for run in arm.runs),
        disagreements=disagreements(arms, pairs),
        floor=_floor(verdict, arms),
        problems_by_arm=problem_shares(arms, problems),
    )


def _floor(verdict: Verdict, arms: Sequence[Arm]) -> dict[int, float]:
    """pass@k of guessing frequent training answers; nothing where the problems cannot be had."""
    from cli.audit import closing, golds_of, read_samples
    from cli.wiring import build_tasks
    from tfgrpo.config import EvalSpec
    from tfgrpo.errors import TfgrpoError
    from tfgrpo.runs import RunDir
    from tfgrpo.seeding import derive_seed
    from tfgrpo.settings import load
    from tfgrpo.verdict import audit

    base = next(arm for arm in arms if arm.name == verdict.question.base)
    try:
        run = RunDir.open(Path(base.runs[0].source))
        spec = load(EvalSpec, None, (), run.config)
        with closing(build_tasks(spec.tasks, spec.reward)) as bench:
            samples = read_samples(run, spec, bench)
            training = bench.tasks.tasks("train", GUESSED_FROM, derive_seed(spec.seed, "tasks"))
            golds = golds_of(training, bench)
    except TfgrpoError:
        return {}
    return {k: audit.floor(samples, golds, k) for k in verdict.arms[0].curve} if golds else {}
