"""The operations that change cases, each one inside its caller's transaction."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from memory.errors import DuplicateCase, InvalidCase, StoreError, VersionConflict
from memory.sqlite.codec import (
    CONTENT_FIELDS,
    changed_fields,
    check_content,
    check_text,
    content_of,
)
from memory.sqlite.history import Stamp, append_event, last_seq, record, replay
from memory.sqlite.rows import (
    all_cases,
    check_lineage,
    copies_of,
    new_id,
    read_case,
    refuse_copy,
    with_origins,
)
from memory.types import AddResult, Case, CaseIn, CaseState, Change, ChangeSet, Parent

_REDACT = "UPDATE history SET before_json = NULL, after_json = NULL, reason = '' WHERE case_id = ?"


def add_case(connection: sqlite3.Connection, stamp: Stamp, given: CaseIn) -> AddResult:
    """Add a case, or count its living copy once more. A deleted copy stays deleted."""
    data = content_of(given)
    check_content(data)
    for number, state in copies_of(connection, CaseIn(**data)):
        if state == "deleted":
            return AddResult(number, "rejected")
        before = read_case(connection, number)
        record(connection, stamp, "merge", before, _merged(connection, before, data))
        return AddResult(number, "merged")
    return AddResult(create_case(connection, stamp, "add", data, given.uid), "created")


def _merged(connection: sqlite3.Connection, case: Case, copy: Mapping[str, Any]) -> Case:
    for parent in copy["parents"]:
        read_case(connection, parent.id)
    origins = with_origins(connection, case, {copy["item_id"]}, copy["parents"])
    return replace(case, seen_count=case.seen_count + 1, **origins)


def create_case(
    connection: sqlite3.Connection,
    stamp: Stamp,
    op: str,
    data: Mapping[str, Any],
    uid: str | None,
    **more: Any,
) -> int:
    """A new case with checked content; returns its id."""
    if uid is not None:
        check_text("The uid", uid)
        if not uid or connection.execute("SELECT 1 FROM cases WHERE uid = ?", (uid,)).fetchone():
            raise DuplicateCase(f"The uid {uid!r} is empty or taken; give another one, or none.")
    for parent in data["parents"]:
        read_case(connection, parent.id)
    number = new_id(connection)
    case = Case(id=number, uid=uid or uuid.uuid4().hex, **data, **more)
    record(connection, stamp, op, None, case)
    return number


def update_case(
    connection: sqlite3.Connection,
    stamp: Stamp,
    case_id: int,
    changes: Mapping[str, Any],
    expected_version: int,
) -> Case:
    """Set content fields. Raises VersionConflict if the case is no longer at that version."""
    unknown = set(changes) - set(CONTENT_FIELDS)
    if unknown:
        raise InvalidCase(
            f"A case has no field {', '.join(sorted(unknown))}; "
            f"use these: {', '.join(CONTENT_FIELDS)}."
        )
    before = read_case(connection, case_id)
    if before.version != expected_version:
        raise VersionConflict(
            f"Case {case_id} is at version {before.version}, not {expected_version}; "
            "read it again and repeat the change."
        )
    return _put_content(connection, stamp, "update", before, replace(before, **changes))


def link_case(
    connection: sqlite3.Connection, stamp: Stamp, child: int, parent: Parent
) -> ChangeSet:
    before = read_case(connection, child)
    after = replace(before, parents=(*before.parents, parent))
    made = _put_content(connection, stamp, "link", before, after)
    return _change_set(connection, [(before, made)], "link")


def _put_content(
    connection: sqlite3.Connection, stamp: Stamp, op: str, before: Case, after: Case
) -> Case:
    data = content_of(after)
    check_content(data)
    after = replace(before, **data)
    if not changed_fields(before, after):
        return before
    refuse_copy(connection, after)
    for parent in set(after.parents) - set(before.parents):
        read_case(connection, parent.id)
    made = record(connection, stamp, op, before, after)
    check_lineage(connection, [after.id])
    return made


def set_state(
    connection: sqlite3.Connection, stamp: Stamp, op: str, ids: Iterable[int], state: CaseState
) -> ChangeSet:
    """Archive, delete or restore; a case that is so already is left alone."""
    done = []
    for number in dict.fromkeys(ids):
        before = read_case(connection, number)
        _refuse_pinned(before, state)
        after = replace(before, state=state)
        if before.state != state:
            refuse_copy(connection, after)
            done.append((before, record(connection, stamp, op, before, after)))
    return _change_set(connection, done, op)


def set_pinned(
    connection: sqlite3.Connection, stamp: Stamp, ids: Iterable[int], pinned: bool
) -> ChangeSet:
    done = []
    op = "pin" if pinned else "unpin"
    for number in dict.fromkeys(ids):
        before = read_case(connection, number)
        if before.pinned != pinned:
            after = replace(before, pinned=pinned)
            done.append((before, record(connection, stamp, op, before, after)))
    return _change_set(connection, done, op)


def purge_cases(connection: sqlite3.Connection, stamp: Stamp, ids: Iterable[int]) -> ChangeSet:
    """Erase cases for ever. Left are their ids, the hashes of their versions, and numbers."""
    changes = []
    for number in dict.fromkeys(ids):
        case = read_case(connection, number)
        _refuse_pinned(case, "deleted")
        connection.execute(_REDACT, (number,))
        connection.execute("DELETE FROM cases WHERE id = ?", (number,))
        append_event(connection, stamp, "purge", number)
        changes.append(Change(number, "purge", changed_fields(case, None)))
    if changes:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('erase', 'due')")
    return ChangeSet(tuple(changes), last_seq(connection))


def revert_to(connection: sqlite3.Connection, stamp: Stamp, seq: int, dry_run: bool) -> ChangeSet:
    """Make all cases say again what they said after event `seq`, by new events.

    A case that is younger than `seq` is deleted, not erased. Purged cases and credits do not come
    back.
    """
    target = replay(connection, seq).cases
    done = []
    for before in all_cases(connection):
        after = target.get(before.id, replace(before, state="deleted", pinned=False))
        if changed_fields(before, after):
            done.append((before, after))
    changes = _change_set(connection, done, "revert")
    if dry_run:
        return replace(changes, dry_run=True)
    # Two cases may swap their contents: none of the changed ones may count as living meanwhile.
    connection.executemany(
        "UPDATE cases SET state = 'deleted' WHERE id = ?", [(case.id,) for case, _ in done]
    )
    for before, after in done:
        record(connection, stamp, "revert", before, after)
    check_lineage(connection, [case.id for case, _ in done])
    return replace(changes, seq=last_seq(connection))


def _refuse_pinned(case: Case, state: CaseState) -> None:
    if case.pinned and state != "active":
        raise StoreError(f"Case {case.id} is pinned; unpin it first.")


def _change_set(
    connection: sqlite3.Connection, done: Iterable[tuple[Case, Case]], op: str
) -> ChangeSet:
    changes = (Change(b.id, op, changed_fields(b, a)) for b, a in done)
    return ChangeSet(tuple(c for c in changes if c.fields), last_seq(connection))
