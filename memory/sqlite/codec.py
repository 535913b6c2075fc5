"""Cases as canonical JSON, their hashes, and what a case may hold."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from memory.errors import InvalidCase
from memory.search.embed import normalised
from memory.types import KINDS, STATES, VERDICTS, Case, Content, Parent, View

CONTENT_FIELDS = tuple(field.name for field in fields(Content))
_TIMES = ("seq", "created", "updated")
_KEPT = tuple(field.name for field in fields(Case) if field.name not in _TIMES)
_REQUIRED = ("ns", "question", "plan", "reason")
_INTEGERS = ("step", "tokens")
_LARGEST = 2**63 - 1


def canonical_json(value: object) -> str:
    """One spelling for each JSON value: sorted keys, no spaces, no escapes beyond the necessary."""
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def content_key(content: Content) -> str:
    """Hash of what makes two cases copies of each other."""
    question = normalised(content.question)
    return sha256(
        canonical_json([content.ns, content.kind, question, content.plan, content.outcome])
    )


def encode_case(case: Case) -> str:
    """The case without its times and sequence number, which the history itself holds."""
    data = {name: getattr(case, name) for name in _KEPT}
    data["parents"] = [[parent.id, parent.relation] for parent in case.parents]
    return canonical_json(data)


def decode_case(text: str, *, seq: int, created: float, updated: float) -> Case:
    data = json.loads(text)
    data["parents"] = parents_of(data["parents"])
    data["tags"], data["also_items"] = tuple(data["tags"]), tuple(data["also_items"])
    return Case(**data, seq=seq, created=created, updated=updated)


def parents_of(pairs: list[list[Any]]) -> tuple[Parent, ...]:
    return tuple(sorted(Parent(int(number), str(relation)) for number, relation in pairs))


def content_of(values: Content) -> dict[str, Any]:
    """The content fields alone, as they are kept: tags and parents sorted, once each."""
    data = {name: getattr(values, name) for name in CONTENT_FIELDS}
    data["tags"] = tuple(sorted(set(values.tags)))
    data["parents"] = tuple(sorted(set(values.parents)))
    if data["reward"] is not None and isinstance(data["reward"], (int, float)):
        data["reward"] = float(data["reward"])
    return data


def check_content(data: Mapping[str, Any]) -> None:
    """Raise InvalidCase unless a case can hold these content fields."""
    _one_of("kind", data["kind"], KINDS)
    _one_of("outcome", data["outcome"], VERDICTS)
    for name in CONTENT_FIELDS:
        value = data[name]
        if name in ("reward", "parents"):
            continue
        if name == "tags":
            for tag in value:
                check_text("A tag", tag)
        elif name in _INTEGERS:
            _check_integer(name, value)
        elif value is not None or name in _REQUIRED:
            check_text(f"The field {name}", value)
    _check_reward(data["reward"])
    if not all(data["ns"].split("/")):
        raise InvalidCase(
            f"The namespace {data['ns']!r} has an empty part; write it like maths/train."
        )
    if not (data["question"] or data["plan"]):
        raise InvalidCase("A case says nothing without a question and a plan; give one of them.")


def check_text(what: str, value: object) -> None:
    """Raise InvalidCase unless `value` is text that UTF-8 can write."""
    if not isinstance(value, str):
        raise InvalidCase(f"{what} is {type(value).__name__}, not text; give text.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidCase(
            f"{what} holds half of a surrogate pair, which no file can hold; remove it."
        ) from None


def check_state(case: Case) -> None:
    _one_of("state", case.state, STATES)


def view_text(case: Content, view: View) -> str:
    """The text of which a view's vector is made."""
    if view == "question":
        return case.question
    if view == "plan":
        return case.plan
    return "\n".join(part for part in (case.question, case.plan) if part)


def changed_fields(before: Case | None, after: Case | None) -> tuple[str, ...]:
    """Names of what differs, without the counters that every event moves."""
    silent = (*_TIMES, "version")
    names = [field.name for field in fields(Case) if field.name not in silent]
    if before is None or after is None:
        return tuple(names)
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidCase(f"The field {name} is {value!r}; use one of {', '.join(allowed)}.")


def _check_integer(name: str, value: object) -> None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST
    ):
        raise InvalidCase(f"The field {name} is {value!r}; give a whole number below 2^63.")


def _check_reward(value: object) -> None:
    if value is not None and not (isinstance(value, float) and math.isfinite(value)):
        raise InvalidCase(
            f"The reward is {cast(Any, value)!r}; give a finite number, or None if unknown."
        )
