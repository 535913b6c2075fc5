"""One JSON text for each value, so that equal things have equal bytes and equal hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path


def canonical_json(value: object) -> str:
    """The one JSON text of a value: keys sorted, no spaces, one line, no NaN.

    Besides JSON's own types it takes mappings, tuples, paths and dataclasses, at any depth. Lone
    surrogates, which models do emit, become escapes, so the text is always valid UTF-8.
    Raises ValueError on NaN and infinity, TypeError on anything else that has no JSON form.
    """
    text = json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
        default=_plain,
    )
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def fingerprint(value: object) -> str:
    """Hash of a value (16 hex digits); equal exactly if the canonical JSON is."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def differences(old: object, new: object) -> list[str]:
    """`KEY was OLD, now NEW` for every dotted key in which two JSON values differ."""
    before = {key: canonical_json(leaf) for key, leaf in _leaves(old)}
    after = {key: canonical_json(leaf) for key, leaf in _leaves(new)}
    return [
        f"{key or 'value'} was {_shown(before.get(key))}, now {_shown(after.get(key))}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _leaves(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys and values of a nested mapping; lists are leaves, odd names are quoted."""
    if not isinstance(value, Mapping) or not value:
        yield prefix, value
        return
    for name, child in value.items():
        part = json.dumps(name) if "." in name or '"' in name or not name else name
        yield from _leaves(child, f"{prefix}.{part}" if prefix else part)


def _shown(text: str | None) -> str:
    if text is None:
        return "absent"
    return text if len(text) <= 60 else text[:57] + "..."
