"""Logs of Inspect: both formats, epochs, scores of all kinds, what failed, what is damaged."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.tfgrpo.verdict.sources.samples import (
    INSTALLED,
    ZSTANDARD,
    eval_log,
    header,
    needs_pyarrow,
    said,
    sample,
    zstandard_log,
)
from tfgrpo.errors import ConfigError
from tfgrpo.verdict.sources import Grading, detect, read_evaluations

CUT = {"output": {"choices": [{"stop_reason": "max_tokens"}], "usage": {"output_tokens": 64}}}
SAMPLES = [
    sample(1, 2, "I"),
    sample(1, 1, "C"),
    sample("x/y", 1, "N", **CUT, model_usage={}),
    sample("x/y", 2, "C", error={"message": "boom", "traceback": ""}),
]
PROTOCOL = {
    "reward": "match", "version": 0,
    "sampling": {"temperature": 0.7, "max_tokens": 64, "stop": ["#"]},
}  # fmt: skip


@pytest.mark.parametrize("form", ["eval", "json", "lines"])
def test_both_formats(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"log.{'eval' if form == 'eval' else 'json'}"
    if form == "eval":
        eval_log(path, header(), SAMPLES)
    else:
        path.write_text(json.dumps(header(samples=SAMPLES), indent=2 if form == "json" else None))
    told: list[str] = []
    assert detect(path).format == "inspect"
    (evaluation,) = read_evaluations(path, notice=told.append)
    assert evaluation.name == "openai/m"
    assert evaluation.protocol == PROTOCOL
    one, two = evaluation.outcomes
    assert (one.task_id, one.correct, one.answers, one.lengths) == (
        "sums:1", (True, False), ("3", "3"), (7, 7),
    )  # fmt: skip
    assert (two.task_id, two.correct, two.lengths, two.truncated, two.failures) == (
        "sums:x/y", (False,), (64,), 1, 1,
    )  # fmt: skip
    assert told == []


@pytest.mark.parametrize(
    ("value", "correct"),
    [("C", True), ("I", False), ("N", False), (1, True), (0.0, False), (True, True)],
)
def test_values(tmp_path: Path, value: Any, correct: bool) -> None:
    (evaluation,) = read_evaluations(eval_log(tmp_path / "x.eval", header(), [sample(1, 1, value)]))
    assert evaluation.outcomes[0].correct == (correct,)


def test_partial_credit_needs_a_threshold_and_no_score_is_no_verdict(tmp_path: Path) -> None:
    log = eval_log(tmp_path / "x.eval", header(), [sample(1, 1, "P"), sample(1, 2, float("nan"))])
    with pytest.raises(ConfigError, match=r"samples/1_epoch_1\.json: 0\.5 is neither 0 nor 1"):
        read_evaluations(log)
    (evaluation,) = read_evaluations(log, grading=Grading(threshold=0.5))
    assert (evaluation.outcomes[0].correct, evaluation.outcomes[0].failures) == ((True,), 1)
    assert evaluation.protocol["reward"] == "match >= 0.5"


def test_several_scores(tmp_path: Path) -> None:
    scores = {
        "judge": {"value": {"strict": 0, "loose": 1}, "answer": "4"},
        "match": {"value": "C", "answer": "3"},
    }
    log = eval_log(tmp_path / "x.eval", header(), [sample(1, 1, 0, scores=scores)])
    with pytest.raises(ConfigError, match=r"name one of judge\.strict, judge\.loose, match"):
        read_evaluations(log)
    (evaluation,) = read_evaluations(log, grading=Grading("judge.strict"))
    assert said(evaluation) == {"sums:1": ((False,), ("4",))}
    assert evaluation.protocol["reward"] == "judge.strict"
    with pytest.raises(ConfigError, match="no score 'x'"):
        read_evaluations(log, grading=Grading("x"))


def test_a_log_that_was_cut_off_is_read_with_a_notice(tmp_path: Path) -> None:
    told: list[str] = []
    log = eval_log(tmp_path / "x.eval", None, SAMPLES[:2])
    (evaluation,) = read_evaluations(log, notice=told.append)
    assert evaluation.outcomes[0].n == 2
    assert told == [f"{log} is of an evaluation that did not end well (status started)."]


def test_a_sample_in_pieces_is_read_from_its_shell(tmp_path: Path) -> None:
    pieces = {
        "samples/7_epoch_1/sample.json": sample(7, 1, "C"),
        "samples/7_epoch_1/messages/0.json": [],
        "samples/7_epoch_1/metadata.json": {},
    }
    (evaluation,) = read_evaluations(eval_log(tmp_path / "x.eval", header(), [], **pieces))
    assert said(evaluation) == {"sums:7": ((True,), ("3",))}


def test_logs_of_a_folder(tmp_path: Path) -> None:
    other = header()
    other["eval"]["task"] = "products"
    eval_log(tmp_path / "a.eval", header(), SAMPLES[:2])
    eval_log(tmp_path / "b.eval", other, SAMPLES[:2])
    (evaluation,) = read_evaluations(tmp_path)
    assert [o.task_id for o in evaluation.outcomes] == ["products:1", "sums:1"]
    eval_log(tmp_path / "c.eval", header(), SAMPLES[:1])
    with pytest.raises(ConfigError, match=r"c\.eval, line 1, repeats sample 2 of problem 'sums:1'"):
        read_evaluations(tmp_path)


@needs_pyarrow
def test_zstandard(tmp_path: Path) -> None:
    members = {"header.json": header()}
    members |= {f"samples/{i}.json": s for i, s in enumerate(SAMPLES)}
    members = {"header.json": header()} | {
        f"samples/{s['id']}_epoch_{s['epoch']}.json": s for s in SAMPLES
    }
    log = zstandard_log(tmp_path / "x.eval", members)
    with zipfile.ZipFile(log) as archive:
        assert {info.compress_type for info in archive.infolist()} == {ZSTANDARD}
    (evaluation,) = read_evaluations(log)
    (plain,) = read_evaluations(eval_log(tmp_path / "y.eval", header(), SAMPLES))
    assert evaluation.outcomes == plain.outcomes
    damaged = bytearray(log.read_bytes())
    at = damaged.index(b"\x28\xb5\x2f\xfd", 400)
    damaged[at + 12] ^= 0xFF
    log.write_bytes(damaged)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_evaluations(log)


@pytest.mark.skipif(INSTALLED, reason="pyarrow is installed")
def test_zstandard_without_pyarrow(tmp_path: Path) -> None:
    log = eval_log(tmp_path / "x.eval", header(), SAMPLES)
    packed = log.read_bytes().replace(b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x00\x00\x5d\x00")
    log.write_bytes(packed)
    with pytest.raises(ConfigError, match="needs the package pyarrow; run: pip install"):
        read_evaluations(log)
