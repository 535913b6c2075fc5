"""Dumps of verl: `STEP.jsonl` in validation_data_dir or rollout_data_dir, one reply per line.

    {"input": prompt, "output": reply, "gts": gold, "score": reward, "step": 100, ...}

and what the reward function says besides: `acc` (what is right, where it is there: `score` is a
reward, which may be -1 or lie between), `pred` (the answer). Each step is a policy of its own.
Replies have no numbers, and prompts no ids: a hash of the prompt stands for the problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfgrpo.verdict.sources.collect import Collector
from tfgrpo.verdict.sources.grading import Grading
from tfgrpo.verdict.sources.rows import Table
from tfgrpo.verdict.sources.steps import StepColumns, chosen_score, read_steps


def is_verl(names: Sequence[str]) -> bool:
    return {"input", "output", "score"} <= set(names)


def read_verl(path: Path, table: Table, collector: Collector, grading: Grading) -> None:
    """Feed all samples to `collector`. Raises ConfigError for a line that cannot be read."""
    own = "acc" if "acc" in table.names else "score"
    score = chosen_score(path, table.names, grading) or own
    columns = StepColumns("input", score, "pred", "data_source")
    read_steps(path, table, columns, collector, grading)
