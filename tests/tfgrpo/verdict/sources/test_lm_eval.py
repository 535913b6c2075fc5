"""Samples of lm-eval: filters, repeats, choices, files beside each other, older versions."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tfgrpo.verdict.sources.samples import chosen, generated, jsonl, said
from tfgrpo.errors import ConfigError
from tfgrpo.verdict.sources import Grading, detect, read_evaluations

STAMP = "2025-01-01T10-00-00.123456"
SAMPLING = {"stop": ["Question:", "</s>"], "temperature": 0.7}
GSM8K = [
    generated(0, ["The answer is 18."], "18", 1.0),
    generated(1, ["No idea: 3"], "[invalid]", 0.0),
    generated(0, ["The answer is 18."], "18", 1.0, "flexible-extract"),
    generated(1, ["No idea: 3"], "3", 1.0, "flexible-extract"),
]


def test_each_filter_is_an_arm(tmp_path: Path) -> None:
    file = jsonl(tmp_path / f"samples_gsm8k_cot_{STAMP}.jsonl", *GSM8K)
    assert detect(file).format == "lm-eval"
    strict, flexible = read_evaluations(file, "base")
    assert (strict.name, flexible.name) == ("base/strict-match", "base/flexible-extract")
    assert said(strict) == {
        "gsm8k_cot:0": ((True,), ("18",)), "gsm8k_cot:1": ((False,), (None,)),
    }  # fmt: skip
    assert said(flexible)["gsm8k_cot:1"] == ((True,), ("3",))
    assert strict.outcomes[0].dataset == "gsm8k_cot"
    assert strict.protocol == {"reward": "exact_match,strict-match", "sampling": SAMPLING}
    (alone,) = read_evaluations(file, "base", Grading("exact_match,flexible-extract"))
    assert (alone.name, alone.outcomes) == ("base", flexible.outcomes)
    with pytest.raises(ConfigError, match="no filter 'x'; choose from flexible-extract, strict-m"):
        read_evaluations(file, grading=Grading("exact_match,x"))
    with pytest.raises(ConfigError, match="name one of exact_match"):
        read_evaluations(file, grading=Grading("f1"))


def test_the_results_beside_tell_model_version_and_shots(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "Org__M"
    jsonl(folder / f"samples_a_{STAMP}.jsonl", *GSM8K[:2])
    jsonl(folder / f"samples_b_{STAMP}.jsonl", *GSM8K[:2])
    results = {
        "results": {}, "versions": {"a": 3.0, "b": 1}, "n-shot": {"a": 5, "b": 5},
        "config": {"model": "hf"}, "model_name": "Org/M",
    }  # fmt: skip
    (folder / f"results_{STAMP}.json").write_text(json.dumps(results, indent=2))
    told: list[str] = []
    (evaluation,) = read_evaluations(tmp_path / "out", notice=told.append)
    assert evaluation.name == "Org/M"
    assert [o.task_id for o in evaluation.outcomes] == ["a:0", "a:1", "b:0", "b:1"]
    assert evaluation.protocol == {
        "reward": "exact_match,strict-match", "sampling": SAMPLING, "shots": 5,
        "version": {"a": 3.0, "b": 1},
    }  # fmt: skip
    assert told == []


def test_choices(tmp_path: Path) -> None:
    rows = [chosen(0, (-3.5, -1.25), 1.0, 0.0), chosen(1, (-1.0, -1.5), 0.0, 1.0)]
    file = jsonl(tmp_path / f"samples_arc_{STAMP}.jsonl", *rows)
    (by_acc,) = read_evaluations(file)
    assert said(by_acc) == {"arc:0": ((True,), ("1",)), "arc:1": ((False,), ("0",))}
    assert by_acc.protocol == {"reward": "acc,none"}
    (by_norm,) = read_evaluations(file, grading=Grading("acc_norm"))
    assert said(by_norm) == {"arc:0": ((False,), (None,)), "arc:1": ((True,), (None,))}


def test_self_consistency_grades_one_reply_of_many(tmp_path: Path) -> None:
    replies = ["is 7", "is 0", "is 0", "is 0"]
    rows = [
        generated(0, replies, "7", 0.0, "score-first"), generated(0, replies, "0", 1.0, "maj@4"),
    ]  # fmt: skip
    first, vote = read_evaluations(jsonl(tmp_path / f"samples_t_{STAMP}.jsonl", *rows))
    assert said(first) == {"t:0": ((False,), ("7",))}
    assert said(vote) == {"t:0": ((True,), ("0",))}


def test_repeats_need_a_verdict_for_each_reply(tmp_path: Path) -> None:
    file = tmp_path / f"samples_t_{STAMP}.jsonl"
    jsonl(file, generated(0, ["a", "b"], ["1", "2"], [1, 0], "take_first_k"))
    assert said(read_evaluations(file)[0]) == {"t:0": ((True, False), ("1", "2"))}
    jsonl(file, generated(0, ["a", "b"], ["1", "2"], 0.5, "take_first_k"))
    with pytest.raises(ConfigError, match="exact_match has one value for 2 replies"):
        read_evaluations(file)


def test_further_runs_of_a_task_are_further_draws_unless_they_say_the_same(tmp_path: Path) -> None:
    for day, reply, right in ((1, "18", 1.0), (2, "17", 0.0), (3, "18 .", 1.0)):
        row = generated(0, [reply], reply[:2], right)
        jsonl(tmp_path / f"samples_t_2025-01-0{day}.jsonl", row)
    (evaluation,) = read_evaluations(tmp_path)
    assert said(evaluation) == {"t:0": ((True, False, True), ("18", "17", "18"))}
    jsonl(tmp_path / "samples_t_2025-01-04.jsonl", generated(0, ["17"], "17", 0.0))
    with pytest.raises(ConfigError, match=r"04\.jsonl holds the very replies of .*02\.jsonl"):
        read_evaluations(tmp_path)


def test_older_lines_and_documents_with_ids_of_their_own(tmp_path: Path) -> None:
    row = {
        "doc_id": 4, "doc": {"task_id": "HumanEval/4"}, "target": "t",
        "arguments": [["def f():", {"until": "\n", "max_gen_toks": 9, "do_sample": False}]],
        "resps": [["return 1"]], "filtered_resps": ["x" * 300], "pass@1": 1.0,
    }  # fmt: skip
    (evaluation,) = read_evaluations(jsonl(tmp_path / "mine.jsonl", row))
    (outcome,) = evaluation.outcomes
    assert (outcome.task_id, outcome.dataset, outcome.correct) == ("HumanEval/4", "mine", (True,))
    assert len(outcome.answers[0] or "") == 64
    sampling = {"max_tokens": 9, "stop": ["\n"], "temperature": 0.0}
    assert evaluation.protocol == {"reward": "pass@1,none", "sampling": sampling}


def test_the_summary_alone_is_no_samples(tmp_path: Path) -> None:
    file = tmp_path / "results_x.json"
    file.write_text(json.dumps({"results": {}, "versions": {}}))
    with pytest.raises(ConfigError, match="give the samples_"):
        read_evaluations(file)


@settings(max_examples=20)
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_any_order_of_lines_gives_the_same_outcomes(
    verdicts: list[bool], rng: random.Random
) -> None:
    rows = [
        generated(i, [f"{i} {right}"], str(i), float(right), filter)
        for i, right in enumerate(verdicts)
        for filter in ("a", "b")
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"samples_t_{STAMP}.jsonl"
        first = {e.name: e.outcomes for e in read_evaluations(jsonl(file, *rows), "m")}
        rng.shuffle(rows)
        assert {e.name: e.outcomes for e in read_evaluations(jsonl(file, *rows), "m")} == first
    assert {o.task_id: o.correct for o in first["m/a"]} == {
        f"t:{i}": (right,) for i, right in enumerate(verdicts)
    }
