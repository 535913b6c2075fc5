"""Whether a store of cases is sound, what is wrong with it, and what mends that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from cli import console, options
from cli.cases_options import ACTOR, STORE, EmbedderName, Store, embedder_of, listing, opened
from memory.types import View

if TYPE_CHECKING:
    from memory.store import CaseStore
    from memory.types import Problem

AGAIN = "tfgrpo memory reindex"
BACKUP = "restore a backup, or import an export into a new store"
REMEDIES = {
    "keywords": AGAIN,
    "utility": AGAIN,
    "erase": AGAIN,
    "vector": "re-embed with another embedder, then: tfgrpo memory spaces --drop",
}
WORDS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}


@dataclass(frozen=True, slots=True)
class Check:
    """A note is made good by the next read; a problem is not."""

    name: str
    state: Literal["ok", "note", "problem"]
    detail: str
    remedy: str = ""


def verify(store: Store = STORE, json: options.Json = False) -> None:
    """Check the file, the history, the credits, the snapshots, the vectors and the words."""
    with opened(store) as bank:
        found = bank.verify()
    if json:
        console.print_json(found)
    elif found:
        console.show(_problems(found))
    else:
        console.show("The store is sound.")
    if found:
        raise typer.Exit(1)


def _problems(found: Sequence[Problem]) -> object:
    rows = [(p.code, "" if p.case_id is None else p.case_id, console.safe(p.text)) for p in found]
    return listing(("problem", "case", "what is wrong"), rows)


def doctor(embedder: EmbedderName = None, store: Store = STORE, json: options.Json = False) -> None:
    """Verify a store, its vectors, its embedder, its index and its log, and say what mends it."""
    checks = list(examine(store, embedder))
    if json:
        console.print_json(checks)
    else:
        rows = [
            (c.name, WORDS[c.state], console.safe(c.detail), console.safe(c.remedy)) for c in checks
        ]
        console.show(console.table("", ("check", "", "found", "what to do"), rows, text=True))
    if any(check.state == "problem" for check in checks):
        raise typer.Exit(1)


def examine(store: Path, embedder: str | None) -> Iterator[Check]:
    """The checks in turn; only the first two if the store cannot be opened."""
    from memory.errors import CorruptStore, NotReady

    yield _log(store)
    try:
        bank = opened(store)
    except NotReady as error:
        yield Check("opens", "problem", str(error), "tfgrpo memory init")
        return
    except CorruptStore as error:
        yield Check("opens", "problem", str(error), BACKUP)
        return
    with bank:
        yield Check("opens", "ok", f"at event {bank.seq}")
        yield from _contents(bank)
        active = bank.vectors.active
        if active is None:
            yield Check("vectors", "note", "none yet", "tfgrpo memory reembed")
            return
        yield from _vectors(bank, active)
        yield _embedder(bank, embedder)
        for view in bank.vectors.views(active):
            yield _index(bank, active, view)


def _log(store: Path) -> Check:
    from memory.sqlite.database import FILE_NAME

    log = store / f"{FILE_NAME}-wal"
    size = log.stat().st_size if log.exists() else 0
    if not size:
        return Check("log", "ok", "empty")
    what = f"{size:,} bytes: a writer is at work, or was killed; evaluations refuse to read"
    return Check("log", "problem", what, "end every writer, then: tfgrpo memory init")


def _contents(bank: CaseStore) -> Iterator[Check]:
    found = bank.verify()
    if not found:
        yield Check("contents", "ok", "file, history, credits, snapshots and words are sound")
    for code, count in Counter(problem.code for problem in found).items():
        first = next(problem.text for problem in found if problem.code == code)
        yield Check(code, "problem", f"{count}: {first}", REMEDIES.get(code, BACKUP))


def _vectors(bank: CaseStore, fingerprint: str) -> Iterator[Check]:
    for view in bank.vectors.views(fingerprint):
        kept, needed = bank.vectors.progress(fingerprint, view)
        detail = f"{view}: {kept:,} of {needed:,}"
        if kept == needed:
            yield Check("vectors", "ok", detail)
        else:
            yield Check("vectors", "note", detail, "tfgrpo memory reembed")


def _embedder(bank: CaseStore, name: str | None) -> Check:
    from memory.errors import StoreError
    from memory.search.reembed import attach
    from tfgrpo.errors import ConfigError

    try:
        embedder = embedder_of(bank, name)
        attach(bank, embedder)
    except (StoreError, ConfigError) as error:
        remedy = "name it with --embedder, or: tfgrpo memory reembed --embedder NAME"
        return Check("embedder", "problem", str(error), remedy)
    made = embedder.fingerprint
    return Check("embedder", "ok", f"{made.model} ({made.short}) makes the stored vectors")


def _index(bank: CaseStore, fingerprint: str, view: View) -> Check:
    from memory.search.approximate import ApproximateIndex, choose
    from memory.search.index import FaissIndex
    from memory.search.index_files import StaleIndex, load
    from memory.search.reembed import index_folder, stamp
    from memory.sqlite.vectors import retrievable

    folder = index_folder(bank.folder, fingerprint, view)
    if not folder.exists():
        return Check("index", "ok", f"{view}: none kept, made at the first read")
    cases = retrievable(bank.cases())
    seq, mark = stamp(cases)
    try:
        if choose(len(cases)).index is ApproximateIndex:
            load(ApproximateIndex, folder, fingerprint=f"{fingerprint}:{mark}", seq=seq)
        else:
            load(FaissIndex, folder, fingerprint=f"{fingerprint}:{mark}", seq=seq)
    except StaleIndex as error:
        return Check("index", "note", f"{view}: stale, {error}", AGAIN)
    return Check("index", "ok", f"{view}: of exactly these cases")


def reindex(store: Store = STORE, json: options.Json = False) -> None:
    """Make anew what follows from the rest: utilities, the index of words, indexes of vectors."""
    from memory.search.reembed import reindex as write_indexes

    with opened(store, "rw") as bank:
        bank.retrievals.rebuild_utilities()
        bank.purge([], confirm=True, actor=ACTOR)
        active, counts, missing = bank.vectors.active, dict[View, int](), 0
        if active is not None:
            progress = [bank.vectors.progress(active, view) for view in bank.vectors.views(active)]
            missing = sum(needed - kept for kept, needed in progress)
            if not missing:
                counts = write_indexes(bank, active)
    if json:
        console.print_json({"indexed": counts, "missing": missing})
        return
    told = ", ".join(f"{view} {count:,}" for view, count in counts.items()) or "none"
    console.show(f"Utilities and words are made anew; indexes of vectors: {told}.")
    if missing:
        console.note(f"{missing:,} vectors are missing; first: tfgrpo memory reembed.")
