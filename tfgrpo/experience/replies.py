"""From a model's reply to edits.

Nothing is guessed and nothing is dropped in silence: whatever cannot be used is a `Problem`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfgrpo.experience.edits import Add, Delete, Edit, Keep, Merge, Modify, to_row
from tfgrpo.experience.guard import clean
from tfgrpo.experience.lenient_json import Problem, find_json
from tfgrpo.types import FinishReason

__all__ = [
    "ParsedReply",
    "Problem",
    "find_json",
    "json_schema",
    "parse_operations",
    "render_operations",
]

_LISTS = ("operations", "ops", "decisions", "edits")
_OP = ("op", "option", "operation", "action")
_TEXT = ("text", "experience", "content", "lesson")
_TARGETS = ("id", "target", "modified_from", "target_id", "ids", "targets", "merged_from", "from")
_REASON = ("reason", "rationale", "why")
_EVIDENCE = ("evidence", "evidence_pos", "evidence_neg", "sources")
_VERBS: Mapping[str, str] = {
    **dict.fromkeys(("add", "create", "new", "insert"), "add"),
    **dict.fromkeys(("modify", "update", "edit", "revise", "rewrite"), "modify"),
    **dict.fromkeys(("merge", "combine"), "merge"),
    **dict.fromkeys(("delete", "remove", "drop"), "delete"),
    **dict.fromkeys(("keep", "none", "noop", "no_op", "no_change", "unchanged"), "keep"),
}

_ID = re.compile(
    r"(?:(experience|exp|e)|(candidate|cand|c))?[\s_#:-]*0*([0-9]{1,9})", re.IGNORECASE
)
_CANDIDATE = re.compile(r"C[0-9]+")
_BARE = re.compile(r"^\W*0*([0-9]{1,9})\W*$")
_LABEL = re.compile(r"^\[[EC][0-9]+\][.:]?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """`problems` without `edits` ask for another attempt; an empty reply list has neither."""

    edits: tuple[Edit, ...]
    problems: tuple[Problem, ...]


def json_schema() -> dict[str, Any]:
    """The reply's schema, flat and strict enough for every server that enforces schemas."""
    strings = {"type": "array", "items": {"type": "string"}}
    fields: dict[str, Any] = {
        "op": {"type": "string", "enum": ["add", "modify", "merge", "delete", "keep"]},
        "targets": strings,
        "text": {"type": ["string", "null"]},
        "reason": {"type": "string"},
        "evidence": strings,
    }
    operation = _strict_object(fields)
    return _strict_object({"operations": {"type": "array", "items": operation}})


def _strict_object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def render_operations(edits: Iterable[Edit]) -> str:
    """The reply that a model would give to propose `edits`: examples in prompts, scripted models.

    Support is left out: it is counted by us, never claimed by a model.
    """
    rows = [{k: v for k, v in to_row(edit).items() if k != "support"} for edit in edits]
    return json.dumps({"operations": rows}, ensure_ascii=False)


def parse_operations(text: str, finish_reason: FinishReason = "stop") -> ParsedReply:
    """Read the edits in a reply.

    Fields and verbs have the usual aliases. `E` ids name entries; `C` ids name candidates and are
    evidence, so a merge or modification of candidates alone proposes a new lesson. Each edit has
    support 1: the caller knows what its evidence is worth. Whether an edit may be applied is for
    `ExperienceLibrary.apply` to judge.
    """
    document, problem = find_json(text, finish_reason, _speaks_of_edits)
    if problem is not None:
        return ParsedReply((), (problem,))
    edits: list[Edit] = []
    problems: list[Problem] = []
    for position, item in enumerate(_unwrap(document), start=1):
        read = _read_item(item) if isinstance(item, dict) else _not_an_object(item)
        if isinstance(read, Problem):
            problems.append(Problem(read.code, f"operation {position}: {read.detail}"))
        else:
            edits.extend(read)
    return ParsedReply(tuple(edits), tuple(problems))


def _speaks_of_edits(document: object) -> bool:
    if isinstance(document, dict):
        return _list_in(document) is not None or _first(document, _OP) is not None
    return isinstance(document, list) and (
        not document or any(isinstance(item, dict) for item in document)
    )


def _list_in(document: Mapping[str, Any]) -> Any:
    named = (document[key] for key in _LISTS if isinstance(document.get(key), list | dict))
    return next(named, None)


def _unwrap(document: Any) -> Sequence[Any]:
    inner = _list_in(document) if isinstance(document, dict) else None
    document = document if inner is None else inner
    return document if isinstance(document, list) else [document]


def _not_an_object(item: object) -> Problem:
    return Problem("E_NOT_OBJECT", f"is a {type(item).__name__}, not an object")


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _read_item(given: Mapping[str, Any]) -> tuple[Edit, ...] | Problem:
    item = {key.strip().casefold(): value for key, value in given.items()}
    verb = _first(item, _OP)
    if not isinstance(verb, str):
        return Problem("E_UNKNOWN_OP", "names no operation")
    op = _VERBS.get(re.sub(r"[\s_-]+", "_", clean(verb)).casefold())
    if op is None:
        return Problem("E_UNKNOWN_OP", f"{clean(verb)[:40]!r} is no operation")
    text, reason = _first(item, _TEXT), _first(item, _REASON)
    if not isinstance(text, str | None):
        return Problem("E_BAD_FIELD", f"the text is a {type(text).__name__}")
    named = _ids(item, _TARGETS)
    cited = _ids(item, _EVIDENCE)
    if named is None or cited is None:
        return Problem("E_BAD_FIELD", "an id is neither a string nor a number")
    targets, candidates = _sorted_ids(named)
    evidence = tuple(dict.fromkeys((*candidates, *map(_spelled, cited))))
    backing: dict[str, Any] = {
        "reason": clean(reason) if isinstance(reason, str) else "",
        "evidence": evidence,
    }
    lesson = _LABEL.sub("", clean(text or ""))
    return _edits(op, targets, candidates, lesson, backing)


def _edits(
    op: str,
    targets: tuple[str, ...],
    candidates: tuple[str, ...],
    text: str,
    backing: dict[str, Any],
) -> tuple[Edit, ...] | Problem:
    """The edits of one item. Without a target the library refuses them; that is not for here."""
    if op == "add" or (op in ("merge", "modify") and candidates and not targets):
        return (Add(text, **backing),)
    if op == "merge":
        return (Merge(targets, text, **backing),)
    if op == "modify":
        if len(targets) > 1:
            return Problem("E_MANY_TARGETS", "modifies several entries with one text")
        return (Modify(targets[0] if targets else "", text, **backing),)
    kind = Delete if op == "delete" else Keep
    return tuple(kind(target, **backing) for target in targets or ("",))


def _ids(item: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, ...] | None:
    """All ids under any of the keys, as written; None if something there cannot be an id."""
    found: list[str] = []
    for key in keys:
        value = item.get(key)
        if isinstance(value, str):
            value = value.split(",")
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, str):
                found.append(clean(part))
            elif isinstance(part, int) and not isinstance(part, bool):
                found.append(str(part))
            elif part is not None:
                return None
    return tuple(dict.fromkeys(part for part in found if part))


def _spelled(written: str) -> str:
    """`[e07].` is E7 and `candidate 3` is C3; whatever is no such id stays as written."""
    match = _ID.fullmatch(written.strip(" \t.,;:()[]{}<>\"'`*#"))
    if match is None or not (match[1] or match[2]):
        return written
    return f"{'E' if match[1] else 'C'}{match[3]}"


def _sorted_ids(written: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split ids into library targets and candidates.

    A bare number is an entry, unless candidates are named beside it: then it could be either, and
    stays as written, which the library refuses.
    """
    spelled = [_spelled(item) for item in written]
    candidates = tuple(i for i in spelled if _CANDIDATE.fullmatch(i))
    others = (i for i in spelled if not _CANDIDATE.fullmatch(i))
    if not candidates:
        others = (_BARE.sub(r"E\1", i) for i in others)
    return tuple(dict.fromkeys(others)), tuple(dict.fromkeys(candidates))
