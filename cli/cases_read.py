"""Reading a store of cases: which there are, and which of them speak of something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli import console, options
from cli.cases_options import (
    STORE,
    At,
    EmbedderName,
    Namespace,
    Store,
    attached,
    excerpt,
    listing,
    opened,
    said,
)
from memory.types import STATES, Kind, Verdict

if TYPE_CHECKING:
    from memory.store import CaseStore
    from memory.types import CaseFilter

SearchMode = Literal["keyword", "vector", "hybrid"]
State = Literal["active", "archived", "deleted", "all"]
DEPTH = 5
"""A hybrid search asks each of its two searches for so many times k."""


def ls(
    kind: Annotated[Kind | None, typer.Option(show_default=False)] = None,
    outcome: Annotated[Verdict | None, typer.Option(show_default=False)] = None,
    state: Annotated[State, typer.Option()] = "active",
    ns: Namespace = None,
    tag: Annotated[str | None, typer.Option(show_default=False)] = None,
    run: Annotated[
        str | None, typer.Option(help="The run that it comes from.", show_default=False)
    ] = None,
    item: Annotated[
        str | None, typer.Option(help="The problem that it comes from.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    after: Annotated[int, typer.Option(help="Only those with a higher number.")] = 0,
    snapshot: At = None,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """List cases, oldest first."""
    from memory.types import CaseFilter

    states = STATES if state == "all" else (state,)
    wanted = CaseFilter(
        ns=ns, kind=kind, states=states, outcome=outcome, item_id=item, run_id=run, tag=tag
    )
    with opened(store, snapshot=snapshot) as bank, bank.reading():
        found = bank.cases(wanted, after=after, limit=limit)
        more = len(bank.cases(wanted, after=found[-1].id)) if len(found) == limit else 0
        utilities, shown = bank.utilities(), bank.retrievals.times_shown()
    if json:
        rows = [
            {**asdict(c), "utility": utilities.get(c.id), "shown": shown.get(c.id, 0)}
            for c in found
        ]
        console.print_json({"cases": rows, "more": more})
        return
    table = [
        (c.id, c.kind, c.outcome, "" if c.id not in utilities else f"{utilities[c.id].mean:+.2f}",
         shown.get(c.id, 0), console.safe(c.ns), excerpt(said(c)))
        for c in found
    ]  # fmt: skip
    columns = ("id", "kind", "outcome", "credit", "shown", "namespace", "what")
    console.show(listing(columns, table))
    if more:
        console.note(f"{more:,} more; go on with --after {found[-1].id}, or raise --limit.")


def search(
    text: Annotated[str, typer.Argument(help="What to look for.")],
    mode: Annotated[
        SearchMode, typer.Option(help="By words, by likeness of the question, or by both.")
    ] = "keyword",
    k: Annotated[int, typer.Option("--k", min=1, help="How many.")] = 10,
    ns: Namespace = None,
    kind: Annotated[Kind | None, typer.Option(show_default=False)] = None,
    embedder: EmbedderName = None,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Find active cases by their words, by the likeness of their questions, or by both."""
    from memory.types import CaseFilter

    wanted, depth = CaseFilter(ns=ns, kind=kind), k if mode != "hybrid" else DEPTH * k
    with opened(store) as bank, bank.reading():
        words = by_words(bank, text, wanted, depth) if mode != "vector" else {}
        near = by_likeness(bank, text, wanted, depth, embedder) if mode != "keyword" else {}
        order = fused(list(words), list(near))
        found: list[dict[str, Any]] = [
            {"id": i, "score": score, "keyword": words.get(i), "cosine": near.get(i),
             "case": bank.get(i)}
            for i, score in order[:k]
        ]  # fmt: skip
    if json:
        console.print_json(found)
        return
    rows = [
        (row["id"], *(f"{row[name]:.3f}" if row[name] is not None else "" for name in _SCORES),
         row["case"].outcome, excerpt(said(row["case"])))
        for row in found
    ]  # fmt: skip
    console.show(listing(("id", *_SCORES, "outcome", "what"), rows))


_SCORES = ("keyword", "cosine")


def by_words(bank: CaseStore, text: str, wanted: CaseFilter, limit: int) -> dict[int, float]:
    """BM25 of the best cases, best first."""
    return {case.id: score for case, score in bank.keyword_search(text, wanted, limit)}


def by_likeness(
    bank: CaseStore, text: str, wanted: CaseFilter, limit: int, embedder: str | None
) -> dict[int, float]:
    """Cosines of the nearest cases, nearest first."""
    from memory.search.space import Space

    space = Space(bank, attached(bank, embedder))
    kept, needed = bank.vectors.progress(space.fingerprint, "question")
    if kept < needed:
        console.note(
            f"{needed - kept:,} cases were embedded for this search alone; to keep their vectors: "
            "tfgrpo memory reembed."
        )
    allowed = [case.id for case in bank.cases(wanted)]
    (hits,) = space.search(space.embed([text]), limit, allowed)
    return dict(zip(hits.ids.tolist(), hits.scores.tolist(), strict=True))


def fused(*rankings: Sequence[int], constant: int = 60) -> list[tuple[int, float]]:
    """Ids with the sum of 1 / (constant + rank) over all rankings, ranks from 1, best first.

    Reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009); equal sums by the smaller id.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, number in enumerate(ranking, start=1):
            scores[number] = scores.get(number, 0.0) + 1 / (constant + rank)
    return sorted(scores.items(), key=lambda found: (-found[1], found[0]))
