"""Samples as lm-evaluation-harness writes them, for whatever reads its files.

    FOLDER/ARM/samples_TASK_STAMP.jsonl    one line per problem: its replies, answers and verdicts
    FOLDER/ARM/results_STAMP.json          pass@1 of each task, as `exact_match,none`

All replies of a problem stand in one line, as with `repeats` and take_first_k; `exact_match` is
then the mean of their verdicts. What lm-eval has no name for stands under `OWN`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tfgrpo.canonical import canonical_json
from tfgrpo.errors import ConfigError
from tfgrpo.storage import write_atomic
from tfgrpo.types import TaskOutcome
from tfgrpo.verdict.arms import Evaluation
from tfgrpo.verdict.export import Exported
from tfgrpo.verdict.sources.lm_eval_own import INVALID, OWN

_NAMES = {"max_tokens": "max_gen_toks", "stop": "until"}


def write_lm_eval(folder: Path, exported: Sequence[Exported], stamp: str) -> int:
    """Write all files, replacing those of the same stamp; returns the number of lines.

    `stamp` stands in the names of the files, as lm-eval's date does; it has no underscore.

    Raises:
        ConfigError: if an evaluation has no texts, or two would write one file.
        RunError: if a file cannot be written.
    """
    places = [folder / _place(one.evaluation) for one in exported]
    if len(set(places)) < len(places):
        raise ConfigError("Two evaluations have one name and seed; export them one by one.")
    count = 0
    for place, one in zip(places, exported, strict=True):
        if not one.texts:
            raise ConfigError(
                f"{one.evaluation.source} keeps no texts, without which there are no samples of "
                "lm-eval; write CSV or Parquet."
            )
        by_file: dict[str, list[TaskOutcome]] = {}
        for outcome in one.evaluation.outcomes:
            task = re.sub(r"[^\w.-]", "_", outcome.dataset)
            by_file.setdefault(f"samples_{task}_{stamp}.jsonl", []).append(outcome)
        for name, outcomes in by_file.items():
            lines = [canonical_json(_line(one, i, o)) for i, o in enumerate(outcomes)]
            write_atomic(place / name, "".join(f"{line}\n" for line in lines).encode())
            count += len(lines)
        results = json.dumps(_results(one.evaluation), indent=2, ensure_ascii=False)
        write_atomic(place / f"results_{stamp}.json", results.encode("utf-8", "backslashreplace"))
    return count


def _place(evaluation: Evaluation) -> str:
    """lm-eval's own folder of a model: its name without what file systems refuse."""
    seed = "" if evaluation.seed is None else f"-{evaluation.seed}"
    plain = re.sub(r"[^\w.+=-]+", "__", evaluation.name).strip(".")
    return f"{plain or 'arm'}{seed}"


def _line(one: Exported, number: int, outcome: TaskOutcome) -> dict[str, Any]:
    texts = one.texts[outcome.task_id]
    doc = {"task_id": outcome.task_id, "question": texts.prompt, "answer": texts.gold}
    answers = [INVALID if answer is None else answer for answer in outcome.answers]
    target = str(texts.gold)
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": texts.prompt, "arg_1": _settings(one.evaluation)}},
        "resps": [list(texts.replies)],
        "filtered_resps": [answers],
        "filter": "none",
        "metrics": ["exact_match"],
        "exact_match": outcome.c / outcome.n if outcome.n else None,
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(texts.prompt),
        "target_hash": _hash(target),
        OWN: _own(one.evaluation, outcome),
    }


def _own(evaluation: Evaluation, outcome: TaskOutcome) -> dict[str, Any]:
    return {
        "seed": evaluation.seed,
        "dataset": outcome.dataset,
        "correct": outcome.correct,
        "modes": outcome.modes,
        "entropies": outcome.entropies,
        "lengths": outcome.lengths,
        "truncated": outcome.truncated,
        "failures": outcome.failures,
    }


def _settings(evaluation: Evaluation) -> dict[str, Any]:
    """Generation settings under lm-eval's names."""
    told: Mapping[str, Any] = evaluation.protocol.get("sampling") or {}
    named = {_NAMES.get(name, name): value for name, value in told.items()}
    return named | {"do_sample": told["temperature"] > 0} if "temperature" in told else named


def _results(evaluation: Evaluation) -> dict[str, Any]:
    shares: dict[str, list[float]] = {}
    for outcome in evaluation.outcomes:
        if outcome.n:
            shares.setdefault(outcome.dataset, []).append(outcome.c / outcome.n)
    return {
        "results": {
            task: {"alias": task, "exact_match,none": fmean(found), "sample_len": len(found)}
            for task, found in shares.items()
        },
        "model_name": evaluation.name,
        OWN: {"protocol": json.loads(canonical_json(evaluation.protocol))},
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
