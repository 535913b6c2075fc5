"""The utility of each case as a fold of the outcomes of the reads that showed it."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping
from statistics import fmean

from memory.credit import Utility
from memory.errors import InvalidCase
from memory.types import Case, Outcome

_CREDITS = """SELECT h.case_id, o.advantage
    FROM outcomes AS o JOIN retrieval_hits AS h ON h.retrieval_id = o.retrieval_id
    WHERE h.rank IS NOT NULL AND o.advantage IS NOT NULL AND o.seq <= ? ORDER BY o.id, h.case_id"""
_PUT = """INSERT OR REPLACE INTO utility
    SELECT ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM cases WHERE id = ?)"""
_SHOWN = """SELECT case_id FROM retrieval_hits
    WHERE retrieval_id = ? AND rank IS NOT NULL ORDER BY case_id"""


def fold_utilities(connection: sqlite3.Connection, seq: int) -> dict[int, Utility]:
    """Utilities from the outcomes credited up to event `seq`, purged cases included."""
    found: dict[int, Utility] = {}
    for number, advantage in connection.execute(_CREDITS, (seq,)):
        found[number] = found.get(number, Utility()).add(advantage)
    return found


def read_utilities(connection: sqlite3.Connection) -> dict[int, Utility]:
    rows = connection.execute("SELECT case_id, n, mean, m2 FROM utility ORDER BY case_id")
    return {number: Utility(*values) for number, *values in rows}


def write_utilities(connection: sqlite3.Connection, utilities: Mapping[int, Utility]) -> None:
    """Keep these; a purged case has no utility."""
    connection.executemany(_PUT, [(k, u.n, u.mean, u.m2, k) for k, u in utilities.items()])


def shown_cases(connection: sqlite3.Connection, retrieval_id: int) -> list[int]:
    return [int(number) for (number,) in connection.execute(_SHOWN, (retrieval_id,))]


def priors(cases: Iterable[Case]) -> dict[int, float]:
    """u0 of each case: its own reward minus the mean of its namespace, 0 where none was measured.

    The means are over the active cases among those given.
    """
    given = list(cases)
    rewards: dict[str, list[float]] = {}
    for case in given:
        if case.reward is not None and case.state == "active":
            rewards.setdefault(case.ns, []).append(case.reward)
    means = {ns: fmean(found) for ns, found in rewards.items()}
    return {c.id: 0.0 if c.reward is None else c.reward - means.get(c.ns, c.reward) for c in given}


def check_outcome(outcome: Outcome) -> None:
    """Raise InvalidCase unless all numbers are finite and an advantage has its reward."""
    for name in ("reward", "advantage", "baseline"):
        value = getattr(outcome, name)
        if value is not None and not math.isfinite(value):
            raise InvalidCase(f"The {name} is {value}; give a finite number, or None if unknown.")
    if outcome.reward is None and outcome.advantage is not None:
        raise InvalidCase("An advantage without a reward cannot be checked; give both or neither.")
