"""From an open case memory to its page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfgrpo.types import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memory.credit import Utility
    from memory.store import CaseStore
    from memory.types import Case, Event, Retrieval
    from tfgrpo.report.pages.bank_records import BankCase, BankEvent, BankRead

NEAR = 0.95  # cosine from which two questions are listed as near duplicates
MOST_NEAR = 5
MOST_EVENTS = 5_000
MOST_READS = 2_000
READS_PER_CASE = 3
Z95 = 1.959964


def bank_page(store: CaseStore, title: str = "Case memory") -> str:
    """The page of a store, or of the snapshot that it is open at, as one HTML file.

    A snapshot's reads and counts of reads are those that are logged today. The map and the near
    duplicates need vectors of questions in the active space, and are left out without them.
    """
    from memory.types import STATES, CaseFilter
    from tfgrpo.report.pages.bank import render_bank
    from tfgrpo.report.pages.bank_records import Bank

    cases = store.cases(CaseFilter(states=STATES))
    events = [event for event in store.history() if event.seq <= store.seq]
    reads, looked_at, all_reads = _reads(store)
    notes = []
    if len(events) > MOST_EVENTS:
        notes.append(("history", f"The last {MOST_EVENTS:,} of {len(events):,} events."))
    if len(reads) < all_reads:
        told = f"For each case the last {READS_PER_CASE} that showed it"
        notes.append(("reads", f"{told}, of the last {looked_at:,} of {all_reads:,} reads."))
    return render_bank(
        Bank(
            title=title,
            seq=store.seq,
            digest=store.digest,
            cases=tuple(_cases(store, cases)),
            events=tuple(map(_event, events[-MOST_EVENTS:])),
            reads=tuple(reads),
            notes=tuple(notes),
        )
    )


def _cases(store: CaseStore, cases: Sequence[Case]) -> Iterable[BankCase]:
    from memory.credit import Utility
    from memory.sqlite.utility import priors
    from tfgrpo.report.pages.bank_records import BankCase

    utilities, shown, prior = store.utilities(), store.retrievals.times_shown(), priors(cases)
    places, alike = _space(store, cases)
    for case in cases:
        same = {name: getattr(case, name) for name in _SAME}
        yield BankCase(
            **same,
            prior=prior[case.id],
            utility=estimate(utilities.get(case.id, Utility()), prior[case.id]),
            shown=shown.get(case.id, 0),
            seen=case.seen_count,
            item=case.item_id,
            run=case.run_id,
            origin=tuple(_origin(case)),
            parents=tuple((parent.id, parent.relation) for parent in case.parents),
            alike=alike.get(case.id, ()),
            place=places.get(case.id),
        )


_SAME = (
    "id", "kind", "outcome", "state", "ns", "question", "plan", "answer", "reason", "reward",
    "pinned", "version", "created", "updated", "dataset", "step", "model",
)  # fmt: skip


def estimate(utility: Utility, prior: float) -> Estimate | None:
    """None where nothing was credited: a prior alone is no measurement."""
    if not utility.n:
        return None
    value, half = utility.shrunk(prior), Z95 * utility.standard_error()
    return Estimate(value, value - half, value + half, utility.n, "shrunk mean of credits")


def _origin(case: Case) -> Iterable[tuple[str, str]]:
    yield "uid", case.uid
    for label, value in (
        ("split", case.split), ("group", case.group_id), ("rollout", case.rollout_id),
        ("verifier", case.verifier), ("prompt", case.prompt_sha), ("tokens", case.tokens),
        ("tags", ", ".join(case.tags)), ("also of", ", ".join(case.also_items)),
    ):  # fmt: skip
        if value not in (None, ""):
            yield label, str(value)


def _space(
    store: CaseStore, cases: Sequence[Case]
) -> tuple[dict[int, tuple[float, float]], dict[int, tuple[tuple[int, float], ...]]]:
    """Of the active cases: their places on the map, and their near duplicates."""
    from tfgrpo.report.pages.projection import project

    active = [case for case in cases if case.state == "active" and case.question.strip()]
    fingerprint = store.vectors.active
    if fingerprint is None or not active:
        return {}, {}
    matrix, found, _ = store.vectors.get(fingerprint, "question", active)
    ids = [case.id for case in found]
    places = {i: (float(x), float(y)) for i, (x, y) in zip(ids, project(matrix), strict=True)}
    return places, dict(_alike(ids, matrix))


def _alike(
    ids: Sequence[int], matrix: NDArray[np.float32]
) -> Iterable[tuple[int, tuple[tuple[int, float], ...]]]:
    """For each unit row of `matrix` (n, d) the nearest others above NEAR, best first."""
    block = 512
    for start in range(0, len(ids), block):
        cosines = matrix[start : start + block] @ matrix.T
        for row, values in enumerate(cosines, start):
            near = [j for j in (values >= NEAR).nonzero()[0].tolist() if j != row]
            best = sorted(near, key=lambda j: (-round(float(values[j]), 6), ids[j]))[:MOST_NEAR]
            if best:
                yield ids[row], tuple((ids[j], float(values[j])) for j in best)


def _event(event: Event) -> BankEvent:
    from tfgrpo.report.pages.bank_records import BankEvent

    told = (event.seq, event.ts, event.actor, event.op, event.case_id)
    return BankEvent(*told, _change(event), event.reason, event.run_id)


def _change(event: Event) -> str:
    """What differs before and after, one field a line; nothing for a new or a redacted case."""
    if event.before is None or event.after is None:
        return ""
    before: Mapping[str, Any] = json.loads(event.before)
    after: Mapping[str, Any] = json.loads(event.after)
    fields = [f for f in sorted(after) if before.get(f) != after[f] and f != "version"]
    return "\n".join(f"{f}: {_told(before.get(f))} → {_told(after[f])}" for f in fields)


def _told(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _reads(store: CaseStore) -> tuple[list[BankRead], int, int]:
    """The last reads that showed each case; how many were looked at for them, and how many are."""
    from tfgrpo.report.pages.bank_records import BankRead

    ids = store.retrievals.ids()
    times: Counter[int] = Counter()
    found = []
    for number in ids[: -MOST_READS - 1 : -1]:
        read = store.retrievals.get(number)
        ranked = [(hit, hit.rank) for hit in read.hits if hit.rank is not None]
        shown = [(h.case_id, f"rank {rank + 1}, cosine {h.sim:.2f}") for h, rank in ranked]
        fresh = [i for i, _ in shown if times[i] < READS_PER_CASE]
        if not fresh:
            continue
        times.update(i for i, _ in shown)
        outcome = store.retrievals.outcome(number)
        scored = (None, None) if outcome is None else (outcome.reward, outcome.advantage)
        told = (number, read.item_id, tuple(shown), _withheld(read), *scored)
        found.append(BankRead(*told, read.run_id, read.rollout_id))
    return found[::-1], min(len(ids), MOST_READS), len(ids)


def _withheld(read: Retrieval) -> str:
    reasons = Counter(hit.reason or "not shown" for hit in read.hits if hit.rank is None)
    return ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
