"""Completions that TRL logs (log_completions): completions/completions_STEP.parquet.

    step, prompt, completion, one column for each reward function, further columns, advantage

A reward of null or NaN is a reply to which that function does not apply: it counts as not graded.
Each step is a policy of its own, and a hash of the prompt stands for the problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfgrpo.errors import ConfigError
from tfgrpo.verdict.sources.collect import Collector
from tfgrpo.verdict.sources.grading import Grading
from tfgrpo.verdict.sources.rows import Table
from tfgrpo.verdict.sources.steps import StepColumns, chosen_score, read_steps

OTHERS = ("step", "prompt", "completion", "advantage", "advantages", "image", "images")
KNOWN = ("accuracy_reward", "correct", "reward")
"""Columns that tell what is right where there are several; the first is TRL's own function."""


def is_trl(names: Sequence[str]) -> bool:
    return {"prompt", "completion"} <= set(names)


def needed_columns(path: Path, names: Sequence[str], grading: Grading) -> tuple[str, ...]:
    """Those columns that `read_trl` reads; the completions themselves are not among them."""
    step = ("step",) if "step" in names else ()
    return ("prompt", *step, _score(path, names, grading))


def read_trl(path: Path, table: Table, collector: Collector, grading: Grading) -> None:
    """Feed all samples to `collector`.

    Raises:
        ConfigError: if no column is the one that tells what is right, or a line cannot be read.
    """
    columns = StepColumns("prompt", _score(path, table.names, grading))
    read_steps(path, table, columns, collector, grading, skip_nan=True)


def _score(path: Path, names: Sequence[str], grading: Grading) -> str:
    chosen = chosen_score(path, names, grading)
    if chosen is not None:
        return chosen
    found = [name for name in names if name not in OTHERS]
    known = [name for name in KNOWN if name in found]
    if len(found) == 1 or known:
        return (known or found)[0]
    raise ConfigError(
        f"{path} does not tell which of its columns ({', '.join(found) or 'none'}) says what is "
        "right; name one (tfgrpo samples convert --score)."
    )
