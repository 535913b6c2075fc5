"""Why a read showed the cases that it showed, and not the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import console, options
from cli.cases_options import STORE, Store, everything, excerpt, listing, opened, said
from tfgrpo.errors import ConfigError

Rows = list[dict[str, Any]]
READS = "reads.jsonl"


def why(
    retrieval: Annotated[
        int | None,
        typer.Argument(help="The number of a read that the store logged.", show_default=False),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Instead: an evaluation that read.", show_default=False)
    ] = None,
    task: Annotated[str | None, typer.Option(help="Its task.", show_default=False)] = None,
    index: Annotated[int, typer.Option(min=0, help="Its rollout.")] = 0,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Explain one read, candidate by candidate: of practice by its number, or of an evaluation."""
    if (retrieval is None) == (run is None) or (run is None) != (task is None):
        raise ConfigError("Give the number of a read, or a run with --run and one task of it.")
    if run is not None and task is not None:
        told, store = of_run(run, task, index)
    else:
        told = logged(store, int(retrieval or 0))
    texts = _texts(store)
    for row in told["candidates"]:
        row["question"] = texts.get(row["case_id"])
    if json:
        console.print_json(told)
        return
    _print(told)


def logged(store: Path, number: int) -> dict[str, Any]:
    """A read of the store's own log, with its outcome."""
    with opened(store) as bank:
        read, outcome = bank.retrievals.get(number), bank.retrievals.outcome(number)
    rows = [
        {"case_id": hit.case_id, "rank": hit.rank, "similarity": hit.sim, "utility": hit.util,
         "score": hit.score, "reason": hit.reason}
        for hit in read.hits
    ]  # fmt: skip
    with_parts(rows, by_value(read.policy))
    names = ("run_id", "group_id", "rollout_id", "item_id", "snapshot_seq", "seed", "policy")
    header = {name: getattr(read, name) for name in names}
    return {"retrieval": number, **header, "outcome": outcome, "candidates": _ordered(rows)}


def of_run(run: Path, task: str, index: int) -> tuple[dict[str, Any], Path]:
    """What rollout `index` of a task was shown in an evaluation, and the bank that it read.

    An evaluation logs one ranking for each task; the chance in a rollout's own draw is not in it.
    """
    from tfgrpo.runs import RunDir

    opened_run = RunDir.open(run)
    memory = opened_run.config.get("memory") or {}
    if not opened_run.file(READS).exists():
        raise ConfigError(f"The run {run} read no cases; name an evaluation with --memory.")
    found = [row for row in opened_run.read_rows(READS) if row["task_id"] == task]
    if not found or index >= len(found[-1]["shown"]):
        raise ConfigError(f"The run {run} has no rollout {index} of a task {task}; see {READS}.")
    row = found[-1]
    shown, blocked = row["shown"][index], row["blocked"]
    rows: Rows = [
        {"case_id": int(name), "rank": _rank(shown, int(name)), "similarity": similarity,
         "utility": utility, "score": score,
         "reason": _reason(int(name), shown, score, blocked.get(name))}
        for name, (similarity, utility, score) in row["candidates"].items()
    ]  # fmt: skip
    with_parts(rows, memory.get("read") == "value" and memory.get("draw") != "thompson")
    header = {"run_id": str(run), "item_id": task, "index": index, "policy": memory}
    return {**header, "candidates": _ordered(rows)}, Path(memory.get("path", STORE))


def _rank(shown: Sequence[int] | None, number: int) -> int | None:
    return shown.index(number) if shown is not None and number in shown else None


def _reason(
    number: int, shown: Sequence[int] | None, score: float | None, blocked: str | None
) -> str | None:
    if shown is not None and number in shown:
        return None
    if blocked is not None:
        return f"blocked: {blocked}"
    if shown is None:
        return "memory off"
    return "below floor" if score is None else "outranked, or over a limit"


def by_value(policy: Mapping[str, Any]) -> bool:
    """Whether the score is a blend of the logged numbers; a Thompson draw is not logged."""
    return bool(
        policy.get("score", {}).get("kind") == "ByValue"
        and policy.get("draw", {}).get("kind") != "Thompson"
    )


def with_parts(rows: Rows, blended: bool) -> None:
    """Add z(similarity) and z(utility) over the eligible candidates, as the ranking had them."""
    from memory.read.rank import z_scores

    eligible = [row for row in rows if blended and row["score"] is not None]
    for name in ("similarity", "utility"):
        parts = z_scores([row[name] for row in eligible])
        for row in rows:
            row[f"z_{name}"] = None
        for row, part in zip(eligible, parts, strict=True):
            row[f"z_{name}"] = part


def _ordered(rows: Rows) -> Rows:
    """The shown ones by rank, then those with the best scores, then the nearest."""

    def key(row: dict[str, Any]) -> tuple[bool, int, bool, float, int]:
        score = row["score"]
        best = -row["similarity"] if score is None else -score
        return row["rank"] is None, row["rank"] or 0, score is None, best, row["case_id"]

    return sorted(rows, key=key)


def _texts(store: Path) -> dict[int, str]:
    """What the cases are known by; nothing of a bank that is gone."""
    from memory.errors import NoStore

    try:
        with opened(store) as bank:
            return {case.id: said(case) for case in everything(bank)}
    except NoStore:
        return {}


_NUMBERS = ("similarity", "z_similarity", "utility", "z_utility", "score")


def _print(told: Mapping[str, Any]) -> None:
    names = ("retrieval", "run_id", "rollout_id", "item_id", "index", "snapshot_seq", "seed")
    known = [f"{name} {told[name]}" for name in names if told.get(name) is not None]
    console.show(console.safe(", ".join(known)))
    rules = {k: v["kind"] if isinstance(v, Mapping) else v for k, v in told["policy"].items()}
    policy = ", ".join(f"{key} {value}" for key, value in rules.items() if value is not None)
    console.show(console.safe(f"policy: {policy}"))
    if told.get("outcome") is not None:
        outcome = told["outcome"]
        console.show(f"reward {outcome.reward}, advantage {outcome.advantage}")
    rows = []
    for row in told["candidates"]:
        numbers = ("" if row[name] is None else f"{row[name]:+.2f}" for name in _NUMBERS)
        shown = f"#{row['rank'] + 1}" if row["rank"] is not None else ""
        why_not = f"{console.safe(row['reason'])}: " if row["reason"] else ""
        text = "(purged)" if row["question"] is None else excerpt(row["question"])
        rows.append((row["case_id"], shown, *numbers, why_not + text))
    columns = ("case", "shown", "cosine", "z", "utility", "z", "score", "why not: what")
    console.show(listing(columns, rows))
