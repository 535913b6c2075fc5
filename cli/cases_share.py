"""Cases from other programs and for other people: files in and out, and the page of a store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli import console, options
from cli.cases_options import ACTOR, STORE, At, Store, opened

PARQUET = ".parquet"
MOST_UNREAD = 20


def import_file(
    file: Annotated[Path, typer.Argument(help="An export, or a bank of another program.")],
    ns: Annotated[
        str, typer.Option("--ns", help="Namespace of what comes from another program.")
    ] = "default",
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Add what a file holds and the store does not; a second time changes nothing.

    Reads exports of this program, Memento's memories and training pairs, mem0, and experiences.
    Lines that cannot be read are told, and the command ends with 1.
    """
    from memory.files.foreign import ForeignBank, import_bank
    from memory.files.parquet import import_parquet

    with opened(store, "rw") as bank:
        if file.suffix == PARQUET:
            report = import_parquet(bank, file, actor=ACTOR)
            found = ForeignBank("tfgrpo", ())
        else:
            report, found = import_bank(bank, file, actor=ACTOR, ns=ns)
    if json:
        told = {"format": found.format, "repeated": found.repeated, "unread": found.unread}
        console.print_json({**told, **asdict(report)})
    else:
        console.show(
            f"{console.safe(file)} ({found.format}): {report.created:,} new, {report.same:,} "
            f"known, {found.repeated:,} repeated, {len(report.conflicting):,} said otherwise here"
        )
        for entry in found.unread[:MOST_UNREAD]:
            console.note(f"line {entry.line}: {console.safe(entry.why)}")
    if found.unread:
        console.note(f"{len(found.unread):,} entries were not read; correct them and import again.")
        raise typer.Exit(1)


def export(
    file: Annotated[Path, typer.Argument(help="A .parquet table, or lines of JSON.")],
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Write all cases to a file that `import` reads; equal stores give equal bytes."""
    from memory.files.parquet import export_parquet

    with opened(store) as bank:
        count = export_parquet(bank, file) if file.suffix == PARQUET else bank.export(file)
    if json:
        console.print_json({"file": file, "cases": count})
        return
    console.show(f"Wrote {count:,} cases to {console.safe(file)}.")


def html(
    file: Annotated[Path, typer.Argument(help="The page to write.")] = Path("memory.html"),
    title: Annotated[str, typer.Option()] = "Case memory",
    snapshot: At = None,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Write the store as one page that any browser opens without a network."""
    from cli.bank_page import bank_page
    from tfgrpo.storage import write_atomic

    with opened(store, snapshot=snapshot) as bank, bank.reading():
        page = bank_page(bank, title).encode()
    write_atomic(file, page)
    if json:
        console.print_json({"file": file, "bytes": len(page)})
        return
    console.show(f"Wrote {console.safe(file)}, {len(page):,} bytes.")
