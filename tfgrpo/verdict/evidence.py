"""What lies beside the outcomes of our own runs: texts, tokens, and the steps of training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tfgrpo.errors import RunError
from tfgrpo.metrics.law import fit_law
from tfgrpo.runs import RunDir
from tfgrpo.tokens import TOKENS, SampledTokens, unpack
from tfgrpo.types import Completion, Rollout, RolloutGroup, Score, Task, TaskOutcome
from tfgrpo.verdict.arms import Arm, Evaluation
from tfgrpo.verdict.details import ProblemShares
from tfgrpo.verdict.own import SAMPLES, read_outcomes, trained_by
from tfgrpo.verdict.record import Disagreement, Reply, Trajectory

STEPS = "steps.jsonl"


def trajectories(evaluations: Iterable[Evaluation]) -> tuple[Trajectory, ...]:
    """The training runs behind the evaluations, each once, under the name of its own arm."""
    found: dict[Path, Trajectory] = {}
    for evaluation in sorted(evaluations, key=lambda e: e.family == "both"):
        run = run_of(evaluation)
        made = trained_by(run.config["model"]) if run else None
        if made is not None and made.path not in found:
            steps = list(_steps(made))
            if steps:
                seed = made.config.get("seed")
                found[made.path] = _trajectory(evaluation.name, seed, steps)
    return tuple(found.values())


def disagreements(
    arms: Sequence[Arm], pairs: Sequence[tuple[str, str]], each: int = 2
) -> tuple[Disagreement, ...]:
    """For each pair (a, b): the problems where b loses most to a, and those where it gains most.

    Each problem is told once, with the share right of every arm and a reply of both; nothing is
    told of arms whose texts are not there.
    """
    by_name = {arm.name: arm for arm in arms}
    shares = {arm.name: _shares(arm) for arm in arms}
    found: dict[str, Disagreement] = {}
    for a, b in pairs:
        left, right = _samples(by_name[a]), _samples(by_name[b])
        if not left or not right:
            continue
        shared = sorted(left.keys() & right.keys() & shares[a].keys() & shares[b].keys())
        ranked = sorted(shared, key=lambda i: (shares[b][i] - shares[a][i], i))
        for task_id in [*ranked[:each], *ranked[::-1][:each]]:
            if task_id not in found and shares[a][task_id] != shares[b][task_id]:
                rows = {a: left[task_id], b: right[task_id]}
                known = {name: s[task_id] for name, s in shares.items() if task_id in s}
                found[task_id] = _disagreement(rows, known)
    return tuple(found.values())


def groups_of(evaluation: Evaluation) -> tuple[RolloutGroup, ...]:
    """The samples of one of our own runs, with texts and, where they were kept, tokens.

    Raises:
        RunError: if a file is damaged.
    """
    run = run_of(evaluation)
    if run is None:
        return ()
    tokens: Mapping[str, tuple[SampledTokens, ...]] = {}
    if run.file(TOKENS).is_file():
        tokens = unpack(run.file(TOKENS).read_bytes())
    outcomes = {o.task_id: o for o in read_outcomes(run)}
    return tuple(
        _group(row, outcomes[row["task_id"]], tokens.get(row["task_id"], ()))
        for row in run.read_rows(SAMPLES)
    )


def problem_shares(arms: Sequence[Arm], problems: Sequence[str]) -> tuple[ProblemShares, ...]:
    """How often each arm was right on each of these problems, which all arms must have."""
    shares = {arm.name: _shares(arm) for arm in arms}
    datasets = {o.task_id: o.dataset for o in arms[0].runs[0].outcomes}
    return tuple(
        ProblemShares(i, datasets[i], {name: s[i] for name, s in shares.items()}) for i in problems
    )


def run_of(evaluation: Evaluation) -> RunDir | None:
    """The folder that an evaluation was read from, if it is one of our own runs."""
    try:
        return RunDir.open(Path(evaluation.source)) if evaluation.source else None
    except RunError:
        return None


def _group(
    row: Mapping[str, Any], outcome: TaskOutcome, tokens: Sequence[SampledTokens]
) -> RolloutGroup:
    task = Task(row["task_id"], row["prompt"], row["gold"], row["dataset"], "test")
    rollouts = []
    for i, text in enumerate(row["texts"]):
        own = tokens[i] if tokens else None
        completion = Completion(
            text,
            "stop",
            token_ids=own.ids if own else None,
            entropies=own.entropies if own else None,
        )
        score = Score(
            float(outcome.correct[i]), outcome.correct[i], outcome.answers[i], outcome.modes[i]
        )
        rollouts.append(Rollout(task.task_id, i, "", completion, score))
    return RolloutGroup(task, tuple(rollouts))


def _steps(run: RunDir) -> Iterator[Mapping[str, Any]]:
    for row in run.read_rows(STEPS):
        if {"accuracy", "entropy_response"} <= row["metrics"].keys():
            yield row


def _trajectory(name: str, seed: int | None, steps: Sequence[Mapping[str, Any]]) -> Trajectory:
    accuracy = [row["metrics"]["accuracy"] for row in steps]
    entropy = [row["metrics"]["entropy_response"] for row in steps]
    tokens, total = [], 0
    for row in steps:
        total += row["usage"].get("rollout", {}).get("completion_tokens", 0)
        tokens.append(total)
    try:
        law = fit_law(accuracy, entropy, 0)
        fitted = (law.a.value, law.b.value, law.r_squared)
    except ValueError:
        fitted = None
    return Trajectory(name, seed, tuple(accuracy), tuple(entropy), tuple(tokens), fitted)


def _shares(arm: Arm) -> dict[str, float]:
    by_task: dict[str, list[float]] = {}
    for run in arm.runs:
        for o in run.outcomes:
            if o.n:
                by_task.setdefault(o.task_id, []).append(o.c / o.n)
    return {task_id: fmean(shares) for task_id, shares in by_task.items()}


def _samples(arm: Arm) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Rows of the first run's texts by problem, each with the arm's name."""
    run = run_of(arm.runs[0])
    if run is None or not run.file(SAMPLES).is_file():
        return {}
    return {row["task_id"]: (arm.name, row) for row in run.read_rows(SAMPLES)}


def _disagreement(
    rows: Mapping[str, tuple[str, Mapping[str, Any]]], shares: Mapping[str, float]
) -> Disagreement:
    """The better arm shows a right reply where it has one, the other a wrong one."""
    best = max(rows, key=lambda name: shares[name])
    replies = []
    for name, row in rows.values():
        wanted = name == best
        at = next((i for i, ok in enumerate(row["correct"]) if ok is wanted), 0)
        if row["texts"]:
            replies.append(Reply(name, row["texts"][at], row["correct"][at]))
    _, row = next(iter(rows.values()))
    return Disagreement(
        row["task_id"], row["dataset"], row["prompt"], row["gold"], shares, tuple(replies)
    )
