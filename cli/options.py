"""Options that several commands share, spelled alike everywhere, and how they become settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tfgrpo.runs import run_name

RUNS = Path("runs")

Config = Annotated[
    Path | None,
    typer.Argument(help="A TOML file of settings; flags override it.", show_default=False),
]
Tasks = Annotated[
    str | None,
    typer.Option(
        help="FAMILY,FAMILY or set:NAME, jsonl:PATH, hf:ID[:SUBSET], gym:NAME or MODULE:FUNCTION.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="abacus, hf/PATH-OR-ID, openai/NAME or NAME@http://HOST/v1.", show_default=False
    ),
]
Limit = Annotated[int | None, typer.Option(help="How many problems.", show_default=False)]
Temperature = Annotated[
    float | None, typer.Option(help="Sampling temperature.", show_default=False)
]
TopP = Annotated[float | None, typer.Option("--top-p", help="Nucleus share.", show_default=False)]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", help="Longest reply in tokens.", show_default=False)
]
Seed = Annotated[int | None, typer.Option(help="Root of all randomness.", show_default=False)]
MaxConnections = Annotated[
    int | None,
    typer.Option("--max-connections", help="Requests in flight at once.", show_default=False),
]
Memory = Annotated[
    Path | None,
    typer.Option(help="A bank of cases to read, see `tfgrpo memory`.", show_default=False),
]
Read = Annotated[
    str | None,
    typer.Option(
        help="off, similarity, value or neural: how cases are chosen.", show_default=False
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting: KEY.KEY=VALUE. May be repeated.", show_default=False),
]
Run = Annotated[
    Path | None,
    typer.Option(help="The run folder; an existing run is resumed.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the settings as TOML and stop.")]


def overrides(flags: Mapping[str, Any], more: list[str] | None) -> list[str]:
    """Flags that were given, as `key=value` settings; --set comes last and wins."""
    given = [f"{key}={_toml(value)}" for key, value in flags.items() if value is not None]
    return [*given, *(more or [])]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # TOML has no surrogate pairs, which JSON writes for what lies outside the first plane.
    text = json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return text if isinstance(value, str | Path) else repr(value)


POCKET_CASES: Mapping[str, Any] = {"memory.floor": 0.0, "memory.max_negative": 0}
"""The pocket model's problems are all alike, and it cannot read "avoid"."""


def memory_flags(memory: Path | None, read: str | None, pocket: bool) -> dict[str, Any]:
    """Settings of a bank that is given by flags."""
    own = POCKET_CASES if pocket and memory else {}
    return {**own, "memory.path": memory, "memory.read": read}


def run_folder(given: Path | None, kind: str, settings: Mapping[str, Any]) -> Path:
    return given or RUNS / run_name(kind, settings, datetime.now())
