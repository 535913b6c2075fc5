"""The log of reads, what came of them, and the utility of each case as a fold of both."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from memory.errors import InvalidCase
from memory.types import Outcome, Utility

_CREDITS = """SELECT h.case_id, o.reward, o.advantage
    FROM outcomes AS o JOIN retrieval_hits AS h ON h.retrieval_id = o.retrieval_id
    WHERE h.shown = 1 AND o.advantage IS NOT NULL AND o.seq <= ? ORDER BY o.id, h.case_id"""
_PUT = "INSERT OR REPLACE INTO utility SELECT ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM cases WHERE id = ?)"  # noqa: E501


def credited(utility: Utility, reward: float, advantage: float) -> Utility:
    """One more credit: Welford's update of the mean and of the squared deviations.

        n' = n + 1,  d = A − mean,  mean' = mean + d / n',  m2' = m2 + d (A − mean')

    Source: Welford (1962), Technometrics 4(3). The variance of the advantages is m2 / (n − 1).
    """
    n = utility.n + 1
    delta = advantage - utility.mean
    mean = utility.mean + delta / n
    m2 = utility.m2 + delta * (advantage - mean)
    return Utility(utility.case_id, n, mean, m2, utility.reward + (reward - utility.reward) / n)


def fold_utilities(connection: sqlite3.Connection, seq: int) -> dict[int, Utility]:
    """Utilities from the outcomes credited up to event `seq`, purged cases included."""
    found: dict[int, Utility] = {}
    for number, reward, advantage in connection.execute(_CREDITS, (seq,)):
        found[number] = credited(found.get(number, Utility(number)), reward, advantage)
    return found


def read_utilities(connection: sqlite3.Connection) -> dict[int, Utility]:
    rows = connection.execute("SELECT case_id, n, mean, m2, reward FROM utility ORDER BY case_id")
    return {row[0]: Utility(*row) for row in rows}


def write_utilities(connection: sqlite3.Connection, utilities: Iterable[Utility]) -> None:
    """Keep these; a purged case has no utility."""
    connection.executemany(
        _PUT, [(u.case_id, u.n, u.mean, u.m2, u.reward, u.case_id) for u in utilities]
    )


def shown_cases(connection: sqlite3.Connection, retrieval_id: int) -> list[int]:
    rows = connection.execute(
        "SELECT case_id FROM retrieval_hits WHERE retrieval_id = ? AND shown = 1 ORDER BY case_id",
        (retrieval_id,),
    )
    return [int(number) for (number,) in rows]


def check_outcome(outcome: Outcome) -> None:
    """Raise InvalidCase unless all numbers are finite and an advantage has its reward."""
    numbers: Mapping[str, Any] = {
        "reward": outcome.reward,
        "advantage": outcome.advantage,
        "baseline": outcome.baseline,
    }
    for name, value in numbers.items():
        if value is not None and not math.isfinite(value):
            raise InvalidCase(f"The {name} is {value}; give a finite number, or None if unknown.")
    if outcome.reward is None and outcome.advantage is not None:
        raise InvalidCase("An advantage without a reward cannot be checked; give both or neither.")
