"""`tfgrpo experiences`: read, compare and edit what a model has learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from tfgrpo.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from tfgrpo.experience.edits import Operation
    from tfgrpo.experience.library import ExperienceLibrary

app = typer.Typer(no_args_is_help=True, help="Read, compare and edit what a model has learned.")

Library = Annotated[Path, typer.Argument(help="A learning run or a library file.")]
Id = Annotated[str, typer.Argument(help="The experience, such as E7.", metavar="ID")]


def library_rows(library: ExperienceLibrary) -> list[dict[str, Any]]:
    return [
        {"id": e.id, "text": e.text, "status": e.status, "support": e.support,
         "version": e.version, "created_step": e.created_step}
        for e in library.active
    ]  # fmt: skip


def library_table(library: ExperienceLibrary, title: str = "") -> Table:
    rows = [(e.id, console.safe(e.text), e.status, e.support, e.created_step)
            for e in library.active]  # fmt: skip
    made = console.table(title, ("id", "experience", "status", "support", "step"), rows)
    made.columns[1].justify, made.columns[1].no_wrap = "left", False
    return made


@app.command("list")
def list_active(library: Library, json: options.Json = False) -> None:
    """The experiences that prompts show."""
    from tfgrpo.experience.files import load_library

    loaded = load_library(library)
    if json:
        console.print_json(library_rows(loaded))
        return
    console.show(library_table(loaded))


@app.command("show")
def show(library: Library, experience: Id, json: options.Json = False) -> None:
    """One experience with its history, its sources and, under dropout, its measured effect."""
    from tfgrpo.experience.effects import effects
    from tfgrpo.experience.files import load_library
    from tfgrpo.runs import RunDir

    loaded = load_library(library)
    if experience not in loaded.entries:
        raise ConfigError(f"There is no {experience} in {library}; see: tfgrpo experiences list.")
    entry = loaded.entries[experience]
    measured = []
    if library.is_dir():
        rows = RunDir.open(library).read_rows("groups.jsonl")
        measured = [e for e in effects(rows, 0) if e.experience_id == experience]
    if json:
        console.print_json({"entry": entry, "effect": measured[0] if measured else None})
        return
    console.show(f"[bold]{entry.id}[/] {console.safe(entry.text)}")
    console.show(f"{entry.status}, version {entry.version}, since step {entry.created_step}, "
                 f"supported by {entry.support} groups")  # fmt: skip
    for effect in measured:
        estimate = console.plain(effect.estimate)
        console.show(f"effect on reward {estimate} over {effect.estimate.n} problems")
    for source in entry.sources[:20]:
        console.show(f"  from task {console.safe(source.task_id)} in step {source.step}")


@app.command("diff")
def diff(a: Library, b: Library, json: options.Json = False) -> None:
    """What a reader of the prompt would see change from A to B."""
    from tfgrpo.experience.files import load_library
    from tfgrpo.experience.library import diff as compare

    change = compare(load_library(a), load_library(b))
    if json:
        console.print_json(change)
        return
    for entry in change.removed:
        console.show(f"[red]- {entry.id} {console.safe(entry.text)}[/]")
    for before, after in change.modified:
        console.show(f"[red]- {before.id} {console.safe(before.text)}[/]")
        console.show(f"[green]+ {after.id} {console.safe(after.text)}[/]")
    for entry in change.added:
        console.show(f"[green]+ {entry.id} {console.safe(entry.text)}[/]")


@app.command("history")
def history(library: Library, json: options.Json = False) -> None:
    """Every operation that was ever proposed, and what became of it."""
    from tfgrpo.experience.edits import to_row
    from tfgrpo.experience.files import load_library

    loaded = load_library(library)
    if json:
        console.print_json(loaded.to_ops())
        return
    rows = []
    for outcome in loaded.log:
        said = to_row(outcome.operation)
        what = " ".join([*said["targets"], said["text"] or ""]).strip()
        rows.append((outcome.step, outcome.origin, said["op"], outcome.code, console.safe(what)))
    columns = ("step", "by", "operation", "became", "what")
    console.show(console.table("", columns, rows, text=True))


@app.command("export")
def export(
    library: Library,
    to: Annotated[Path, typer.Argument(help="A .json file (all history) or any other (lessons).")],
    step: Annotated[int | None, typer.Option(help="As it was after this step.")] = None,
) -> None:
    """Write a library to a file: .json keeps all history, any other one lesson a line."""
    from tfgrpo.experience.files import export_json, load_library
    from tfgrpo.storage import write_atomic

    loaded = load_library(library)
    chosen = loaded if step is None else loaded.at(step)
    lines = "".join(f"{e.text}\n" for e in chosen.active)
    write_atomic(to, (export_json(chosen) if to.suffix == ".json" else lines).encode())
    console.note(f"Wrote {len(chosen.active)} experiences to {console.safe(to)}.")


@app.command("html")
def html(
    library: Library,
    to: Annotated[Path, typer.Argument(help="The .html file to write.", metavar="PAGE")],
) -> None:
    """Write one offline page: each lesson, its history, and the rollouts that taught it."""
    from tfgrpo.experience.page import library_page
    from tfgrpo.storage import write_atomic

    if to.suffix != ".html":
        raise ConfigError(f"{to} is no page; give a file name that ends in .html.")
    write_atomic(to, library_page(library).encode())
    console.note(f"Wrote {console.safe(to)}.")


@app.command("import")
def import_lessons(
    library: Annotated[Path, typer.Argument(help="The library file to make or extend.")],
    lessons: Annotated[Path, typer.Argument(help="One lesson a line, or the reference's JSON.")],
) -> None:
    """Add lessons from a file. The result is a library file that can be edited and evaluated."""
    from tfgrpo.experience.edits import Add
    from tfgrpo.experience.files import load_library

    texts = [e.text for e in load_library(lessons).active]
    _by_hand(library, *(Add(text) for text in texts), create=True)


@app.command("edit")
def edit(
    library: Library, experience: Id, text: Annotated[str, typer.Argument(help="The new text.")]
) -> None:
    """Change the text of one experience."""
    from tfgrpo.experience.edits import Modify

    _by_hand(library, Modify(experience, text))


@app.command("disable")
def disable(library: Library, experience: Id) -> None:
    """Hide one experience from prompts; `enable` undoes it."""
    from tfgrpo.experience.edits import SetStatus

    _by_hand(library, SetStatus(experience, "disabled"))


@app.command("enable")
def enable(library: Library, experience: Id) -> None:
    """Show a disabled experience again, or unpin a pinned one."""
    from tfgrpo.experience.edits import SetStatus

    _by_hand(library, SetStatus(experience, "active"))


@app.command("pin")
def pin(library: Library, experience: Id) -> None:
    """Keep one experience from being edited or evicted by the model."""
    from tfgrpo.experience.edits import SetStatus

    _by_hand(library, SetStatus(experience, "pinned"))


@app.command("rollback")
def rollback(library: Library, step: Annotated[int, typer.Argument()]) -> None:
    """Return to the library as it was after a step. Nothing is erased from the history."""
    from tfgrpo.experience.edits import Rollback

    _by_hand(library, Rollback(step))


@app.command("preview")
def preview(
    library: Library,
    question: Annotated[str, typer.Argument()] = "What is 47+85?",
    pack: Annotated[str, typer.Option(help="The prompt pack.")] = "default",
) -> None:
    """The very prompt that a policy with this library would be sent."""
    from tfgrpo.experience.files import load_library
    from tfgrpo.prompts import load_pack

    prompts = load_pack(pack)
    block = prompts.library_block(load_library(library).render())
    for message in prompts.render("solve", library=block, question=question):
        console.show(f"[bold]{message.role}[/]\n{console.safe(message.content)}\n")


def _by_hand(library: Path, *operations: Operation, create: bool = False) -> None:
    """Apply a person's operations to a library file, or beside a run as `library.json`.

    A run's own log is never rewritten, or its resume would find what it did not write.
    """
    from tfgrpo.experience.files import EDITED, export_json, load_library
    from tfgrpo.experience.library import ExperienceLibrary
    from tfgrpo.storage import write_atomic

    new = create and not library.exists()
    loaded = ExperienceLibrary.empty() if new else load_library(library)
    applied = loaded.by_hand(*operations)
    refused = [o for o in applied.outcomes if not o.accepted]
    if refused:
        told = "; ".join(f"{o.code} {o.detail}" for o in refused)
        raise ConfigError(f"Nothing was changed: {told}. Correct the operation.")
    target = library / EDITED if library.is_dir() else library
    write_atomic(target, export_json(applied.library).encode())
    console.note(f"Wrote {console.safe(target)}.")
    console.show(library_table(applied.library))
