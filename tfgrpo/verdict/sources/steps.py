"""What the logs of trainers have in common: a prompt, a grade and a step on each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfgrpo.errors import ConfigError
from tfgrpo.verdict.sources.collect import UNNAMED, ArmKey, Collector, prompt_id
from tfgrpo.verdict.sources.grading import Grading, shown
from tfgrpo.verdict.sources.rows import Table


@dataclass(frozen=True, slots=True)
class StepColumns:
    """Names of columns; those of `answer` and `dataset` may be missing in the file."""

    prompt: str
    score: str
    answer: str = ""
    dataset: str = ""


def chosen_score(path: Path, names: Sequence[str], grading: Grading) -> str | None:
    """The column that the user named. Raises ConfigError if the file lacks it."""
    if grading.score is not None and grading.score not in names:
        raise ConfigError(
            f"{path} has no column {grading.score!r}; choose from {', '.join(names)}."
        )
    return grading.score


def read_steps(
    path: Path,
    table: Table,
    columns: StepColumns,
    collector: Collector,
    grading: Grading,
    skip_nan: bool = False,
) -> None:
    """Feed all rows to `collector`, one arm for each step.

    Raises:
        ConfigError: for a row without a prompt, or whose grade or step cannot be read.
    """
    at = {name: i for i, name in enumerate(table.names)}
    prompt_at, score_at, step_at = at[columns.prompt], at[columns.score], at.get("step")
    answer_at, dataset_at = at.get(columns.answer), at.get(columns.dataset)
    ids: dict[str, str] = {}
    arms: dict[int | None, ArmKey] = {}
    collector.begin(path)
    for line, row in table.rows:
        try:
            problem = _problem(row[prompt_at], ids)
            step = None if step_at is None else _step(row[step_at])
            grade = row[score_at]
            correct = None if skip_nan and grade != grade else grading.verdict(grade)
        except ValueError as error:
            raise ConfigError(f"{path}, line {line}: {error}.") from None
        if step not in arms:
            arms[step] = ArmKey(("" if step is None else f"step {step}",))
        dataset = None if dataset_at is None else row[dataset_at]
        answer = None if answer_at is None else row[answer_at]
        collector.add(
            arms[step],
            dataset if dataset and isinstance(dataset, str) else UNNAMED,
            problem,
            line,
            correct,
            answer=answer if answer and isinstance(answer, str) else None,
        )
    for arm in arms.values():
        collector.declare(arm, "", {"reward": grading.verifier(columns.score)})


def _problem(prompt: object, ids: dict[str, str]) -> str:
    if not isinstance(prompt, str):
        return prompt_id(prompt)
    if prompt not in ids:
        ids[prompt] = prompt_id(prompt)
    return ids[prompt]


def _step(step: object) -> int | None:
    if step is not None and (isinstance(step, bool) or not isinstance(step, int)):
        raise ValueError(f"the step {shown(step)} is no whole number; correct it")
    return step
