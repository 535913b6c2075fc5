"""The table of cases: one row per case, as the history last left it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from memory.codec import content_key, parents_of
from memory.errors import CaseNotFound, DuplicateCase, InvalidCase
from memory.types import Case, CaseFilter, Content

_PLAIN = tuple(f.name for f in fields(Case) if f.name not in ("parents", "tags", "pinned"))
_COLUMNS = (*_PLAIN, "tags", "pinned")
_STORED = (*_COLUMNS, "content_key", "sha")
_EQUAL = ("kind", "outcome", "item_id", "dataset", "split", "run_id", "pinned")
_PARENTS = """(SELECT json_group_array(json_array(parent, relation)) FROM lineage
    WHERE child = cases.id)"""
_SELECT = f"SELECT {', '.join(_COLUMNS)}, {_PARENTS} FROM cases"
_UPSERT = (
    f"INSERT INTO cases ({', '.join(_STORED)}) VALUES ({', '.join('?' * len(_STORED))}) "
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in _STORED)}"
)
_ANCESTORS = """WITH RECURSIVE up (id) AS (
        SELECT parent FROM lineage WHERE child = :child
        UNION SELECT parent FROM lineage JOIN up ON child = up.id)
    SELECT 1 FROM up WHERE id = :child"""


def new_id(connection: sqlite3.Connection) -> int:
    """An id that no case ever had."""
    return int(connection.execute("INSERT INTO ids DEFAULT VALUES").lastrowid or 0)


def write_case(connection: sqlite3.Connection, case: Case, sha: str) -> None:
    """Make the row and the lineage of a case say what `case` says."""
    values: list[Any] = [getattr(case, name) for name in _PLAIN]
    values += [json.dumps(case.tags, ensure_ascii=False), int(case.pinned)]
    connection.execute(_UPSERT, (*values, content_key(case), sha))
    connection.execute("DELETE FROM lineage WHERE child = ?", (case.id,))
    connection.executemany(
        "INSERT INTO lineage VALUES (?, ?, ?)",
        [(case.id, parent.id, parent.relation) for parent in case.parents],
    )


def read_case(connection: sqlite3.Connection, case_id: int) -> Case:
    """Raises CaseNotFound if there is none, or none any more."""
    row = connection.execute(f"{_SELECT} WHERE id = ?", (case_id,)).fetchone()
    if row is None:
        raise CaseNotFound(f"There is no case {case_id}; list the cases to see which there are.")
    return _case(row)


def read_cases(
    connection: sqlite3.Connection, wanted: CaseFilter, after: int, limit: int | None
) -> list[Case]:
    """Cases with an id above `after` that match, by id; at most `limit`."""
    where, values = ["id > ?"], [after]
    if wanted.ns is not None:
        where.append("(ns = ? OR substr(ns, 1, ?) = ?)")
        below = wanted.ns + "/"
        values += [wanted.ns, len(below), below]
    where.append(f"state IN ({', '.join('?' * len(wanted.states))})")
    values += wanted.states
    for name in _EQUAL:
        if getattr(wanted, name) is not None:
            where.append(f"{name} = ?")
            values.append(getattr(wanted, name))
    if wanted.tag is not None:
        where.append("EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)")
        values.append(wanted.tag)
    values.append(-1 if limit is None else limit)
    query = f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY id LIMIT ?"
    return [_case(row) for row in connection.execute(query, values)]


def matches(case: Case, wanted: CaseFilter) -> bool:
    """The same question as `read_cases`, of a case in hand."""
    return (
        case.state in wanted.states
        and (wanted.ns is None or f"{case.ns}/".startswith(f"{wanted.ns}/"))
        and (wanted.tag is None or wanted.tag in case.tags)
        and all(getattr(wanted, n) in (None, getattr(case, n)) for n in _EQUAL)
    )


def all_cases(connection: sqlite3.Connection) -> list[Case]:
    return [_case(row) for row in connection.execute(f"{_SELECT} ORDER BY id")]


def copies_of(connection: sqlite3.Connection, content: Content) -> list[tuple[int, str]]:
    """Ids and states of the cases that say exactly this; a living one first."""
    rows = connection.execute(
        "SELECT id, state FROM cases WHERE content_key = ? ORDER BY state = 'deleted', id",
        (content_key(content),),
    )
    return [(int(number), str(state)) for number, state in rows]


def refuse_copy(connection: sqlite3.Connection, case: Case) -> None:
    """Raise DuplicateCase if another living case says what `case` says."""
    for number, state in copies_of(connection, case):
        if number != case.id and state != "deleted" and case.state != "deleted":
            raise DuplicateCase(
                f"Case {number} says exactly what case {case.id} would; delete one of them first."
            )


def check_lineage(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Raise InvalidCase if one of these cases has become its own ancestor."""
    for number in ids:
        if connection.execute(_ANCESTORS, {"child": number}).fetchone():
            raise InvalidCase(
                f"Case {number} would be its own ancestor; leave out one of its parents."
            )


def _case(row: Sequence[Any]) -> Case:
    data = dict(zip(_COLUMNS, row, strict=False))
    data["tags"] = tuple(json.loads(data["tags"]))
    data["pinned"] = bool(data["pinned"])
    return Case(**data, parents=parents_of(json.loads(row[-1])))
