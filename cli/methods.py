"""`tfgrpo methods`: every method of the weights arm, with its equation and source."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from baselines.methods import METHODS, Method
from baselines.methods import method as named
from cli import console, options


def methods(
    name: Annotated[
        str | None, typer.Argument(help="One method, in full.", show_default=False)
    ] = None,
    json: options.Json = False,
) -> None:
    """List the methods of `tfgrpo train`: equations, sources, defaults, what they go with."""
    chosen = list(METHODS.values()) if name is None else [named(name)]
    if json:
        console.print_json([described(method) for method in chosen])
        return
    if name is None:
        rows = [(m.name, m.title, _updates(m), m.source) for m in chosen]
        columns = ("method", "what it is", "updates", "source")
        console.show(console.table("", columns, rows, text=True))
        console.note("In full: tfgrpo methods NAME    Train: tfgrpo train --method NAME")
        console.note(
            "Without gradient RL: tfgrpo imitate --source rejection:RUN, expert_iteration, diverse "
            "or distil:LIBRARY"
        )
        return
    one = described(chosen[0])
    console.show(f"{one['name']}: {one['title']}\n{one['note']}".rstrip())
    for part in one["parts"]:
        console.show(f"\n  {part['kind']}   {part['source']}\n    {part['equation']}")
        for line in part["remarks"]:
            console.show(f"    {line}")
        if part["settings"]:
            settings = ", ".join(f"{k} = {v}" for k, v in part["settings"].items())
            console.show(f"    {settings}")
    console.show(f"\nSettings: tfgrpo train --method {one['name']} --dry-run")


def described(method: Method) -> dict[str, Any]:
    """All that is known of a method, as plain values."""
    return {
        "name": method.name,
        "title": method.title,
        "source": method.source,
        "note": method.note,
        "updates_per_rollout": int(_updates(method)),
        "parts": [
            {
                "kind": part.model_dump()["kind"],
                "equation": part.equation,
                "source": part.source,
                "settings": {k: v for k, v in part.model_dump().items() if k != "kind"},
                "remarks": _remarks(part),
            }
            for part in method.parts
        ],
        "settings": method.settings,
    }


def _remarks(part: Any) -> list[str]:
    found = [f"needs {need.replace('_', ' ')}" for need in sorted(part.needs)]
    if part.binary:
        found.append("rewards of 0 and 1 only")
    if part.inert_on_policy:
        found.append("plain policy gradient with one update per rollout batch")
    if part.scans:
        found.append("selects over the whole mini-batch")
    return found


def _updates(method: Method) -> str:
    return str(method.settings.get("minibatches", 1) * method.settings.get("epochs", 1))
