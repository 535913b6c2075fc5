"""Banks of other programs as cases of ours: read, told where they cannot be read, brought in once.

    tfgrpo             an export of this program
    memento            {"question", "plan", "reward"} per line (Memento, arXiv 2508.16153)
    memento-labels     {"case", "plan", "case_label"} per line; `case` holds the question
    memento-pairs      the same with {"query", "truth_label"}: its trainer's pairs, cases repeated
    mem0               {"id", "memory", ...}, as a list or in {"results": [...]}
    experiences        {"G0": "text", ...} or a list of texts (Training-Free GRPO, arXiv 2510.08191)

A format is told by what a file holds, not by its name. Objects may stand one per line or in one
JSON array.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from memory.errors import InvalidCase, StoreError
from memory.files import exchange
from memory.files.foreign_formats import KEYS, READ, ForeignFormat
from memory.sqlite.codec import CONTENT_FIELDS, check_content, content_key, content_of
from memory.types import Case, CaseIn, ImportReport

if TYPE_CHECKING:
    from memory.store import CaseStore

Format = ForeignFormat | Literal["tfgrpo"]

_NUMBERED = re.compile(r"[A-Za-z_-]*\d+")
_NO_OBJECT = "It is no JSON object; correct or remove it."


@dataclass(frozen=True, slots=True)
class Unread:
    """What could not be read: line `line` of the file, or that entry of its one JSON value."""

    file: str
    line: int
    why: str


@dataclass(frozen=True, slots=True)
class ForeignBank:
    """What a file holds. `repeated` entries say what an earlier one says, and are left out."""

    format: Format
    cases: tuple[CaseIn, ...]
    unread: tuple[Unread, ...] = ()
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    line: int
    value: Any = None
    why: str | None = None


def detect(path: Path) -> Format:
    """The format of a file. Raises InvalidCase if it is none of those above."""
    return _format_of(path, _entries(path))


def read_bank(path: Path, *, ns: str = "default") -> ForeignBank:
    """All cases of a file, each with a uid that follows from `ns` and from what it says.

    The cases of an export keep their namespaces and uids, and one that was merged comes once per
    item. Their lineage and states are left behind; `import_bank` keeps them.

    Raises:
        StoreError: if the file cannot be read.
        InvalidCase: if it is of no format known here, or none of its entries can be read.
    """
    entries = _entries(path)
    found = _format_of(path, entries)
    if found == "tfgrpo":
        return ForeignBank(found, tuple(_exported(path)))
    cases: dict[str | None, CaseIn] = {}
    unread: list[Unread] = []
    for entry in entries:
        try:
            if entry.why is not None:
                raise InvalidCase(entry.why)
            case = _named(replace(READ[found](entry.value), ns=ns))
        except InvalidCase as error:
            unread.append(Unread(str(path), entry.line, str(error)))
            continue
        cases.setdefault(case.uid, case)
    if not cases:
        first = f"line {unread[0].line}: {unread[0].why}"
        raise InvalidCase(f"{path} holds nothing sound of the format {found}; {first}")
    repeated = len(entries) - len(unread) - len(cases)
    return ForeignBank(found, tuple(cases.values()), tuple(unread), repeated)


def import_bank(
    store: CaseStore, path: Path, *, actor: str, ns: str = "default"
) -> tuple[ImportReport, ForeignBank]:
    """Bring a file's cases into a store; doing it again changes nothing.

    A case that was changed or deleted here since then stays as it is. Raises as `read_bank` does.
    """
    bank = read_bank(path, ns=ns)
    if bank.format == "tfgrpo":
        return store.import_(path, actor=actor), bank
    return store.import_lines(export_lines(bank.cases), source=path.name, actor=actor), bank


def export_lines(cases: Sequence[CaseIn]) -> list[str]:
    """Cases with uids and without parents as the lines of an export, see `exchange`."""
    stored = (
        Case(id=number, uid=str(case.uid), **content_of(case))
        for number, case in enumerate(cases, start=1)
    )
    return list(exchange.export_lines(stored))


def _named(case: CaseIn) -> CaseIn:
    """The case, checked, with the uid that follows from what it says."""
    content = content_of(case)
    check_content(content)
    return CaseIn(**content, uid=content_key(case)[:32])


def _exported(path: Path) -> Iterator[CaseIn]:
    for item in exchange.parse_lines(exchange.read_lines(path)):
        content = {name: item[name] for name in CONTENT_FIELDS} | {"parents": ()}
        case = CaseIn(**content, uid=item["uid"])
        yield case
        yield from (replace(case, item_id=i, uid=None) for i in item["also_items"])


def _format_of(path: Path, entries: Sequence[_Entry]) -> Format:
    values = [entry.value for entry in entries if entry.why is None]
    objects = [value for value in values if isinstance(value, dict)]
    if objects and objects[0].get("format") == exchange.HEADER["format"]:
        return "tfgrpo"
    for value in objects:
        for name, keys in KEYS:
            if keys <= value.keys():
                return name
    if any(isinstance(value, str) for value in values):
        return "experiences"
    raise InvalidCase(
        f"{path} holds no bank of a format known here; give an export of cases, a Memento memory, "
        "a mem0 export, or a file of experiences."
    )


def _entries(path: Path) -> list[_Entry]:
    """What stands in the file: the entries of one JSON value, or an object on each line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read ({error}); check the file's name.") from error
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        lines = enumerate(text.split("\n"), start=1)
        return [_line(number, line) for number, line in lines if line.strip()]
    return [_Entry(number, value) for number, value in enumerate(_values(whole), start=1)]


def _values(whole: Any) -> Sequence[Any]:
    if isinstance(whole, dict) and isinstance(whole.get("results"), list):
        whole = whole["results"]
    if isinstance(whole, list):
        return whole
    if isinstance(whole, dict) and whole and all(map(_NUMBERED.fullmatch, whole)):
        return list(whole.values())
    return [whole] if isinstance(whole, dict) else []


def _line(number: int, line: str) -> _Entry:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return _Entry(number, why="It is no JSON; correct or remove it.")
    return _Entry(number, value, None if isinstance(value, dict) else _NO_OBJECT)
