"""What a bank would give away of an evaluation, told before anything is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from cli.cases_options import (
    STORE,
    EmbedderName,
    Store,
    embedder_of,
    everything,
    excerpt,
    listing,
    opened,
    said,
)
from memory.read.guard import NEAR

if TYPE_CHECKING:
    from memory.care.leaks import LeakReport
    from memory.read.guard import GuardedItem
    from memory.search.embed import Embedder
    from memory.types import Content


def leaks(
    tasks: Annotated[str, typer.Argument(help="The evaluation's tasks, as in --tasks.")],
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    limit: options.Limit = None,
    seed: options.Seed = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Instead of the store: a bank of another program.", show_default=False),
    ] = None,
    near: Annotated[
        float, typer.Option(min=-1, max=1, help="Cosine from which questions are near duplicates.")
    ] = NEAR,
    examples: Annotated[int, typer.Option(min=0, help="How many leaks to print.")] = 10,
    embedder: EmbedderName = None,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Compare a bank with the problems of an evaluation; ends with 1 if it knows some of them.

    The problems are those that `tfgrpo eval` would ask with the same tasks, split, limit and seed.
    """
    from memory.care.leaks import scan

    items = asked(tasks, split, limit, seed)
    cases, model = held(store, file, embedder)
    report = scan(cases, items, embedder=model, near=near)
    if json:
        console.print_json(told(report))
    else:
        _print(report, {item.item_id: item.question for item in items}, examples)
    if report.leaks:
        raise typer.Exit(1)


def asked(tasks: str, split: str, limit: int | None, seed: int | None) -> list[GuardedItem]:
    """The items of an evaluation with these settings."""
    from cli.wiring import build_tasks
    from tfgrpo.config import EvalSpec
    from tfgrpo.experience.casebook import item_of
    from tfgrpo.seeding import derive_seed
    from tfgrpo.settings import load

    flags = {"tasks": tasks, "split": split, "limit": limit, "seed": seed}
    spec = load(EvalSpec, None, options.overrides(flags, None))
    source = build_tasks(spec.tasks, spec.reward).tasks
    found = source.tasks(spec.split, spec.limit, derive_seed(spec.seed, "tasks"))
    return [item_of(task) for task in found]


def held(store: Path, file: Path | None, name: str | None) -> tuple[Sequence[Content], Embedder]:
    """The cases of the store or of the file, and what measures their questions."""
    from memory.files.foreign import read_bank

    if file is None:
        with opened(store) as bank:
            return everything(bank), embedder_of(bank, name)
    found = read_bank(file)
    for entry in found.unread:
        console.note(f"line {entry.line} was not read: {console.safe(entry.why)}")
    return found.cases, embedder_of(None, name)


def told(report: LeakReport) -> dict[str, Any]:
    """The report as one document; a case is named by its number, or its place in the file."""
    return {
        "cases": report.cases,
        "items": report.items,
        "near": report.near,
        "leaking_cases": sorted(report.leaking_cases),
        "leaked_items": sorted(report.leaked_items),
        "rules": dict(report.rules),
        "leaks": [
            {"case_id": leak.case_id, "item_id": leak.item_id, "rule": leak.rule,
             "detail": leak.detail, "question": leak.case.question}
            for leak in report.leaks
        ],
        "excused_pairs": report.excused_pairs,
    }  # fmt: skip


def _print(report: LeakReport, questions: dict[str, str], examples: int) -> None:
    some, items = len(report.leaking_cases), len(report.leaked_items)
    found = f"{some:,} cases give away {items:,} problems" if report.leaks else "no leaks"
    console.show(f"{report.cases:,} cases against {report.items:,} problems: {found}.")
    rules = [(rule, f"{count:,}") for rule, count in sorted(report.rules.items())]
    if rules:
        console.show(console.table("", ("rule", "leaks"), rules))
    if report.excused_pairs:
        console.note(f"{report.excused_pairs:,} pairs differ in their numbers only, and are none.")
    told_ones = report.leaks[:examples]
    if told_ones:
        rows = [
            (leak.case_id, leak.rule, console.safe(leak.detail), excerpt(said(leak.case)),
             excerpt(questions.get(leak.item_id or "", "any")))
            for leak in told_ones
        ]  # fmt: skip
        columns = ("case", "rule", "what shows it", "the case", "the problem")
        console.show(listing(columns, rows, texts=3))
    if len(report.leaks) > len(told_ones):
        console.note(f"{len(report.leaks) - len(told_ones):,} more; all of them: --json.")
