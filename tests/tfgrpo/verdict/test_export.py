"""Samples written for other programs: read back they are what they were."""

from __future__ import annotations

import csv
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tfgrpo.verdict.sources.samples import INSTALLED, needs_pyarrow
from tfgrpo.errors import ConfigError, RunError
from tfgrpo.types import TaskOutcome
from tfgrpo.verdict.arms import Evaluation
from tfgrpo.verdict.export import (
    COLUMNS,
    TEXTS,
    Exported,
    Texts,
    sample_rows,
    write_csv,
    write_parquet,
)
from tfgrpo.verdict.lm_eval_export import write_lm_eval
from tfgrpo.verdict.sources import read_evaluations

STAMP = "2025-01-01T10-00-00"
PROTOCOL = {
    "reward": "exact", "split": "test",
    "sampling": {"temperature": 1.0, "top_p": 0.9, "max_tokens": 64, "stop": ["#"]},
}  # fmt: skip
ANSWERS = st.none() | st.sampled_from(["3", "-3", "-3/4", "=1+1", "'x", "a\nb", "A"]) | st.text(
    st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=6
).filter(lambda text: text != "[invalid]")  # fmt: skip


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[TaskOutcome, ...]:
    made = []
    for name in draw(st.lists(st.sampled_from("pqrs"), min_size=1, max_size=3, unique=True)):
        n = draw(st.integers(0, 4))

        def column(values: st.SearchStrategy[Any], n: int = n) -> tuple[Any, ...]:
            return tuple(draw(values) for _ in range(n))

        made.append(
            TaskOutcome(
                name,
                draw(st.sampled_from(["sum", "jsonl:mine"])),
                column(st.booleans()),
                column(ANSWERS),
                column(st.none() | st.sampled_from(["long", "=m"])),
                column(st.none() | st.floats(0, 1e6)),
                column(st.integers(0, 10_000)),
                draw(st.integers(0, n)),
                draw(st.integers(0 if n else 1, 2)),
            )
        )
    return tuple(sorted(made, key=lambda o: (o.dataset, o.task_id)))


def exported(
    found: tuple[TaskOutcome, ...], name: str = "arm", seed: int | None = None, text: str = "So."
) -> Exported:
    texts = {o.task_id: Texts(f"{o.task_id}?", "1", (text,) * o.n) for o in found}
    return Exported(Evaluation(name, seed, found, PROTOCOL, source="here"), texts)


@settings(max_examples=20)
@given(outcomes(), outcomes(), st.booleans())
def test_every_format_is_read_back_as_it_was(
    first: tuple[TaskOutcome, ...], second: tuple[TaskOutcome, ...], told: bool
) -> None:
    both = [exported(first, "grpo", 0), exported(second, "grpo", 1), exported(first, "base")]
    if not told:
        both = [replace(one, texts={}) for one in both]
    expected = {("grpo", 0): first, ("grpo", 1): second, ("base", None): first}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = sum(o.n + o.failures for one in both for o in one.evaluation.outcomes)
        assert write_csv(root / "x.csv", both) == rows
        places = [root / "x.csv"]
        if told:
            assert write_lm_eval(root / "lm", both, STAMP) == sum(map(len, expected.values()))
            places.append(root / "lm")
        if INSTALLED:
            assert write_parquet(root / "x.parquet", both) == rows
            places.append(root / "x.parquet")
        for place in places:
            read = read_evaluations(place)
            assert {(e.name, e.seed): e.outcomes for e in read} == expected
            if place.name == "lm":
                assert all(e.protocol == PROTOCOL for e in read)
        assert sorted(p.name for p in root.iterdir()) == sorted(p.name for p in places)


def test_csv_in_letters(tmp_path: Path) -> None:
    outcome = TaskOutcome(
        "p", "sum", (True, False), ("-2", None), ("m", None), (0.1, None), (7, 9), 1, 1
    )
    write_csv(tmp_path / "x.csv", [exported((outcome,), seed=3)])
    assert (tmp_path / "x.csv").read_text() == (
        "arm,seed,dataset,problem,sample,correct,answer,mode,entropy,tokens,problem_truncated,"
        "prompt,gold,text\n"
        "arm,3,sum,p,0,1,-2,m,0.1,7,1,p?,1,So.\n"
        "arm,3,sum,p,1,0,,,,9,1,p?,1,So.\n"
        "arm,3,sum,p,2,,,,,,1,p?,1,\n"
    )


@pytest.mark.parametrize(
    ("said", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"), ("+1+1", "'+1+1"), ("-1+1", "'-1+1"), ("-12", "-12"),
        ("+0.5", "+0.5"), ("@SUM(A1)", "'@SUM(A1)"), ("\t=1", "'\t=1"), ("\n=1", "'\n=1"),
        ("＝1", "'＝1"), ("'=1", "''=1"), ("a=1", "a=1"), ("\x1b[31mred", "\\u001b[31mred"),
        ("a\rb\x00\x85\u2028", "a\\u000db\\u0000\\u0085\\u2028"), ("\ud800", "\\ud800"),
    ],
)  # fmt: skip
def test_nothing_that_a_spreadsheet_runs_or_a_terminal_obeys(
    tmp_path: Path, said: str, cell: str
) -> None:
    outcome = TaskOutcome("p", said, (True,), (said,), (said,), (None,), (1,))
    file = tmp_path / "x.csv"
    write_csv(file, [exported((outcome,), said, text=said)])
    with file.open(newline="") as opened:
        (row,) = csv.DictReader(opened)
    assert {row[name] for name in ("arm", "dataset", "answer", "mode", "text")} == {cell}


def test_lm_eval_finds_what_it_expects(tmp_path: Path) -> None:
    outcome = TaskOutcome(
        "id-1", "jsonl:my set", (True, False), ("2", None), (None, None), (None, None), (3, 4)
    )
    write_lm_eval(tmp_path, [exported((outcome,), "Org/M: a", 2)], STAMP)
    (folder,) = tmp_path.iterdir()
    assert folder.name == "Org__M__a-2"
    row = json.loads((folder / f"samples_jsonl_my_set_{STAMP}.jsonl").read_text())
    assert row["doc_id"] == 0
    assert row["target"] == "1"
    assert row["resps"] == [["So.", "So."]]
    assert row["filtered_resps"] == [["2", "[invalid]"]]
    assert row["exact_match"] == 0.5
    settings = {
        "temperature": 1.0, "top_p": 0.9, "max_gen_toks": 64, "until": ["#"], "do_sample": True,
    }  # fmt: skip
    assert row["arguments"] == {"gen_args_0": {"arg_0": "id-1?", "arg_1": settings}}
    # sha256 of the texts, as lm-eval makes them.
    one = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert row["target_hash"] == one
    results = json.loads((folder / f"results_{STAMP}.json").read_text())
    assert results["results"]["jsonl:my set"]["exact_match,none"] == 0.5
    assert results["model_name"] == "Org/M: a"


def test_what_cannot_be_written_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    outcome = TaskOutcome("p", "sum", (True,), ("1",), (None,), (None,), (1,))
    sound = exported((outcome,))
    with pytest.raises(ConfigError, match="keeps no texts"):
        write_lm_eval(tmp_path, [replace(sound, texts={})], STAMP)
    with pytest.raises(ConfigError, match="one name and seed"):
        write_lm_eval(tmp_path, [sound, sound], STAMP)
    broken = replace(sound, texts={"p": Texts("?", None, ("a", "b"))})
    file = tmp_path / "x.csv"
    write_csv(file, [sound])
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="2 texts for 1 samples of problem p"):
        write_csv(file, [sound, broken])
    assert file.read_bytes() == before
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RunError, match="cannot be written"):
        write_csv(tmp_path / "folder.csv", [sound])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.csv", "x.csv"]


def test_rows_have_all_columns(tmp_path: Path) -> None:
    outcome = TaskOutcome("p", "sum", (True,), ("1",), (None,), (None,), (1,))
    (row,) = sample_rows([exported((outcome,))])
    assert row.keys() == {*COLUMNS, *TEXTS}


@needs_pyarrow
def test_parquet_keeps_texts_as_they_are(tmp_path: Path) -> None:
    import pyarrow.parquet

    outcome = TaskOutcome("p", "sum", (True,), ("=1\x1b",), (None,), (None,), (1,))
    write_parquet(tmp_path / "x.parquet", [exported((outcome,), text="=\ud800\x00")])
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    (row,) = table.to_pylist()
    assert (row["answer"], row["text"], row["correct"]) == ("=1\x1b", "=\\ud800\x00", 1)
    assert table.schema.names == [*COLUMNS, *TEXTS]
