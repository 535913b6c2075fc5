"""What the parametric read is trained on: logged reads with their outcomes, split by query.

In Memento's published data every case of a query carries the outcome of that query. Such labels
teach which queries are easy and nothing about which case to show; and with rows of one query on
both sides of a split, outcomes can be known by heart. So queries are split, never rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memory.errors import StoreError
from memory.search.embed import F32

if TYPE_CHECKING:
    from memory.sqlite.retrievals import RetrievalLog

I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Example:
    """A case was shown for a query, and the answer was right or not."""

    query: str
    case_id: int
    success: bool


def logged(log: RetrievalLog, *, success: float = 1.0) -> list[Example]:
    """One example for each case that a read with a known reward has shown.

    `query` is the read's `query_sha`; a reward of at least `success` is r = 1.
    """
    examples = []
    for number in log.ids():
        outcome = log.outcome(number)
        if outcome is not None and outcome.reward is not None:
            read, right = log.get(number), outcome.reward >= success
            shown = (hit.case_id for hit in read.hits if hit.rank is not None)
            examples += [Example(read.query_sha, case_id, right) for case_id in shown]
    return examples


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Examples as arrays: vectors (n, dim), outcomes and numbers of the queries (n,)."""

    queries: F32
    cases: F32
    labels: Flags
    groups: I64

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, chosen: NDArray[Any]) -> Rows:
        return Rows(
            self.queries[chosen], self.cases[chosen], self.labels[chosen], self.groups[chosen]
        )


def rows_of(
    examples: Sequence[Example], queries: Mapping[str, F32], cases: Mapping[int, F32]
) -> Rows:
    names = {name: number for number, name in enumerate(sorted({e.query for e in examples}))}
    if len(names) < 3:
        raise StoreError(
            f"Reads of {len(names)} queries have outcomes and vectors, and three are needed to "
            "learn, to stop and to judge; log more reads first."
        )
    return Rows(
        np.stack([queries[e.query] for e in examples]).astype(np.float32),
        np.stack([cases[e.case_id] for e in examples]).astype(np.float32),
        np.array([e.success for e in examples], dtype=bool),
        np.array([names[e.query] for e in examples], dtype=np.int64),
    )


def split(groups: I64, held: float, seed: int) -> tuple[Flags, Flags, Flags]:
    """Which rows learn, stop and judge: every query on one side, at least one on each.

    Args:
        groups: number of the query of each row, from 0, at least three of them.
        held: share of the queries that stop, and again of those that judge.
        seed: of the drawing.
    """
    number = int(groups.max()) + 1
    size = min(max(1, round(held * number)), (number - 1) // 2)
    order = np.random.default_rng([seed, 0]).permutation(number)
    stop, judge = np.isin(groups, order[:size]), np.isin(groups, order[size : 2 * size])
    return ~(stop | judge), stop, judge
