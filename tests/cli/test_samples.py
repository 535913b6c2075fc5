"""`tfgrpo samples`: runs of ours and files of other tools, shown and written; what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.commands import Cli, tfgrpo
from tests.tfgrpo.verdict.folders import evaluated
from tests.tfgrpo.verdict.outcomes import outcome
from tests.tfgrpo.verdict.sources.samples import eval_log, generated, header, jsonl, sample
from tfgrpo.verdict.own import read_own
from tfgrpo.verdict.sources import read_evaluations

STAMP = "2025-01-01T10-00-00.123456"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder of runs: a base, and an arm with two seeds."""
    root = tmp_path / "bench"
    found = [outcome("p0", 4, 1), outcome("p1", 4, 4)]
    evaluated(root / "base", found)
    evaluated(root / "grpo-0", found)
    evaluated(root / "grpo-1", found[:1])
    return root


@pytest.mark.parametrize("target", ["out.csv", "folder"])
def test_own_runs_come_back_as_they_were(
    cli: Cli, bench: Path, tmp_path: Path, target: str
) -> None:
    told = cli("samples", "convert", bench, tmp_path / target, "--json").json()
    assert told["evaluations"] == 3
    assert told["rows"] == (20 if target == "out.csv" else 5)
    back = {(e.name, e.seed): e.outcomes for e in read_evaluations(tmp_path / target)}
    assert back == {(e.name, e.seed): e.outcomes for e in read_own(bench)}
    assert back.keys() == {("base", None), ("grpo", 0), ("grpo", 1)}


def test_a_run_and_its_export_match(cli: Cli, bench: Path, tmp_path: Path) -> None:
    """What was exported stands beside the run that it came from, without --force."""
    tfgrpo("samples", "convert", bench / "base", tmp_path / "lm")
    found = cli("compare", bench / "base", f"again={tmp_path / 'lm'}", "--json").json()
    assert [arm["name"] for arm in found["arms"]] == ["base", "again"]
    first, again = (arm["curve"] for arm in found["arms"])
    assert first == again
    assert not any(stamp.startswith("Forced") for stamp in found["stamps"])


def test_arms_are_counted(cli: Cli, tmp_path: Path) -> None:
    log = eval_log(
        tmp_path / "x.eval",
        header(),
        [sample(1, 1, "C"), sample(1, 2, "I"), sample(2, 1, "C"), sample(2, 2, float("nan"))],
    )
    (row,) = cli("samples", "show", log, "--json").json()
    assert row.pop("protocol")["reward"] == "match"
    assert row == {
        "arm": "openai/m", "seed": None, "problems": 2, "samples": 3, "fewest": 1, "most": 2,
        "right": 2, "unread": 0, "truncated": 0, "failures": 1,
    }  # fmt: skip
    table = cli("samples", "show", log, "--name", "mine").out
    cells = ["mine", "2", "1-2", "66.7%", "0.0%", "0", "1"]
    assert cells in [line.split() for line in table.splitlines()]


def test_a_score_and_a_threshold_make_a_verdict(cli: Cli, tmp_path: Path) -> None:
    rows = [
        generated(0, ["a"], "1", 0.25), generated(0, ["a"], "2", 1.0, "flexible-extract"),
    ]  # fmt: skip
    source = jsonl(tmp_path / f"samples_t_{STAMP}.jsonl", *rows)
    out = tmp_path / "out.csv"
    refused = cli("samples", "convert", source, out)
    assert refused.code == 2
    assert "0.25 is neither 0 nor 1; say from which value" in refused.err
    assert not out.exists()
    flags = ("--score", "exact_match,strict-match", "--threshold", "0.2")
    assert cli("samples", "convert", source, out, *flags).code == 0
    (evaluation,) = read_evaluations(out)
    assert evaluation.outcomes[0].correct == (True,)


def test_names_and_notices_are_harmless_in_a_terminal(cli: Cli, tmp_path: Path) -> None:
    rows = [{"arm": "\x1b[31m[bold]a", "problem": "p", "sample": 0, "correct": 1}]
    source = jsonl(tmp_path / "x.jsonl", *rows)
    source.write_text(source.read_text() + '{"problem":')
    done = cli("samples", "show", source)
    assert done.code == 0
    assert "[31m[bold]a" in done.out
    assert "\x1b" not in done.out + done.err
    assert "line 2, is cut short and was passed over" in done.err


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


BROKEN: dict[str, tuple[str | bytes, str]] = {
    "empty.csv": (b"", "is empty"),
    "header.csv": ("problem,sample,correct\n", "holds no samples"),
    "junk.csv": (bytes(range(256)) * 40, "is a binary file"),
    "latin.csv": ("problem,sample,correct\né,0,1\n".encode("latin-1"), "is no UTF-8 text"),
    "column.csv": ("problem,sample\np,0\n", "give a table with the columns problem, sample and co"),
    "twice.csv": ("problem,sample,sample,correct\np,0,0,1\n", "has the column 'sample' twice"),
    "again.csv": ("problem,sample,correct\np,0,1\nq,0,1\np,0,1\n", "line 4, repeats sample 0"),
    "short.csv": ("problem,sample,correct\np,0\n", "line 2, has 2 cells where the header has 3"),
    "quote.csv": ('problem,sample,correct\n"p,0,1\n', "is no CSV"),
    "half.csv": ("problem,sample,correct\np,0,0.5\n", "line 2: '0.5' is neither 0 nor 1"),
    "nan.csv": ("problem,sample,correct\np,0,nan\n", "line 2: 'nan' is no grade"),
    "word.csv": ("problem,sample,correct\np,0,perhaps\n", "line 2: 'perhaps' is no grade"),
    "index.csv": ("problem,sample,correct\np,first,1\n", "'first' is no number of the kind 0, 1"),
    "blank.csv": ("problem,sample,correct\n,0,1\n", "problem and sample must not be empty"),
    "sets.csv": ("dataset,problem,sample,correct\na,p,0,1\nb,p,0,1\n", "datasets 'a' and 'b'"),
    "torn.jsonl": ('{"problem":1,"sample":0,"correct":1}\n{"pro\n', "line 2, is no JSON"),
    "array.json": ('[{"problem":1}]', "holds a JSON array"),
    "number.jsonl": ('{"problem":1,"sample":0,"correct":1}\n7\n', "line 2, is no JSON object"),
    "list.jsonl": ('{"problem":[1],"sample":0,"correct":1}\n', "line 1: [1] is no text"),
    "nan.jsonl": ('{"problem":1,"sample":0,"correct":NaN}\n', "line 1: nan is no grade"),
    "log.json": ('{"status": "success",\n"eval": {}}', "has a header without task or model"),
    "log.eval": (b"PK\x03\x04 and no more", "is no sound .eval log"),
    "samples_t_1.jsonl": ('{"doc_id":0,"resps":[],"filtered_resps":[]}\n', "is no sample of lm-"),
    "step.jsonl": ('{"input":"","output":"","score":1}\n', "line 1: the prompt is missing"),
    "outcomes.jsonl": ('{"task_id":1,"dataset":"d","correct":[],"failures":0}', "of a run of this"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_end_with_2_and_one_sentence(cli: Cli, tmp_path: Path, name: str) -> None:
    text, told = BROKEN[name]
    file = written(tmp_path / name, text)
    done = cli("samples", "convert", file, tmp_path / "out.csv")
    assert done.code == 2
    assert told in done.err
    assert str(file) in done.err
    assert done.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_other_ways_to_go_wrong(cli: Cli, bench: Path, tmp_path: Path) -> None:
    table = written(tmp_path / "x.csv", "problem,sample,correct\np,0,1\n")
    before = table.read_bytes()
    for arguments, told in (
        (("show", tmp_path / "none"), "There is no"),
        (("show", bench / "base", "--threshold", "0.5"), "tfgrpo rescore"),
        (("show", tmp_path / "empty"), "holds no samples of a format known here"),
        (("show", table, "--score", "reward"), "has no column 'reward'"),
        (("convert", table, tmp_path / "x.xlsx"), "give --format"),
        (("convert", table, table), "is the source itself"),
        (("convert", table, tmp_path / "lm"), "keeps no texts"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        done = cli("samples", *arguments)
        assert (done.code, told in done.err) == (2, True), done.err
    assert table.read_bytes() == before
    assert not (tmp_path / "lm").exists()


def test_texts_that_do_not_fit_their_outcomes_are_refused(
    cli: Cli, bench: Path, tmp_path: Path
) -> None:
    shutil.copy(bench / "grpo-1" / "samples.jsonl", bench / "base" / "samples.jsonl")
    rows = (bench / "base" / "samples.jsonl").read_text()
    (bench / "base" / "samples.jsonl").write_text(rows.replace('"grpo-1 p0 0",', ""))
    done = cli("samples", "convert", bench / "base", tmp_path / "x.csv")
    assert done.code == 2
    assert "3 texts for 4 samples of problem p0" in done.err
