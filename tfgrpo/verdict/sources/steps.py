"""What the logs of trainers have in common: a prompt, a grade and a step on each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfgrpo.errors import ConfigError
from tfgrpo.verdict.sources.collect import UNNAMED, ArmKey, Collector, prompt_id
from tfgrpo.verdict.sources.grading import Grading
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
    prompt_at, score_at = at[columns.prompt], at[columns.score]
    answer_at, dataset_at = at.get(columns.answer), at.get(columns.dataset)
    step_at = at.get("step")
    ids: dict[str, str] = {}
    arms: dict[object, ArmKey] = {}
    collector.begin(path)
    for line, row in table.rows:
        prompt, grade = row[prompt_at], row[score_at]
        try:
            if not prompt or not isinstance(prompt, str | list):
                raise ValueError("the prompt is missing; restore it")
            problem = ids.get(prompt) if isinstance(prompt, str) else prompt_id(prompt)
            if problem is None:
                problem = ids[prompt] = prompt_id(prompt)
            step = None if step_at is None else row[step_at]
            arm = arms.get(step) if isinstance(step, int) else None
            if arm is None:
                arm = arms[step] = ArmKey((_step_name(step),))
            correct = None if skip_nan and grade != grade else grading.verdict(grade)
        except ValueError as error:
            raise ConfigError(f"{path}, line {line}: {error}.") from None
        answer = None if answer_at is None else row[answer_at]
        dataset = None if dataset_at is None else row[dataset_at]
        collector.add(
            arm,
            dataset if isinstance(dataset, str) else UNNAMED,
            problem,
            line,
            correct,
            answer=answer if isinstance(answer, str) and answer else None,
        )
    for arm in arms.values():
        collector.declare(arm, "", {"reward": grading.verifier(columns.score)})


def _step_name(step: object) -> str:
    if step is None:
        return ""
    if isinstance(step, bool) or not isinstance(step, int):
        raise ValueError(f"the step {step!r} is no whole number; correct it")
    return f"step {step}"
