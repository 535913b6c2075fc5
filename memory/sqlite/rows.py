"""The table of cases: one row per case, as the history last left it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from memory.errors import CaseNotFound, DuplicateCase, InvalidCase
from memory.sqlite.codec import content_key, parents_of
from memory.types import Case, CaseFilter, Content, Parent

_LISTS = ("tags", "also_items")
_PLAIN = tuple(f.name for f in fields(Case) if f.name not in ("parents", "pinned", *_LISTS))
_COLUMNS = (*_PLAIN, *_LISTS, "pinned")
_STORED = (*_COLUMNS, "content_key", "sha")
_EQUAL = ("kind", "outcome", "dataset", "split", "run_id", "pinned")
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
    SELECT 1 FROM up WHERE id = :sought"""


def new_id(connection: sqlite3.Connection) -> int:
    """An id that no case ever had."""
    return int(connection.execute("INSERT INTO ids DEFAULT VALUES").lastrowid or 0)


def write_case(connection: sqlite3.Connection, case: Case, sha: str) -> None:
    """Make the row and the lineage of a case say what `case` says."""
    values: list[Any] = [getattr(case, name) for name in _PLAIN]
    values += [json.dumps(getattr(case, name), ensure_ascii=False) for name in _LISTS]
    values.append(int(case.pinned))
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
    where = ["id > ?"]
    values: list[Any] = [after]
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
    if wanted.item_id is not None:
        where.append(
            "(item_id = ? OR EXISTS (SELECT 1 FROM json_each(also_items) WHERE value = ?))"
        )
        values += [wanted.item_id, wanted.item_id]
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
        and wanted.item_id in (None, case.item_id, *case.also_items)
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


def descends(connection: sqlite3.Connection, case_id: int, ancestor: int) -> bool:
    """Whether `ancestor` is this case or one that it was made from, at any distance."""
    return case_id == ancestor or bool(
        connection.execute(_ANCESTORS, {"child": case_id, "sought": ancestor}).fetchone()
    )


def with_origins(
    connection: sqlite3.Connection, case: Case, items: set[str | None], parents: Iterable[Parent]
) -> dict[str, Any]:
    """The origins of a case and of its copy, since a guard against leaks must see both.

    A parent that was itself made from the case is left out.
    """
    new = {p for p in parents if not descends(connection, p.id, case.id)}
    found = {*case.also_items, *items} - {None, case.item_id}
    return {
        "also_items": tuple(sorted(item for item in found if item is not None)),
        "parents": tuple(sorted({*case.parents, *new})),
    }


def check_lineage(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Raise InvalidCase if one of these cases has become its own ancestor."""
    for number in ids:
        if connection.execute(_ANCESTORS, {"child": number, "sought": number}).fetchone():
            raise InvalidCase(
                f"Case {number} would be its own ancestor; leave out one of its parents."
            )


def _case(row: Sequence[Any]) -> Case:
    data = dict(zip(_COLUMNS, row, strict=False))
    for name in _LISTS:
        data[name] = tuple(_list(data[name]))
    data["pinned"] = bool(data["pinned"])
    return Case(**data, parents=parents_of(_list(row[-1])))


def _list(text: str) -> list[Any]:
    # Most lists are empty, and a bank may have a hundred thousand cases.
    return [] if text == "[]" else list(json.loads(text))
