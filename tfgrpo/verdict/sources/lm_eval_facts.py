"""What lm-evaluation-harness tells around its samples: task, model, version, decoding."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfgrpo.verdict.sources.rows import Notice

_SAMPLES = re.compile(r"samples_(.+)_([^_]+)")
_NAMES = {"max_gen_toks": "max_tokens", "max_new_tokens": "max_tokens", "until": "stop"}


@dataclass(frozen=True, slots=True)
class Companion:
    """What `results_DATE.json` says. `protocol` is there in what this program has written."""

    model: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    shots: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] | None = None

    def facts(self, task: str) -> dict[str, Any]:
        told = {"version": self.versions.get(task), "shots": self.shots.get(task)}
        return {name: value for name, value in told.items() if value is not None}


def task_of(path: Path) -> str:
    """`samples_gsm8k_cot_2025-01-01T10-00-00.jsonl` is of gsm8k_cot; else the name of the file."""
    found = _SAMPLES.fullmatch(path.stem)
    return found[1] if found else path.stem


def companion_of(path: Path, notice: Notice) -> Companion:
    """The results beside a file of samples; empty where there are none."""
    found = _SAMPLES.fullmatch(path.stem)
    beside = path.with_name(f"results_{found[2]}.json") if found else path
    if beside == path or not beside.is_file():
        return Companion()
    try:
        told = json.loads(beside.read_bytes())
        own = told.get("tfgrpo")
        return Companion(
            str(told.get("model_name") or told.get("config", {}).get("model") or ""),
            dict(told.get("versions") or {}),
            dict(told.get("n-shot") or {}),
            None if own is None else dict(own["protocol"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        notice(f"{beside} cannot be read; model and version of the task are not known.")
        return Companion()


def sampling_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The generation settings of a row under our names; empty for likelihoods.

    Without `do_sample` lm-eval takes the likeliest token whatever the temperature is.
    """
    settings = dict(_settings(row.get("arguments")))
    greedy = settings.pop("do_sample", True) is False
    named = {_NAMES.get(name, name): value for name, value in settings.items()}
    if isinstance(named.get("stop"), str):
        named["stop"] = [named["stop"]]
    return named | {"temperature": 0.0} if greedy else named


def _settings(arguments: Any) -> Mapping[str, Any]:
    """The second argument of the first request, which older versions keep in lists."""
    if isinstance(arguments, Mapping):
        first = arguments.get("gen_args_0")
        found = first.get("arg_1") if isinstance(first, Mapping) else None
    else:
        first = arguments[0] if isinstance(arguments, list) and arguments else None
        found = first[1] if isinstance(first, list) and len(first) > 1 else None
    return found if isinstance(found, Mapping) else {}
