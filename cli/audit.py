"""`tfgrpo audit`: whether an evaluation's numbers mean what they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console, options

if TYPE_CHECKING:
    from cli.wiring import Bench
    from tfgrpo.config import EvalSpec
    from tfgrpo.protocols import Reward
    from tfgrpo.runs import RunDir
    from tfgrpo.types import Task
    from tfgrpo.verdict.audit import Check, Grade, Sampled

WORDS = {"ok": "[green]ok[/]", "look": "[yellow]look[/]", "bad": "[red]bad[/]"}


@dataclass(frozen=True, slots=True)
class Audited:
    """An evaluation run, what was sampled in it, and what its checks found."""

    run: Path
    samples: tuple[Sampled, ...]
    checks: tuple[Check, ...]


def audit(
    runs: Annotated[list[Path], typer.Argument(help="Evaluation runs; the first is the base.")],
    train: Annotated[
        int, typer.Option(min=1, help="Training problems whose answers are guessed from.")
    ] = 1000,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Look for guessing, lenient verifiers, constant answers, leaks and gains of form.

    Nothing is sampled: the stored replies are read and graded again. Ends with 1 if one check is
    bad.
    """
    from tfgrpo.verdict.audit_form import format_gain, twins

    audited = [examined(path, train, seed or 0) for path in runs]
    base = audited[0]
    for i, one in enumerate(audited[1:], start=1):
        paired = (format_gain(base.samples, one.samples), twins(base.samples, one.samples))
        audited[i] = Audited(one.run, one.samples, (*one.checks, *paired))
    if json:
        rows = [{"run": one.run, "checks": [asdict(c) for c in one.checks]} for one in audited]
        console.print_json(rows)
    else:
        for one in audited:
            _print(one)
    if any(check.level == "bad" for one in audited for check in one.checks):
        raise typer.Exit(1)


def examined(path: Path, train: int, seed: int) -> Audited:
    """All checks of one run by itself.

    Raises:
        ConfigError: if the run is no finished evaluation.
        RunError: if its problems or samples are not those that were evaluated.
    """
    from cli.audit_shown import shown_check
    from cli.wiring import build_tasks
    from tfgrpo.config import CodeReward, EvalSpec
    from tfgrpo.errors import ConfigError
    from tfgrpo.runs import RunDir
    from tfgrpo.seeding import derive_seed
    from tfgrpo.settings import load
    from tfgrpo.verdict import audit, audit_form
    from tfgrpo.verdict.own import OUTCOMES

    run = RunDir.open(path)
    if run.kind != "eval" or not run.file(OUTCOMES).is_file():
        raise ConfigError(f"{path} is no finished evaluation; give a run of tfgrpo eval.")
    spec = load(EvalSpec, None, (), run.config)
    with closing(build_tasks(spec.tasks, spec.reward)) as bench:
        samples = read_samples(run, spec, bench)
        training = bench.tasks.tasks("train", train, derive_seed(spec.seed, "tasks"))
        golds, grade = golds_of(training, bench), grader(bench.reward)
        checks = [
            audit.guessing(samples, golds),
            audit.shuffled_gold(samples, grade, golds, seed),
            audit.constant_answer(samples),
            audit.graded_again(samples, grade),
            *graded_otherwise(samples, bench.reward),
            *([] if isinstance(spec.reward, CodeReward) else [audit.hedges(samples)]),
            shown_check(run, spec, bench, training),
            audit_form.cut_off(samples),
            audit_form.unread(samples),
            audit_form.copies(samples, spec.sampling.temperature),
            audit_form.failures(samples),
        ]
    return Audited(path, samples, tuple(checks))


@contextmanager
def closing(bench: Bench) -> Iterator[Bench]:
    """Ends the processes that some verifiers own."""
    try:
        yield bench
    finally:
        close = getattr(bench.reward, "close", None)
        if close is not None:
            close()


def read_samples(run: RunDir, spec: EvalSpec, bench: Bench) -> tuple[Sampled, ...]:
    """The problems of an evaluation with their outcomes and texts, in their order."""
    from tfgrpo.errors import RunError
    from tfgrpo.seeding import derive_seed
    from tfgrpo.verdict.audit import Sampled
    from tfgrpo.verdict.own import SAMPLES, read_outcomes

    tasks = bench.tasks.tasks(spec.split, spec.limit, derive_seed(spec.seed, "tasks"))
    outcomes, rows = read_outcomes(run), list(run.read_rows(SAMPLES))
    given = [(row["task_id"], row["prompt"], row["gold"]) for row in rows]
    if given != [(task.task_id, task.prompt, task.answer) for task in tasks]:
        raise RunError(
            f"{run.path} was made with other problems than {bench.tasks.name} now has; restore "
            "them, or evaluate again."
        )
    samples = tuple(
        Sampled(task, canonical_gold(bench, task), outcome, tuple(row["texts"]),
                tuple(row["failures"]))
        for task, outcome, row in zip(tasks, outcomes, rows, strict=True)
    )  # fmt: skip
    if any((s.task.task_id, s.outcome.n) != (s.outcome.task_id, len(s.texts)) for s in samples):
        raise RunError(f"The samples and outcomes in {run.path} do not fit; evaluate again.")
    return samples


def canonical_gold(bench: Bench, task: Task) -> str | None:
    """The gold answer under the name that a reply's answer would be counted under."""
    if task.answer is None:
        return None
    from tfgrpo.rewards.exact import canonical_answer

    read = bench.read(task, f"Answer: {task.answer}")
    return canonical_answer(task.answer) if read is None else read


def golds_of(tasks: Sequence[Task], bench: Bench) -> dict[str, list[str]]:
    """Canonical gold answers by dataset."""
    found: dict[str, list[str]] = {}
    for task in tasks:
        if (gold := canonical_gold(bench, task)) is not None:
            found.setdefault(task.dataset, []).append(gold)
    return found


def grader(reward: Reward) -> Grade:
    from tfgrpo.types import Score

    def grade(task: Task, text: str) -> bool | None:
        score = reward.score(task, text)
        return score.correct if isinstance(score, Score) else None

    return grade


def graded_otherwise(samples: Sequence[Sampled], reward: Reward) -> Iterator[Check]:
    """A second opinion where one applies: by number where all golds of a dataset are numbers.

    A verifier that already reads numbers, or more than numbers, is compared with exact texts.
    """
    from tfgrpo.rewards.exact import canonical_number
    from tfgrpo.rewards.math_verify import MathVerifyReward
    from tfgrpo.rewards.table import ChoiceReward, NumericReward, make_reward
    from tfgrpo.verdict.audit import graded_again

    if isinstance(reward, ChoiceReward):
        return
    if isinstance(reward, NumericReward | MathVerifyReward):
        yield graded_again(samples, grader(make_reward("exact")), "exact")
        return
    worded = {
        s.task.dataset
        for s in samples
        if s.task.answer is None or canonical_number(s.task.answer) is None
    }
    if numbers := [s for s in samples if s.task.dataset not in worded]:
        yield graded_again(numbers, grader(make_reward("numeric")), "numeric")


def _print(one: Audited) -> None:
    rows = [(c.name, WORDS[c.level], _told(c)) for c in one.checks]
    console.show(
        console.table(f"\n{console.safe(one.run)}", ("check", "", "found"), rows, text=True)
    )


def _told(check: Check) -> str:
    """The finding, then what to do, then examples, each on lines of its own."""
    advice = [f"-> {check.advice}"] if check.advice else []
    lines = [check.finding, *advice, *(f"   {example}" for example in check.examples)]
    return console.safe("\n".join(lines))
