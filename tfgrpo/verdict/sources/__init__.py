"""Samples that other tools drew and graded, as evaluations; `detect` tells the formats apart.

    table     one row per sample: problem, sample, correct (CSV, TSV, JSON Lines, Parquet)
    lm-eval   samples_TASK_DATE.jsonl of lm-evaluation-harness (--log_samples)
    inspect   logs of Inspect: .eval and .json
    verl      STEP.jsonl of validation_data_dir or rollout_data_dir
    trl       completions_STEP.parquet of TRL's GRPOTrainer (log_completions)

Correct is what the file says is right, never "reward > 0".
"""

from tfgrpo.verdict.sources.detect import detect, read_evaluations
from tfgrpo.verdict.sources.grading import Grading

__all__ = ["Grading", "detect", "read_evaluations"]
