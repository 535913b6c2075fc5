"""What all cases say, as lines of JSON: for reading, for version control, for other stores.

The first line names the format. Each other line is one case with its state, by uid; parents are
named by uid too. Equal contents give equal bytes. Times, versions, history, vectors, reads and
utilities stay behind: `backup` copies those.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from memory.errors import DuplicateCase, InvalidCase, StoreError
from memory.sqlite.changes import create_case
from memory.sqlite.codec import (
    CONTENT_FIELDS,
    canonical_json,
    changed_fields,
    check_content,
    check_state,
    check_text,
    content_of,
)
from memory.sqlite.history import Stamp, record
from memory.sqlite.rows import check_lineage, copies_of, read_case, refuse_copy, with_origins
from memory.types import Case, CaseIn, ImportReport, OnConflict, Parent

HEADER = {"format": "tfgrpo-memory", "version": 1}
_STATUS = ("state", "pinned", "seen_count", "also_items")
_KEYS = {*CONTENT_FIELDS, *_STATUS, "uid"}
_SAID = tuple(sorted(_KEYS - {"uid", "parents"}))


def export_lines(cases: Iterable[Case]) -> Iterator[str]:
    """The file, line by line. A parent that is not among `cases` is left out."""
    found = sorted(cases, key=lambda case: case.uid)
    uids = {case.id: case.uid for case in found}
    yield canonical_json(HEADER)
    for case in found:
        data = {name: getattr(case, name) for name in _KEYS}
        data["parents"] = sorted([uids[p.id], p.relation] for p in case.parents if p.id in uids)
        yield canonical_json(data)


def import_lines(
    connection: sqlite3.Connection, stamp: Stamp, lines: Iterable[str], on_conflict: OnConflict
) -> ImportReport:
    """Add what is missing. Importing the same lines twice changes nothing the second time.

    A case whose uid is unknown but which says what a case here says is taken to be that case,
    and leaves its origins there.
    """
    items = parse_lines(lines)
    known = {item["uid"]: found for item in items if (found := _with_uid(connection, item))}
    ids, differing = dict(known), set[str]()
    for item in items:
        if item["uid"] in known:
            wanted = {name: item[name] for name in _SAID}
            if _put(connection, stamp, known[item["uid"]], wanted, on_conflict):
                differing.add(item["uid"])
    fresh = 0
    for item in (item for item in items if item["uid"] not in known):
        copy = _living_copy(connection, item)
        ids[item["uid"]] = copy or _created(connection, stamp, item)
        fresh += copy is None
    for item in items:
        case = read_case(connection, ids[item["uid"]])
        parents = tuple(sorted(Parent(ids[uid], relation) for uid, relation in item["parents"]))
        mode, wanted = on_conflict, {"parents": parents}
        if item["uid"] not in known:
            mode = "overwrite"
        if case.uid != item["uid"]:
            seen = {item["item_id"], *item["also_items"]}
            wanted = with_origins(connection, case, seen, parents)
        if _put(connection, stamp, case.id, wanted, mode):
            differing |= {item["uid"]} & known.keys()
    check_lineage(connection, ids.values())
    return ImportReport(fresh, len(items) - fresh - len(differing), tuple(sorted(differing)))


def _with_uid(connection: sqlite3.Connection, item: dict[str, Any]) -> int | None:
    row = connection.execute("SELECT id FROM cases WHERE uid = ?", (item["uid"],)).fetchone()
    return None if row is None else int(row[0])


def _living_copy(connection: sqlite3.Connection, item: dict[str, Any]) -> int | None:
    if item["state"] == "deleted":
        return None
    content = CaseIn(**{name: item[name] for name in CONTENT_FIELDS} | {"parents": ()})
    return next((n for n, state in copies_of(connection, content) if state != "deleted"), None)


def _created(connection: sqlite3.Connection, stamp: Stamp, item: dict[str, Any]) -> int:
    data = {name: item[name] for name in CONTENT_FIELDS} | {"parents": ()}
    status = {name: item[name] for name in _STATUS}
    return create_case(connection, stamp, "import", data, item["uid"], **status)


def _put(
    connection: sqlite3.Connection,
    stamp: Stamp,
    case_id: int,
    wanted: dict[str, Any],
    on_conflict: OnConflict,
) -> bool:
    """Whether a case differs from what is wanted; makes it so if that is the mode."""
    before = read_case(connection, case_id)
    after = replace(before, **wanted)
    if not changed_fields(before, after):
        return False
    if on_conflict == "refuse":
        raise DuplicateCase(
            f"Case {case_id} ({before.uid}) says something else here; "
            "import with on_conflict skip or overwrite."
        )
    if on_conflict == "overwrite":
        refuse_copy(connection, after)
        record(connection, stamp, "import", before, after)
    return True


def write_file(path: Path, text: str) -> None:
    """Replace a file by UTF-8 text, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written ({error.strerror}); mend that.") from error


def read_lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode().removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read ({error}); check the file's name.") from error


def parse_lines(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The cases of a file, checked. Raises InvalidCase and names the line."""
    items = []
    for number, line in enumerate(lines, start=1):
        try:
            data = json.loads(line)
        except ValueError:
            raise InvalidCase(f"Line {number} is no JSON; export the file again.") from None
        if number == 1:
            if data != HEADER:
                raise InvalidCase("The first line names no format known here; export it again.")
            continue
        try:
            items.append(_checked(data))
        except (InvalidCase, TypeError, ValueError, AttributeError) as error:
            raise InvalidCase(f"Line {number} is no case ({error}) Correct that line.") from error
    uids = {item["uid"] for item in items}
    for item in items:
        if any(uid not in uids for uid, _ in item["parents"]):
            raise InvalidCase(f"Case {item['uid']} has a parent that is not in the file; add it.")
    if len(uids) < len(items):
        raise InvalidCase("The file names a uid twice; remove one of the two lines.")
    return items


def _checked(data: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(data, dict) or set(data) != _KEYS:
        raise InvalidCase(f"It has other fields than {', '.join(sorted(_KEYS))}.")
    parents = [(str(uid), str(relation)) for uid, relation in data["parents"]]
    content = {name: data[name] for name in CONTENT_FIELDS}
    content = content_of(CaseIn(**content | {"tags": tuple(data["tags"]), "parents": ()}))
    check_content(content)
    if not isinstance(data["uid"], str) or not data["uid"]:
        raise InvalidCase("Its uid is no text.")
    if type(data["pinned"]) is not bool or type(data["seen_count"]) is not int:
        raise InvalidCase("Its pinned is no truth value, or its seen_count no whole number.")
    data["also_items"] = tuple(data["also_items"])
    for item_id in data["also_items"]:
        check_text("An item of also_items", item_id)
    check_state(Case(id=0, uid=data["uid"], state=data["state"]))
    return content | {name: data[name] for name in (*_STATUS, "uid")} | {"parents": parents}
