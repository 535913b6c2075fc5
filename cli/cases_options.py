"""What the commands of `tfgrpo memory` share: their options, the open store, how cases are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console
from tfgrpo.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from memory.search.embed import Embedder
    from memory.store import CaseStore
    from memory.types import Case, Content, Mode, SeqRef

STORE = Path("memory-store")
ACTOR = "user"
"""How the history names who changes something by a command."""

Store = Annotated[
    Path, typer.Option("--store", envvar="TFGRPO_MEMORY", help="The folder of the store.")
]
Namespace = Annotated[
    str | None,
    typer.Option("--ns", help="Only this namespace and those below it.", show_default=False),
]
Id = Annotated[int, typer.Argument(metavar="ID", help="The number of the case, as in ls.")]
Ids = Annotated[list[int], typer.Argument(metavar="ID...", help="Numbers of cases, as in ls.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it. Without this, it is only shown.")]
Note = Annotated[str, typer.Option("--note", help="Why, for the history.", show_default=False)]
At = Annotated[
    str | None, typer.Option("--snapshot", help="As it was in this snapshot.", show_default=False)
]
EmbedderName = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="hashing, minilm, a sentence-transformers folder, or onnx:FOLDER; by default the "
        "store's own.",
        show_default=False,
    ),
]


def opened(folder: Path, mode: Mode = "ro", snapshot: str | None = None) -> CaseStore:
    """The store, which must be there: only `init` and practice make one."""
    from memory.errors import NoStore, NotReady
    from memory.sqlite.database import FILE_NAME
    from memory.store import CaseStore

    place = quote(str(folder))
    if not (folder / FILE_NAME).exists():
        raise NoStore(
            f"There is no store of cases in {folder}; name another, fill one by practice (tfgrpo "
            f"learn --memory {place}), or make an empty one: tfgrpo memory init --store {place}."
        )
    try:
        return CaseStore(folder, mode=mode, snapshot=snapshot)
    except NotReady as error:
        raise NotReady(f"{error} To do that: tfgrpo memory init --store {place}.") from error


def embedder_of(store: CaseStore | None, name: str | None) -> Embedder:
    """The one that is named, else the one of the store's vectors, else the one of the settings."""
    from cli.banks import make_embedder
    from tfgrpo.config import MemorySpec

    if name is not None:
        return make_embedder(name)
    active = None if store is None else store.vectors.active
    if store is None or active is None:
        return make_embedder(str(MemorySpec.model_fields["embedder"].default))
    known = store.vectors.known(active)
    if known is None:
        raise ConfigError("This store does not say what made its vectors; name it: --embedder.")
    return make_embedder(known.model)


def attached(store: CaseStore, name: str | None) -> Embedder:
    """The same, which must make the vectors that the store is searched by."""
    from memory.search.embed import FingerprintMismatch
    from memory.search.reembed import attach

    embedder = embedder_of(store, name)
    try:
        attach(store, embedder)
    except FingerprintMismatch as error:
        raise FingerprintMismatch(f"{error} {moving(store.folder, embedder)}") from error
    return embedder


def moving(folder: Path, embedder: Embedder) -> str:
    """How a store comes to the vectors of an embedder, as a sentence."""
    store, name = quote(str(folder)), quote(embedder.fingerprint.model)
    return f"To re-embed it: tfgrpo memory reembed --store {store} --embedder {name}."


def searched_space(store: CaseStore) -> str:
    """The fingerprint of the vectors that are searched."""
    active = store.vectors.active
    if active is None:
        raise ConfigError("This store has no vectors yet; make them: tfgrpo memory reembed.")
    return active


def reference(text: str) -> SeqRef:
    """An event by its number, else a snapshot by its name."""
    return int(text) if text.isdigit() else text


def everything(store: CaseStore) -> list[Case]:
    """Cases of all states."""
    from memory.types import STATES, CaseFilter

    return store.cases(CaseFilter(states=STATES))


def preview(done: bool, found: Sized) -> None:
    """The last line of a command that destroys, which has shown what it found."""
    if not found:
        console.note("There is nothing to do.")
    elif not done:
        console.note("Nothing was changed. To do it, give the same command with --yes.")


def listing(columns: Sequence[str], rows: Iterable[Sequence[object]], texts: int = 1) -> Table:
    """A table of numbers and words whose last `texts` columns hold text of any length."""
    made = console.table("", columns, rows)
    made.columns[0].no_wrap = True
    for column in made.columns[-texts:]:
        column.justify, column.no_wrap, column.overflow = "left", False, "fold"
    return made


def case_table(cases: Iterable[Case]) -> Table:
    """Cases in a few words each."""
    rows = [(c.id, c.kind, c.outcome, c.state, excerpt(said(c))) for c in cases]
    return listing(("id", "kind", "outcome", "state", "what"), rows)


def said(case: Content) -> str:
    """What a case is known by: its question, or the text of an insight."""
    return case.question or case.plan


def excerpt(text: str, length: int = 60) -> str:
    """The beginning of a text on one line, harmless in a terminal."""
    flat = " ".join(text.split())
    return console.safe(flat if len(flat) <= length else f"{flat[: length - 1]}…")


def when(ts: float) -> str:
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%d %H:%M")


def counted(numbers: Mapping[str, int]) -> str:
    """{"case": 3, "insight": 1} as `case 3, insight 1`."""
    return ", ".join(f"{console.safe(name)} {number:,}" for name, number in numbers.items())
