"""The vectors of a store of cases: making them, moving them, and how fast they are searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from cli.cases_options import (
    STORE,
    EmbedderName,
    Store,
    Yes,
    embedder_of,
    listing,
    opened,
    preview,
    searched_space,
)
from tfgrpo.errors import ConfigError

if TYPE_CHECKING:
    from memory.sqlite.fingerprints import StoredView
    from memory.store import CaseStore


def reembed(
    embedder: EmbedderName = None,
    batch: Annotated[int, typer.Option(min=1, help="Texts at once.")] = 64,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Make the vectors that are missing, or move the store to another embedder.

    The store is searched as before until all are made. A kill loses nothing: give it again.
    """
    from memory.search.reembed import migrate

    with opened(store, "rw") as bank, console.progress() as bar:
        model = embedder_of(bank, embedder)
        task = bar.add_task("embedding", total=None, note="")
        counts = []
        for done, needed in migrate(bank, model, batch=batch):
            counts.append((done, needed))
            bar.update(task, completed=done, total=needed)
    (before, _), (after, needed) = counts[0], counts[-1]
    made = {"made": after - before, "needed": needed}
    if json:
        print_of = model.fingerprint
        console.print_json({"fingerprint": print_of.digest, "name": print_of.model, **made})
        return
    name = console.safe(model.fingerprint.model)
    console.show(f"{after - before:,} vectors made, {needed:,} there: {name} is searched.")


def spaces(
    drop: Annotated[
        str | None,
        typer.Option(
            help="Forget the vectors of this space (the beginning of its name).", show_default=False
        ),
    ] = None,
    yes: Yes = False,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """List the embedding spaces of the store, or drop one that is no longer searched."""
    from memory.search.reembed import drop_space

    with opened(store, "rw" if yes and drop is not None else "ro") as bank:
        views = bank.stats().views
        if drop is not None:
            views = _droppable(views, drop)
            if yes:
                drop_space(bank, views[0].fingerprint)
    if json:
        console.print_json(views if drop is None else {"done": yes, "drop": views})
        return
    rows = [
        (v.fingerprint[:12], v.view, v.dim, v.vectors, v.pending, f"{v.bytes:,}",
         "searched" if v.active else "", console.safe(v.name))
        for v in views
    ]  # fmt: skip
    columns = ("space", "view", "numbers", "vectors", "missing", "bytes", "", "embedder")
    console.show(listing(columns, rows))
    if drop is not None:
        preview(yes, rows)


def _droppable(views: Sequence[StoredView], name: str) -> tuple[StoredView, ...]:
    """The views of the one space that is meant."""
    found = tuple(view for view in views if view.fingerprint.startswith(name))
    if len({view.fingerprint for view in found}) != 1:
        raise ConfigError(f"{name!r} names no one space; see: tfgrpo memory spaces.")
    if found[0].active:
        raise ConfigError(
            "That space is being searched; move first: tfgrpo memory reembed --embedder NAME."
        )
    return found


def bench(
    queries: Annotated[int, typer.Option(min=1, help="How many questions to ask.")] = 100,
    k: Annotated[int, typer.Option("--k", min=1, help="Neighbours of each.")] = 10,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Time searches of this store by its own questions, and count what the index misses."""
    with opened(store) as bank, bank.reading():
        told = measured(bank, queries, k)
    if json:
        console.print_json(told)
        return
    rows = [
        (w["way"], f"{w['p50_ms']:.3f}", f"{w['p95_ms']:.3f}",
         "" if w["recall"] is None else f"{100 * w['recall']:.1f}%")
        for w in told["ways"]
    ]  # fmt: skip
    title = f"{told['vectors']:,} vectors of {told['numbers']}, {told['queries']} questions"
    columns = ("search", "ms, median", "ms, 95%", f"of the {told['k']} nearest")
    console.show(console.table(title, columns, rows))
    console.note(f"The index is {told['reason']}.")


def measured(bank: CaseStore, queries: int, k: int) -> dict[str, Any]:
    """Milliseconds of a search by the index, by all cosines and by words, one query at a time."""
    import numpy as np

    from memory.search.approximate import choose, measured_recall
    from memory.search.index import NumpyIndex
    from memory.sqlite.vectors import retrievable

    some = retrievable(bank.cases())
    rows, cases, _ = bank.vectors.get(searched_space(bank), "question", some)
    if not cases:
        raise ConfigError("No question has a vector yet; make them: tfgrpo memory reembed.")
    ids, dim, choice = [case.id for case in cases], rows.shape[1], choose(len(cases))
    index, oracle = choice.index(dim), NumpyIndex(dim)
    for each in (index, oracle):
        each.add(ids, rows)
    drawn = np.random.default_rng(0).choice(len(ids), min(queries, len(ids)), replace=False)
    asked, texts = rows[drawn], [cases[i].question for i in drawn.tolist()]
    ways: dict[str, list[Callable[[], object]]] = {
        index.kind: [partial(index.search, row[None], k) for row in asked],
        oracle.kind: [partial(oracle.search, row[None], k) for row in asked],
        "keywords": [partial(bank.keyword_search, text, limit=k) for text in texts],
    }
    recall = {index.kind: measured_recall(index, oracle, asked, k), oracle.kind: 1.0}
    told = []
    for way, works in ways.items():
        low, high = np.percentile([_ms(work) for work in works], [50, 95]).tolist()
        told.append({"way": way, "p50_ms": low, "p95_ms": high, "recall": recall.get(way)})
    sizes = {"vectors": len(ids), "numbers": dim, "queries": len(texts), "k": k}
    return {**sizes, "reason": choice.reason, "ways": told}


def _ms(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return 1e3 * (perf_counter() - start)
