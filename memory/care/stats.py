"""One look at a whole store: what it holds, what was read, what that was worth.

Everything is added up inside SQLite. A memory is "off" in a read whose policy allows no case
(`k` is 0); such reads count in the effect of memory and in nothing else.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from memory.credit import PRIOR_STRENGTH, Effect, on_off_effect
from memory.sqlite.database import FILE_NAME
from memory.sqlite.fingerprints import RETRIEVED, StoredView, stored_views
from memory.sqlite.history import last_seq

BINS = 20
_OFF = "COALESCE(json_extract(r.policy, '$.k') = 0, 0)"
_HISTOGRAM = f"""SELECT MIN(CAST(MAX((u + 1) * {BINS} / 2, 0) AS INTEGER), {BINS - 1}), COUNT(*)
    FROM (SELECT n * mean / (n + {PRIOR_STRENGTH}) AS u FROM utility) GROUP BY 1"""
_MOMENTS = f"""SELECT COUNT(*), COALESCE(SUM(u), 0), COALESCE(SUM(u * u), 0)
    FROM (SELECT n * mean / (n + {PRIOR_STRENGTH}) AS u FROM utility)"""
_SHOWN = """SELECT COUNT(*), COALESCE(SUM(EXISTS (SELECT 1 FROM retrieval_hits AS h
        WHERE h.case_id = cases.id AND h.rank IS NOT NULL)), 0)
    FROM cases WHERE state = 'active' AND kind IN (SELECT value FROM json_each(?))"""
_READS = f"""SELECT COUNT(*), COALESCE(SUM(EXISTS (SELECT 1 FROM retrieval_hits AS h
        WHERE h.retrieval_id = r.id AND h.rank IS NOT NULL)), 0)
    FROM retrievals AS r WHERE NOT {_OFF}"""
_BLOCKED = """SELECT CASE instr(why, ' (') WHEN 0 THEN why ELSE substr(why, 1, instr(why, ' (') - 1)
    END AS rule, COUNT(*) FROM (SELECT substr(reason, 10) AS why FROM retrieval_hits
    WHERE substr(reason, 1, 9) = 'blocked: ') GROUP BY rule ORDER BY rule"""
_GROWTH = """SELECT date(ts, 'unixepoch') AS day, COUNT(*) FROM history WHERE seq IN
    (SELECT MIN(seq) FROM history WHERE case_id IS NOT NULL GROUP BY case_id)
    GROUP BY day ORDER BY day"""
# Within a group, whether memory is on is drawn by lot; so groups are compared with themselves.
_ON_OFF = f"""WITH scored AS (
        SELECT COALESCE(r.item_id, r.group_id) AS item, r.run_id AS run, r.group_id AS batch,
            {_OFF} AS off, o.reward AS reward
        FROM outcomes AS o JOIN retrievals AS r ON r.id = o.retrieval_id
        WHERE o.reward IS NOT NULL AND COALESCE(r.item_id, r.group_id) IS NOT NULL),
    batches AS (SELECT item, AVG(reward) FILTER (WHERE NOT off) AS with_memory,
            AVG(reward) FILTER (WHERE off) AS without
        FROM scored GROUP BY item, run, batch)
    SELECT AVG(with_memory) FILTER (WHERE without IS NOT NULL),
        AVG(without) FILTER (WHERE with_memory IS NOT NULL)
    FROM batches GROUP BY item ORDER BY item"""


@dataclass(frozen=True, slots=True)
class UtilityStats:
    """Shrunk utilities (prior 0) of the cases that were ever credited.

    `histogram` counts them in `BINS` equal bins of [-1, 1]; those beyond are in the end bins.
    `low` and `high` hold the mean with 95 % by the normal approximation, which takes the cases for
    independent; both are None below two cases.
    """

    credited: int
    histogram: tuple[int, ...]
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Stats:
    """A store at event `seq`.

    Attributes:
        seq: the last event.
        states: cases by state; the next three count active ones only.
        kinds: by kind.
        outcomes: by outcome.
        namespaces: by namespace.
        retrievable: active cases and insights, which alone can be found by likeness.
        never_shown: those of them that no read ever showed.
        utility: what was credited.
        reads: logged reads with memory on.
        answered: those of them that showed something.
        blocked: withheld candidates by the rule of the guard that came first.
        growth: new cases by day (UTC, YYYY-MM-DD), be they still there or not.
        views: vectors, and what is pending, of each space and view.
        effect: reward with memory minus without, over items; None below two items with both.
        bytes: size on the disk of the database and of the indexes.
    """

    seq: int
    states: Mapping[str, int]
    kinds: Mapping[str, int]
    outcomes: Mapping[str, int]
    namespaces: Mapping[str, int]
    retrievable: int
    never_shown: int
    utility: UtilityStats
    reads: int
    answered: int
    blocked: Mapping[str, int]
    growth: Mapping[str, int]
    views: tuple[StoredView, ...]
    effect: Effect | None
    bytes: Mapping[str, int]

    @property
    def coverage(self) -> float | None:
        """Share of the retrievable cases that was ever shown; None if there is no case."""
        return None if not self.retrievable else 1 - self.never_shown / self.retrievable

    @property
    def hit_rate(self) -> float | None:
        """Share of the reads that showed something; None if there was no read."""
        return None if not self.reads else self.answered / self.reads


def read_stats(connection: sqlite3.Connection, folder: Path) -> Stats:
    """The statistics of the store in `folder`, in the caller's transaction."""

    def counted(column: str, where: str = "state = 'active'") -> dict[str, int]:
        query = f"SELECT {column}, COUNT(*) FROM cases WHERE {where} GROUP BY 1 ORDER BY 1"
        return dict(connection.execute(query))

    retrievable, shown = connection.execute(_SHOWN, (json.dumps(RETRIEVED),)).fetchone()
    reads, answered = connection.execute(_READS).fetchone()
    return Stats(
        seq=last_seq(connection),
        states=counted("state", "TRUE"),
        kinds=counted("kind"),
        outcomes=counted("outcome"),
        namespaces=counted("ns"),
        retrievable=retrievable,
        never_shown=retrievable - shown,
        utility=_utility(connection),
        reads=reads,
        answered=answered,
        blocked=dict(connection.execute(_BLOCKED)),
        growth=dict(connection.execute(_GROWTH)),
        views=tuple(stored_views(connection)),
        effect=_effect(connection),
        bytes={"database": _size(folder, f"{FILE_NAME}*"), "indexes": _size(folder, "index/**/*")},
    )


def _utility(connection: sqlite3.Connection) -> UtilityStats:
    histogram = [0] * BINS
    for number, count in connection.execute(_HISTOGRAM):
        histogram[number] = count
    n, total, squares = connection.execute(_MOMENTS).fetchone()
    if n < 2:
        return UtilityStats(n, tuple(histogram), total if n else None, None, None)
    mean = total / n
    variance = max(squares - n * mean * mean, 0.0) / (n - 1)
    half = 1.959964 * math.sqrt(variance / n)
    return UtilityStats(n, tuple(histogram), mean, mean - half, mean + half)


def _effect(connection: sqlite3.Connection) -> Effect | None:
    pairs = [([], []) if on is None else ([on], [off]) for on, off in connection.execute(_ON_OFF)]
    return on_off_effect(pairs) if sum(bool(on) for on, _ in pairs) > 1 else None


def _size(folder: Path, pattern: str) -> int:
    total = 0
    for file in folder.glob(pattern):
        with suppress(FileNotFoundError):  # another process may replace it meanwhile
            total += file.stat().st_size if file.is_file() else 0
    return total
