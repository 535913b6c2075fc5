"""`tfgrpo learn`: Training-Free GRPO."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from cli import console, options
from tfgrpo.errors import BudgetStop
from tfgrpo.presets import preset


def learn(
    config: options.Config = None,
    tasks: options.Tasks = None,
    model: options.Model = None,
    reflector: Annotated[
        str | None,
        typer.Option(help="Who compares attempts; default: the model.", show_default=False),
    ] = None,
    editor: Annotated[
        str | None,
        typer.Option(help="Who edits the library; default: the reflector.", show_default=False),
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            "--preset", help="default, paper-math, youtu-main or abacus.", show_default=False
        ),
    ] = None,
    evidence: Annotated[
        str | None, typer.Option(help="gold, or vote: no gold is used.", show_default=False)
    ] = None,
    limit: options.Limit = None,
    epochs: Annotated[int | None, typer.Option(show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", show_default=False)] = None,
    group_size: Annotated[
        int | None, typer.Option("--group-size", help="Rollouts a problem, G.", show_default=False)
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(help="Share of experiences hidden from a rollout.", show_default=False),
    ] = None,
    memory: options.Memory = None,
    read: options.Read = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    max_tokens: options.MaxTokens = None,
    max_connections: options.MaxConnections = None,
    seed: options.Seed = None,
    more: options.Set = None,
    run: options.Run = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Learn an experience library: a frozen model writes lessons into its own prompt.

    Without any option the pocket model learns on generated problems, in about a minute.
    """
    from cli import sessions, wiring
    from cli.watch import learning_watch
    from tfgrpo.config import LearnSpec
    from tfgrpo.settings import dump, load, to_toml

    flags = {
        "tasks": tasks, "model": model, "reflector": reflector, "editor": editor,
        "evidence": evidence, "train_limit": limit, "epochs": epochs, "batch_size": batch_size,
        "group_size": group_size, "dropout": dropout, "sampling.temperature": temperature,
        "sampling.top_p": top_p, "sampling.max_tokens": max_tokens,
        "model.max_connections": max_connections, "seed": seed,
    }  # fmt: skip
    pocket = model in (None, "abacus") and config is None
    flags |= options.memory_flags(memory, read, pocket)
    defaults = preset(settings or ("abacus" if pocket else "default"))
    spec = load(LearnSpec, config, options.overrides(flags, more), defaults)
    if dry_run:
        typer.echo(to_toml(spec), nl=False)
        return
    folder = options.run_folder(run, "learn", dump(spec))
    with sessions.open_run(folder, spec, "learn") as opened:
        for notice in opened.notices:
            console.note(console.safe(notice))
        with (
            wiring.session(folder / sessions.CALLS, spec.budget, spec.price) as models,
            learning_watch(spec, models.meter) as watch,
        ):
            try:
                library = sessions.run_learning(spec, opened, models, watch)
            except BudgetStop as stop:
                raise BudgetStop(sessions.budget_message(stop, opened)) from None
        report(folder, json)
        if not library.active:
            console.note(console.safe(without_lesson(folder)))


def without_lesson(folder: Path) -> str:
    """Why a library may be empty: what the groups were like, and what went wrong in words."""
    from tfgrpo.experience.record import LESSONS, STEPS
    from tfgrpo.runs import RunDir

    run = RunDir.open(folder)
    steps = list(run.read_rows(STEPS))
    kinds: Counter[str] = Counter()
    for step in steps:
        kinds.update(step["groups"])
    wrong = Counter(text for row in run.read_rows(LESSONS) for text in row["problems"])
    wrong.update(text for step in steps for text in step["consolidation_problems"])
    groups = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    failed = sum(step["failures"] for step in steps)
    said = f"No lesson was learned. Groups: {groups or 'none'}; only mixed ones can teach."
    if failed:
        said += f" {failed} rollouts failed."
    for text, count in wrong.most_common(1):
        said += f" While lessons were written, most often ({count} times): {text}"
    return said


def report(folder: Path, json: bool) -> None:
    """The learned library and what it cost, as a table or as JSON."""
    from cli.experiences import library_rows, library_table
    from cli.runs import ledger_table
    from tfgrpo.experience.files import load_library
    from tfgrpo.runs import RunDir

    library = load_library(folder)
    opened = RunDir.open(folder)
    if json:
        console.print_json(
            {
                "run": folder,
                "library": library_rows(library),
                "steps": list(opened.read_rows("steps.jsonl")),
                "ledger": opened.read_json("ledger.json"),
            }
        )
        return
    console.show(library_table(library, "What the model wrote into its own prompt"))
    console.show(ledger_table(opened))
    shown = console.safe(folder)
    console.note(f"Next: tfgrpo eval --policy {shown}    tfgrpo experiences history {shown}")
