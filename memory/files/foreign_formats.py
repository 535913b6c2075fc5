"""One entry of another program's bank as a case; see `memory.files.foreign` for the formats."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal

from memory.errors import InvalidCase
from memory.sqlite.codec import canonical_json
from memory.types import CaseIn, Verdict

ForeignFormat = Literal["memento", "memento-labels", "memento-pairs", "mem0", "experiences"]

KEYS: tuple[tuple[ForeignFormat, frozenset[str]], ...] = (
    ("memento-pairs", frozenset({"query", "case", "plan", "case_label", "truth_label"})),
    ("memento-labels", frozenset({"case", "plan", "case_label"})),
    ("memento", frozenset({"question", "plan", "reward"})),
    ("mem0", frozenset({"id", "memory"})),
)
"""The keys by which an object is told; the first that fits wins."""

_LABELS: dict[str, tuple[Verdict, float | None]] = {
    "positive": ("success", 1.0),
    "negative": ("failure", 0.0),
    "unknown": ("unknown", None),
}
_MOST = sys.float_info.max
_SCOPES = ("user_id", "agent_id", "app_id")


def memento(row: object) -> CaseIn:
    """Memento shows as good what has a reward of 1 and as bad all else; no reward is neither."""
    fields = _object(row)
    reward = fields.get("reward")
    if reward is not None and not (isinstance(reward, (int, float)) and abs(reward) <= _MOST):
        raise InvalidCase(f"Its reward is {reward!r}; give a finite number, or null if unknown.")
    outcome: Verdict = "unknown" if reward is None else "success" if reward == 1 else "failure"
    return CaseIn(
        question=_text(fields, "question"), plan=_plan(fields), outcome=outcome, reward=reward
    )


def labelled(row: object) -> CaseIn:
    """A memory or a training pair; what a pair tells of its query is no part of the case."""
    fields = _object(row)
    label = fields.get("case_label")
    if not isinstance(label, str) or label.strip().casefold() not in _LABELS:
        raise InvalidCase(f"Its case_label is {label!r}; use one of {', '.join(_LABELS)}.")
    outcome, reward = _LABELS[label.strip().casefold()]
    return CaseIn(
        question=_text(fields, "case"), plan=_plan(fields), outcome=outcome, reward=reward
    )


def mem0(row: object) -> CaseIn:
    """The text as an insight; whom it is about and what else is said of it become tags."""
    fields = _object(row)
    metadata, categories = fields.get("metadata") or {}, fields.get("categories") or []
    if not isinstance(metadata, dict) or not isinstance(categories, list):
        raise InvalidCase("Its metadata is no object, or its categories no list; correct them.")
    scopes = {name: fields[name] for name in _SCOPES if fields.get(name) is not None}
    said = {**scopes, **metadata}
    tags = [f"{k}={v if isinstance(v, str) else _json(v)}" for k, v in said.items()]
    run_id = fields.get("run_id")
    return CaseIn(
        kind="insight",
        plan=_text(fields, "memory"),
        run_id=None if run_id is None else str(run_id),
        tags=(*tags, *map(str, categories)),
    )


def lesson(text: object) -> CaseIn:
    """A lesson without its number, which its program gives anew at each step."""
    if not isinstance(text, str):
        raise InvalidCase("It is no text; correct or remove it.")
    return CaseIn(kind="insight", plan=text)


READ: Mapping[ForeignFormat, Callable[[object], CaseIn]] = {
    "memento": memento,
    "memento-labels": labelled,
    "memento-pairs": labelled,
    "mem0": mem0,
    "experiences": lesson,
}


def _object(row: object) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InvalidCase("It is no JSON object; correct or remove it.")
    return row


def _text(fields: Mapping[str, Any], name: str) -> str:
    if not isinstance(fields.get(name), str):
        raise InvalidCase(f"Its {name} is no text; give text.")
    return str(fields[name])


def _json(value: object) -> str:
    try:
        return canonical_json(value)
    except (ValueError, RecursionError) as error:
        raise InvalidCase(f"A value in it is none of JSON ({error}); correct it.") from None


def _plan(fields: Mapping[str, Any]) -> str:
    """The plan as a model reads it: numbered steps if it is a list of those, else as it stands."""
    plan = fields.get("plan")
    if plan is None:
        raise InvalidCase("It has no plan; give one, or an empty text.")
    if not isinstance(plan, str):
        return _steps(plan) or _json(plan)
    try:
        return _steps(json.loads(plan)) or plan
    except (ValueError, RecursionError):
        return plan


def _steps(plan: object) -> str | None:
    """The steps of {"plan": [{"id", "description"}, ...]}, one per line; None if it is not that."""
    steps = plan.get("plan") if isinstance(plan, dict) and len(plan) == 1 else None
    if not isinstance(steps, list):
        return None
    if not all(isinstance(s, dict) and s.keys() == {"id", "description"} for s in steps):
        return None
    return "\n".join(f"{step['id']}. {step['description']}" for step in steps)
