"""`tfgrpo doctor`: what an endpoint really supports, and what that means here."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import console, options
from tfgrpo.errors import ConfigError


def doctor(
    model: Annotated[
        str, typer.Argument(help="NAME@http://HOST/v1 or openai/NAME.", show_default=False)
    ],
    more: options.Set = None,
    json: options.Json = False,
) -> None:
    """Probe an endpoint: n, seed, stop, log-probabilities, schemas, usage, prefix cache."""
    import asyncio

    from cli.wiring import build_backend
    from tfgrpo.config import EvalSpec, OpenAISpec
    from tfgrpo.llm.openai_compat import OpenAIChat
    from tfgrpo.llm.probe import probe
    from tfgrpo.settings import load

    spec = load(EvalSpec, None, options.overrides({"tasks": "sum", "model": model}, more))
    if not isinstance(spec.model, OpenAISpec):
        raise ConfigError("The doctor examines endpoints; give NAME@http://HOST/v1 or openai/NAME.")
    backend = build_backend(spec.model)
    assert isinstance(backend, OpenAIChat)
    found = asyncio.run(probe(backend))
    if json:
        console.print_json(found)
        return
    word = {True: "[green]yes[/]", False: "[red]no[/]", None: "[yellow]unknown[/]"}
    follows = {True: "", False: "{}", None: "if not: {}"}
    rows = [
        (
            r.name,
            word[r.supported],
            console.safe(r.detail),
            follows[r.supported].format(console.safe(r.consequence)),
        )
        for r in found
    ]
    columns = ("feature", "", "what was seen", "what follows")
    console.show(console.table(console.safe(model), columns, rows, text=True))
