"""Cases as a table: nothing is lost on the way there and back."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.errors import InvalidCase, StoreError
from memory.files import exchange
from memory.files.parquet import (
    COLUMNS,
    export_parquet,
    import_parquet,
    read_parquet,
    to_lines,
    to_rows,
    write_parquet,
)
from memory.sqlite.codec import CONTENT_FIELDS
from memory.store import CaseStore
from memory.types import Case, CaseFilter, CaseIn, Parent

EVERYTHING = CaseFilter(states=("active", "archived", "deleted"))
INSTALLED = importlib.util.find_spec("pyarrow") is not None
needs_pyarrow = pytest.mark.skipif(not INSTALLED, reason="pyarrow is not installed")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CASES = st.builds(
    Case,
    id=st.integers(1, 9),
    uid=TEXT.filter(bool),
    question=TEXT,
    plan=TEXT.map(lambda text: text or "plan"),
    answer=st.none() | TEXT,
    reward=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    step=st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
    tags=st.lists(TEXT, max_size=2).map(tuple),
    pinned=st.booleans(),
    also_items=st.lists(TEXT, max_size=2).map(tuple),
    parents=st.lists(st.builds(Parent, st.integers(1, 9), TEXT), max_size=2).map(tuple),
)
BANKS = st.lists(CASES, max_size=5, unique_by=(lambda c: c.id, lambda c: c.uid))


def filled(folder: Path) -> CaseStore:
    store = CaseStore(folder)
    parent = store.add(CaseIn(question="p", uid="p", reward=0.1, tags=("é", "")), actor="test").id
    store.add(CaseIn(question="P", item_id="j"), actor="test")
    child = CaseIn(question="c\x00 😀", uid="c", step=2**63 - 1, parents=(Parent(parent),))
    store.archive([store.add(child, actor="test").id], actor="test")
    store.delete([store.add(CaseIn(plan="gone", uid="g"), actor="test").id], actor="test")
    return store


@settings(max_examples=50)
@given(BANKS)
def test_rows_are_the_lines_of_the_export(cases: list[Case]) -> None:
    lines = list(exchange.export_lines(cases))
    rows = to_rows(lines)
    assert [sorted(row) for row in rows] == [sorted(COLUMNS)] * len(cases)
    assert to_lines(rows) == lines


def test_every_field_of_a_case_has_a_column() -> None:
    line = next(line for line in exchange.export_lines([Case(id=1, uid="u")]) if "uid" in line)
    assert set(COLUMNS) == set(json.loads(line)) >= set(CONTENT_FIELDS)
    assert len(set(COLUMNS)) == len(COLUMNS)


@pytest.mark.parametrize(
    "wrong", [{"reward": float("nan")}, {"parents": None}, {"parents": [{}]}, {"tags": b"bytes"}]
)
def test_a_row_that_json_cannot_hold_is_refused(wrong: dict[str, Any]) -> None:
    (row,) = to_rows(exchange.export_lines([Case(id=1, uid="u")]))
    with pytest.raises(InvalidCase, match="Row 2 is no case"):
        to_lines([row, row | wrong])


@pytest.mark.skipif(INSTALLED, reason="pyarrow is installed")
def test_without_pyarrow_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with filled(tmp_path / "store") as store:
        for use in (
            lambda: export_parquet(store, tmp_path / "x"),
            lambda: import_parquet(store, tmp_path / "x", actor="test"),
        ):
            with pytest.raises(StoreError, match=r"pip install 'tfgrpo\[parquet\]'"):
                use()
    assert (tmp_path / "x").read_bytes() == b""


@needs_pyarrow
def test_export_import_export_gives_the_same_bytes(tmp_path: Path) -> None:
    with filled(tmp_path / "one") as one:
        assert export_parquet(one, tmp_path / "1.parquet") == 3
        one.export(tmp_path / "1.jsonl")
    with CaseStore(tmp_path / "two") as two:
        assert import_parquet(two, tmp_path / "1.parquet", actor="test").created == 3
        assert import_parquet(two, tmp_path / "1.parquet", actor="test").same == 3
        export_parquet(two, tmp_path / "2.parquet")
        two.export(tmp_path / "2.jsonl")
        assert two.verify() == []
    for name in ("parquet", "jsonl"):
        first, second = (tmp_path / f"{number}.{name}" for number in (1, 2))
        assert first.read_bytes() == second.read_bytes()


@needs_pyarrow
@given(BANKS)
def test_a_table_holds_what_the_lines_hold(
    tmp_path_factory: pytest.TempPathFactory, cases: list[Case]
) -> None:
    file = tmp_path_factory.mktemp("table") / "x.parquet"
    write_parquet(file, cases)
    assert read_parquet(file) == list(exchange.export_lines(cases))
    before = file.read_bytes()
    write_parquet(file, reversed(cases))
    assert file.read_bytes() == before


@needs_pyarrow
def test_other_files_are_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "text").write_text("no table", "utf-8")
    for name in ("text", "none"):
        with pytest.raises(StoreError, match="check the file's name"):
            read_parquet(tmp_path / name)
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "other")
    with pytest.raises(InvalidCase, match="export it again"):
        read_parquet(tmp_path / "other")
    with pytest.raises(StoreError, match="cannot be written"):
        write_parquet(tmp_path / "no" / "folder", [])
