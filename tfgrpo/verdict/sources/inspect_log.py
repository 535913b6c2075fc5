"""Logs of Inspect: `.eval`, a zip file with a member for each sample, and `.json`, one object.

A sample's epoch is its number. "C" is right, "I" and "N" (no answer) are wrong; "P" (partial) and
other values need a threshold. What ended in an error, was invalidated or has no score (NaN) counts
as not graded. Lengths are the output tokens of the evaluated model over the whole sample.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfgrpo.errors import ConfigError
from tfgrpo.verdict.sources.collect import ArmKey, Collector
from tfgrpo.verdict.sources.grading import Grading
from tfgrpo.verdict.sources.inspect_zip import HEADERS, opened_log
from tfgrpo.verdict.sources.rows import Notice

LETTERS: Mapping[object, float] = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
CUT = ("max_tokens", "model_length", "length")

_WHOLE = re.compile(r"samples/.*_epoch_\d+\.json", re.DOTALL)
_SHELL = re.compile(r"samples/.*_epoch_\d+/sample\.json", re.DOTALL)
_SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_tokens": "max_tokens",
    "stop_seqs": "stop",
}
_Parts = tuple[Mapping[str, Any], Iterator[tuple[str, Any]]]


def is_inspect(names: tuple[str, ...]) -> bool:
    return {"eval", "status"} <= set(names) or any(name in HEADERS for name in names)


def read_zip(path: Path, collector: Collector, grading: Grading, notice: Notice) -> None:
    """Feed all samples of an `.eval` log to `collector`, one after another.

    Raises:
        ConfigError: if the log is damaged, has no samples, or does not tell what is right.
    """
    with opened_log(path) as log:
        header = next((name for name in HEADERS if name in log.names), None)
        if header is None:
            raise ConfigError(f"{path} is a zip file, but no log of Inspect; give a log.")
        members = [n for n in log.names if _SHELL.fullmatch(n) or _WHOLE.fullmatch(n)]
        samples = ((name, log.read_json(name)) for name in members)
        _read(path, (log.read_json(header), samples), collector, grading, notice)


def read_json(path: Path, collector: Collector, grading: Grading, notice: Notice) -> None:
    """The same for a `.json` log, which is read as a whole."""
    try:
        log = json.loads(path.read_bytes())
        samples = enumerate(log.get("samples") or [], start=1)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} is no sound log of Inspect ({error}); restore it.") from None
    numbered = ((f"sample {i}", sample) for i, sample in samples)
    _read(path, (log, numbered), collector, grading, notice)


def _read(
    path: Path, parts: _Parts, collector: Collector, grading: Grading, notice: Notice
) -> None:
    header, samples = parts
    try:
        about = header["eval"]
        task, model = str(about["task"]), str(about["model"])
        facts: dict[str, Any] = {"version": about.get("task_version", 0)}
        if sampling := _sampling(header):
            facts["sampling"] = sampling
        status = header.get("status", "started")
    except (TypeError, KeyError, AttributeError):
        raise ConfigError(f"{path} has a header without task or model; restore the log.") from None
    if status != "success":
        notice(f"{path} is of an evaluation that did not end well (status {status}).")
    collector.begin(path)
    arm = ArmKey((model,))
    scorers: set[str] = set()
    for line, (name, sample) in enumerate(samples, start=1):
        try:
            scorers.add(_add(collector, arm, task, sample, line, grading))
        except ValueError as error:
            raise ConfigError(f"{path}, {name}: {error}.") from None
        except (TypeError, LookupError, AttributeError, OverflowError):
            raise ConfigError(f"{path}, {name}, is no sample of Inspect; restore it.") from None
    scorers.discard("")
    if len(scorers) > 1:
        raise ConfigError(
            f"{path} has samples of the scorers {', '.join(sorted(scorers))}; name one (tfgrpo "
            "samples convert --score)."
        )
    if scorers:
        facts["reward"] = grading.verifier(scorers.pop())
    collector.declare(arm, task, facts)


def _add(
    collector: Collector, arm: ArmKey, task: str, sample: Any, line: int, grading: Grading
) -> str:
    """Feed one sample; returns the scorer that graded it, '' for none."""
    epoch = sample.get("epoch", 1)
    if not isinstance(epoch, int) or epoch < 0 or not isinstance(sample["id"], int | str):
        raise TypeError
    failed = sample.get("error") or sample.get("invalidation")
    scorer, value, answer = ("", None, None) if failed else _score(sample, grading)
    value = LETTERS.get(value, value)
    correct = None if value != value else grading.verdict(value)
    output = sample.get("output") or {}
    choices, limit = output.get("choices"), sample.get("limit") or {}
    stop = choices[0].get("stop_reason") if choices else None
    collector.add(
        arm,
        task,
        f"{task}:{sample['id']}",
        line,
        correct,
        epoch,
        answer if isinstance(answer, str) and answer else None,
        _tokens(sample, output, arm.parts[0]),
        cut=stop in CUT or limit.get("type") == "token",
    )
    return scorer


def _score(sample: Mapping[str, Any], grading: Grading) -> tuple[str, Any, Any]:
    """Name, value and answer of the score that is there, or that the user named."""
    scores = sample.get("scores") or {}
    values = {
        name: (value, score.get("answer"))
        for scorer, score in scores.items()
        for name, value in _values(scorer, score.get("value"))
    }
    if not values:
        return "", None, None
    wanted = grading.score
    if wanted is None and len(values) == 1:
        (wanted,) = values
    if wanted not in values:
        told = "several scores" if wanted is None else f"no score {wanted!r}"
        names = ", ".join(values)
        raise ValueError(f"it has {told}; name one of {names} (tfgrpo samples convert --score)")
    return wanted, *values[wanted]


def _values(scorer: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A scorer may give a table of values: each is a score of its own, SCORER.KEY."""
    if isinstance(value, dict):
        yield from ((f"{scorer}.{key}", own) for key, own in value.items())
    else:
        yield scorer, value


def _tokens(sample: Mapping[str, Any], output: Mapping[str, Any], model: str) -> int:
    usage = (sample.get("model_usage") or {}).get(model) or output.get("usage") or {}
    return int(usage.get("output_tokens") or 0)


def _sampling(header: Mapping[str, Any]) -> dict[str, Any]:
    """Generation settings: of the model, and over them those of the plan."""
    own = header["eval"].get("model_generate_config") or {}
    plan = (header.get("plan") or {}).get("config") or {}
    told = {**own, **plan}
    return {ours: told[name] for name, ours in _SETTINGS.items() if told.get(name) is not None}
