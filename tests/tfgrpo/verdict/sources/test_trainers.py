"""Dumps of verl and TRL: steps are arms, prompts are problems, replies have no order."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tfgrpo.verdict.sources.samples import jsonl, needs_pyarrow, parquet
from tfgrpo.errors import ConfigError
from tfgrpo.verdict.sources import Grading, detect, read_evaluations


def verl(prompt: str, score: float, step: int = 10, **more: Any) -> dict[str, Any]:
    row = {"input": f"user\n{prompt}\nassistant\n", "output": "So.", "gts": "34", "score": score}
    return row | {"step": step, "reward": score} | more


def trl(prompt: Any, step: int = 10, **rewards: Any) -> dict[str, Any]:
    return {"step": step, "prompt": prompt, "completion": "So.", **rewards, "advantage": -0.5}


def test_a_validation_of_verl(tmp_path: Path) -> None:
    rows = [
        verl("a", -1.0, acc=False, pred="33"), verl("a", 1.0, acc=True, pred="34"),
        verl("b", 1.0, acc=True, pred="34"),
    ]  # fmt: skip
    file = jsonl(tmp_path / "10.jsonl", *rows)
    assert detect(file).format == "verl"
    (evaluation,) = read_evaluations(file)
    assert (evaluation.name, evaluation.protocol) == ("step 10", {"reward": "acc"})
    pairs = [Counter(zip(o.correct, o.answers, strict=True)) for o in evaluation.outcomes]
    assert sorted(pairs, key=len) == [
        Counter({(True, "34"): 1}), Counter({(False, "33"): 1, (True, "34"): 1}),
    ]  # fmt: skip
    assert all(len(o.task_id) == 16 for o in evaluation.outcomes)


def test_each_step_of_verl_is_an_arm_of_the_same_problems(tmp_path: Path) -> None:
    for step in (0, 100):
        rows = [verl(p, float(step > 0), step) for p in ("a", "b") for _ in range(3)]
        jsonl(tmp_path / f"{step}.jsonl", *rows)
    first, last = read_evaluations(tmp_path, "dapo")
    assert (first.name, last.name) == ("dapo/step 0", "dapo/step 100")
    assert [o.task_id for o in first.outcomes] == [o.task_id for o in last.outcomes]
    assert [(o.n, o.c) for o in first.outcomes + last.outcomes] == [(3, 0), (3, 0), (3, 3), (3, 3)]


def test_a_score_of_verl_that_is_no_verdict(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "x.jsonl", verl("a", 1.0), verl("a", -1.0))
    with pytest.raises(ConfigError, match=r"line 2: -1\.0 is neither 0 nor 1"):
        read_evaluations(file)
    (evaluation,) = read_evaluations(file, grading=Grading(threshold=0))
    assert evaluation.outcomes[0].c == 1
    assert evaluation.protocol == {"reward": "score >= 0"}


def test_trl_takes_its_accuracy_reward_and_leaves_out_what_it_does_not_grade(
    tmp_path: Path,
) -> None:
    rows = [
        trl("a", accuracy_reward=1.0, format_reward=0.5),
        trl("a", accuracy_reward=float("nan"), format_reward=1.0),
        trl("a", accuracy_reward=None, format_reward=1.0),
        trl("a", accuracy_reward=0.0, format_reward=1.0),
    ]
    file = jsonl(tmp_path / "completions_00010.jsonl", *rows)
    assert detect(file).format == "trl"
    (evaluation,) = read_evaluations(file)
    (outcome,) = evaluation.outcomes
    assert (outcome.n, outcome.c, outcome.failures) == (2, 1, 2)
    assert (evaluation.name, evaluation.protocol) == ("step 10", {"reward": "accuracy_reward"})


def test_trl_with_one_reward_with_several_and_with_messages(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "1+1?"}]
    one = jsonl(tmp_path / "one.jsonl", trl(chat, my_check=1.0), trl(chat, my_check=0.0))
    (evaluation,) = read_evaluations(one)
    assert [(o.n, o.c) for o in evaluation.outcomes] == [(2, 1)]
    several = jsonl(tmp_path / "several.jsonl", trl("a", my_check=1.0, style=0.3))
    with pytest.raises(ConfigError, match=r"which of its columns \(my_check, style\)"):
        read_evaluations(several)
    assert read_evaluations(several, grading=Grading("my_check"))[0].outcomes[0].c == 1
    with pytest.raises(ConfigError, match="has no column 'x'; choose from"):
        read_evaluations(several, grading=Grading("x"))


@needs_pyarrow
def test_trl_in_parquet(tmp_path: Path) -> None:
    folder = tmp_path / "completions"
    folder.mkdir()
    for step in (10, 20):
        rows = [trl(p, step, accuracy_reward=float(step == 20)) for p in "aabb"]
        parquet(folder / f"completions_{step:05d}.parquet", rows)
    first, last = read_evaluations(folder, "run")
    assert [(o.n, o.c) for o in first.outcomes] == [(2, 0), (2, 0)]
    assert [(o.n, o.c) for o in last.outcomes] == [(2, 2), (2, 2)]
    assert (first.name, last.name) == ("run/step 10", "run/step 20")


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.sampled_from("12")), min_size=1),
    st.randoms(use_true_random=False),
)
def test_any_order_of_lines_gives_the_same_outcomes(
    samples: list[tuple[str, bool, str]], rng: random.Random
) -> None:
    rows = [verl(p, float(right), pred=answer) for p, right, answer in samples]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.jsonl"
        (first,) = read_evaluations(jsonl(file, *rows))
        rng.shuffle(rows)
        (second,) = read_evaluations(jsonl(file, *rows))
    assert first.outcomes == second.outcomes
    found = Counter(
        (right, answer)
        for o in first.outcomes
        for right, answer in zip(o.correct, o.answers, strict=True)
    )
    assert found == Counter((right, answer) for _, right, answer in samples)


def test_no_kind_of_sample_comes_first_in_every_problem(tmp_path: Path) -> None:
    """A measure that takes one sample of each problem must not take wrong ones only."""
    rows = [verl(f"{p}", float(i == 0), pred="x") for p in range(200) for i in range(2)]
    (evaluation,) = read_evaluations(jsonl(tmp_path / "x.jsonl", *rows))
    right = sum(o.correct[0] for o in evaluation.outcomes)
    assert 70 <= right <= 130
    assert json.dumps([o.task_id for o in evaluation.outcomes]).count(",") == 199
