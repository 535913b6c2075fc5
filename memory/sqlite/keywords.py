"""Search by words: which cases hold the words of a text, and how telling those words are.

An index of words and their places lies in the store's own file and is kept in step by triggers, so
that it can neither lag behind the cases nor outlive them. Words are runs of letters and digits,
compared without case and accents; scripts that write no spaces are found by whole runs only.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from typing import Any

from memory.errors import InvalidCase
from memory.sqlite.rows import matches, read_case
from memory.types import Case, CaseFilter

MOST_WORDS = 1000
"""Words of a query that are looked for; the time that a search takes grows with them."""

_SCRATCH = """CREATE VIRTUAL TABLE keywords USING fts5 (question, plan, answer, reason, tags,
    content = '', tokenize = 'unicode61 remove_diacritics 2')"""
_SCRATCH_PLACES = "CREATE VIRTUAL TABLE keyword_places USING fts5vocab ('keywords', 'instance')"
_LEARN = """INSERT INTO keywords (rowid, question, plan, answer, reason, tags)
    VALUES (?, ?, ?, ?, ?, ?)"""
_TEXTS = "SELECT id, question, plan, answer, reason, tags FROM cases"
_PLACES = """SELECT term, group_concat(doc || ' ' || col || ' ' || offset) FROM keyword_places
    GROUP BY term"""
_RANKED = """SELECT rowid, -bm25(keywords) AS score FROM keywords WHERE keywords MATCH ?
    ORDER BY score DESC, rowid"""


def search(
    connection: sqlite3.Connection, text: str, wanted: CaseFilter, limit: int
) -> list[tuple[Case, float]]:
    """The cases that hold some word of `text`, best first, equal ones by id; at most `limit`.

    What stands between two spaces of `text` is looked for as it stands: "3+4" finds "3 + 4" and
    not "4 + 3". The score is BM25 (k1 = 1.2, b = 0.75, all fields as one text; Robertson and
    Zaragoza, 2009), of which more is better. It counts words in all cases of the store, whether
    they match `wanted` or not.

    Raises:
        InvalidCase: if `limit` is negative.
    """
    found = ((read_case(connection, number), score) for number, score in _ranked(connection, text))
    return _first(found, wanted, limit)


def search_cases(
    cases: Iterable[Case], text: str, wanted: CaseFilter, limit: int
) -> list[tuple[Case, float]]:
    """The same search in cases that lie in no file, such as those of a past state."""
    known = {case.id: case for case in cases}
    with closing(_scratch(map(_texts, known.values()))) as scratch:
        found = ((known[number], score) for number, score in _ranked(scratch, text))
        return _first(found, wanted, limit)


def rebuild(connection: sqlite3.Connection) -> None:
    """Make the index anew from the cases, so that no word of a purged case is left in it.

    Taking a case out of the index only notes that its words no longer count.
    """
    connection.execute("INSERT INTO keywords (keywords) VALUES ('rebuild')")


def out_of_step(connection: sqlite3.Connection) -> list[int]:
    """Ids of which the index says something else than the cases do, be they gone or not.

    Raises:
        sqlite3.DatabaseError: if the index cannot be read at all.
    """
    with closing(_scratch(connection.execute(_TEXTS))) as scratch:
        fresh = dict(scratch.execute(_PLACES))
    kept = dict(connection.execute(_PLACES))
    differing = set[str]()
    for word in kept.keys() | fresh.keys():
        if kept.get(word) != fresh.get(word):
            differing |= set(kept.get(word, "").split(",")) ^ set(fresh.get(word, "").split(","))
    return sorted({int(place.split()[0]) for place in differing if place})


def _texts(case: Case) -> tuple[Any, ...]:
    """The row of `_TEXTS`, where tags are JSON."""
    tags = json.dumps(case.tags, ensure_ascii=False)
    return case.id, case.question, case.plan, case.answer, case.reason, tags


def _ranked(connection: sqlite3.Connection, text: str) -> list[tuple[int, float]]:
    query = _query(text)
    return connection.execute(_RANKED, (query,)).fetchall() if query else []


def _query(text: str) -> str:
    """Any of the words: each one quoted, so that nothing in `text` is read as an operator."""
    clean = text.encode(errors="replace").decode().replace("\0", " ")
    words = list(dict.fromkeys(clean.split()))[:MOST_WORDS]
    return " OR ".join('"' + word.replace('"', '""') + '"' for word in words)


def _first(
    found: Iterable[tuple[Case, float]], wanted: CaseFilter, limit: int
) -> list[tuple[Case, float]]:
    if limit < 0:
        raise InvalidCase(f"No search finds {limit} cases; give a limit of 0 or more.")
    return list(islice((hit for hit in found if matches(hit[0], wanted)), limit))


def _scratch(texts: Iterable[tuple[Any, ...]]) -> sqlite3.Connection:
    """An index in memory that takes texts apart as the one in the file does."""
    scratch = sqlite3.connect(":memory:", isolation_level=None)
    scratch.execute(_SCRATCH)
    scratch.execute(_SCRATCH_PLACES)
    scratch.execute("BEGIN")
    scratch.executemany(_LEARN, texts)
    scratch.execute("COMMIT")
    return scratch
