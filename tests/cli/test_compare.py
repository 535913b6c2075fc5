"""`tfgrpo compare`: own runs and foreign files under one verdict, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import tfgrpo

SHAPE = ("--limit", "6", "--n", "4", "--set", "detail=true")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare and an empty policy on the same problems, and one on another split."""
    root = tmp_path_factory.mktemp("runs")
    tfgrpo("eval", "--run", root / "base", *SHAPE)
    tfgrpo("eval", "--policy", "empty", "--run", root / "blank", *SHAPE)
    tfgrpo("eval", "--split", "dev", "--run", root / "dev", *SHAPE)
    return root


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "outcomes.jsonl").read_text().splitlines()]


def test_two_runs_get_a_verdict_and_a_report(runs: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    done = tfgrpo("compare", runs / "base", runs / "blank", "--report", report, "--json")
    found = json.loads(done.stdout)
    assert [(arm["name"], arm["family"]) for arm in found["arms"]] == [
        ("base", "base"),
        ("blank", "control"),
    ]
    assert found["problems"] == 6
    (judgement,) = found["judgements"]
    assert judgement["a"] == "base"
    # Each figure is the mean of what the run's own outcomes say.
    rows = rows_of(runs / "base")
    share = sum(sum(row["correct"]) for row in rows) / (6 * 4)
    assert found["arms"][0]["curve"]["1"]["value"] == pytest.approx(share)
    assert {"token_entropy", "reply_entropy"} <= found["arms"][0]["figures"].keys()
    assert {"ead", "forking_share", "token_entropy"} <= found["arms"][0]["panel"].keys()
    assert set(found["floor"]) == {"1", "2", "4"}
    assert any("Only 6 problems" in stamp for stamp in found["stamps"])
    page = (report / "report.html").read_text()
    assert "blank" in page
    assert json.loads((report / "verdict.json").read_text())["problems"] == 6


def test_the_tables_say_what_the_json_says(runs: Path) -> None:
    shown = tfgrpo("compare", runs / "base", f"calm={runs / 'blank'}").stdout
    assert "6 problems x 4 samples" in shown
    assert "calm" in shown
    assert "at one sample" in shown
    assert "Note: Only 6 problems" in shown


def test_runs_that_do_not_match_are_refused_unless_forced(runs: Path) -> None:
    refused = tfgrpo("compare", runs / "base", runs / "dev", code=2)
    assert "do not match" in refused.stderr
    assert "--force" in refused.stderr
    assert "the split differ" in refused.stderr.lower()


def test_another_tools_table_gets_the_same_verdict(runs: Path, tmp_path: Path) -> None:
    rows = rows_of(runs / "blank")
    table = tmp_path / "theirs.csv"
    lines = ["problem,sample,correct,answer"]
    for row in rows:
        for i, (ok, answer) in enumerate(zip(row["correct"], row["answers"], strict=True)):
            told = "" if answer is None else f'"{answer}"'
            lines.append(f"{row['task_id']},{i},{int(ok)},{told}")
    table.write_text("\n".join(lines) + "\n")
    own = tfgrpo("compare", runs / "base", runs / "blank", "--json").stdout
    theirs = tfgrpo("compare", runs / "base", f"blank={table}", "--json").stdout
    ours, foreign = (json.loads(text)["judgements"][0] for text in (own, theirs))
    for name in ("pass@1", "pass@4", "distinct_correct@4"):
        assert foreign["differences"][name] == ours["differences"][name]
    assert foreign["solved"] == ours["solved"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["nowhere"], "There is no nowhere"),
        (["{base}", "{base}"], "name the runs apart"),
        (["{base}", "{blank}", "--k", "9"], "smaller --k"),
        (["{base}", "{blank}", "--base", "other"], "no arm 'other'"),
        (["{base}", "{blank}", "--duel", "base"], "write --duel A,B"),
        (["{base}", "{blank}", "--margin", "0"], "positive margin"),
    ],
)
def test_wrong_input_is_one_sentence(runs: Path, given: list[str], told: str) -> None:
    places = {"base": runs / "base", "blank": runs / "blank"}
    done = tfgrpo("compare", *(text.format(**places) for text in given), code=2)
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_an_unfinished_run_is_told_apart(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    for name in ("config.json", "environment.json", "began.jsonl"):
        (tmp_path / "half" / name).write_bytes((runs / "base" / name).read_bytes())
    done = tfgrpo("compare", runs / "base", tmp_path / "half", code=2)
    assert "is not finished" in done.stderr
