"""Tables of samples: each way to write one is read alike, and order is nothing."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tfgrpo.verdict.sources.samples import jsonl, needs_pyarrow, parquet, said
from tfgrpo.errors import ConfigError
from tfgrpo.types import TaskOutcome
from tfgrpo.verdict.sources import Grading, read_evaluations

ROWS = [
    {"problem": "b", "sample": 1, "correct": True, "answer": "3"},
    {"problem": "a", "sample": 0, "correct": False, "answer": None},
    {"problem": "b", "sample": 0, "correct": False, "answer": "-2"},
]
EXPECTED = {"a": ((False,), (None,)), "b": ((False, True), ("-2", "3"))}


@pytest.mark.parametrize(
    "text",
    [
        "problem,sample,correct,answer\nb,1,1,3\na,0,0,\nb,0,0,-2\n",
        "\ufeffProblem_ID;Sample_Idx;IS_CORRECT;Answer_Canon\r\nb;1;True;3\r\na;0;false;\r\n"
        "b;0;0.0;-2",
        'answer\tcorrect\tsample\tproblem\n"3"\ttrue\t1.0\tb\n\n\t0\t0\ta\n-2\tFALSE\t0\t"b"\n',
    ],
)
def test_csv_of_all_kinds(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text, "utf-8", newline="")
    (evaluation,) = read_evaluations(file)
    assert said(evaluation) == EXPECTED
    assert (evaluation.name, evaluation.seed, evaluation.source) == ("mine", None, str(file))
    assert evaluation.protocol == {}
    assert read_evaluations(file, "theirs")[0].name == "theirs"


def test_json_lines_without_a_last_line_break(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "x.jsonl", *ROWS)
    file.write_text(file.read_text().rstrip())
    assert said(read_evaluations(file)[0]) == EXPECTED


@needs_pyarrow
def test_parquet(tmp_path: Path) -> None:
    (evaluation,) = read_evaluations(parquet(tmp_path / "x.parquet", ROWS))
    assert said(evaluation) == EXPECTED


def test_all_columns(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text(
        "arm,seed,dataset,problem,sample,correct,answer,mode,entropy,tokens,finish_reason\n"
        "grpo,1,sum,p,0,1,12,carry,0.25,40,stop\n"
        "grpo,1,sum,p,1,0,,,,64,length\n"
        "grpo,1,sum,p,2,,,,,,\n"
        "grpo,2,sum,p,0,1,12,,,3,stop\n"
        "base,,sum,p,0,0,13,,,3,stop\n"
    )
    first, second, base = read_evaluations(file)
    assert [(e.name, e.seed) for e in (first, second, base)] == [
        ("grpo", 1), ("grpo", 2), ("base", None),
    ]  # fmt: skip
    assert first.outcomes == (
        TaskOutcome(
            "p", "sum", (True, False), ("12", None), ("carry", None), (0.25, None), (40, 64), 1, 1
        ),
    )
    named = [e.name for e in read_evaluations(file, "run")]
    assert named == ["run/grpo", "run/grpo", "run/base"]


def test_cut_replies_are_counted_in_either_way(tmp_path: Path) -> None:
    rows = [
        {"problem": "p", "sample": 0, "correct": 1, "finish_reason": "stop", "count": 1},
        {"problem": "p", "sample": 1, "correct": 1, "finish_reason": "length", "count": 1},
        {"problem": "p", "sample": 2, "correct": None, "finish_reason": "length", "count": 1},
    ]
    counted = [
        {("problem_truncated" if k == "count" else k): v for k, v in r.items()} for r in rows
    ]
    for order in (rows, rows[::-1], counted, counted[::-1]):
        (evaluation,) = read_evaluations(jsonl(tmp_path / "x.jsonl", *order))
        assert evaluation.outcomes[0].truncated == 1
    counted[0]["problem_truncated"] = 3
    with pytest.raises(ConfigError, match="3 of 2 graded samples of problem 'p' are said to be"):
        read_evaluations(jsonl(tmp_path / "x.jsonl", *counted))


def test_problems_without_ids_are_told_by_their_prompts(tmp_path: Path) -> None:
    rows = [{"prompt": p, "sample": i, "correct": 1} for p in ("1+1?", "2+2?") for i in (0, 1)]
    (a,) = read_evaluations(jsonl(tmp_path / "a.jsonl", *rows))
    (b,) = read_evaluations(jsonl(tmp_path / "b.jsonl", *reversed(rows)))
    assert [o.n for o in a.outcomes] == [2, 2]
    assert a.outcomes == b.outcomes


def test_a_reward_is_right_only_from_a_threshold_on(tmp_path: Path) -> None:
    rows = [{"problem": "p", "sample": i, "reward": r} for i, r in enumerate((0.2, 0.5, 1.0))]
    file = jsonl(tmp_path / "x.jsonl", *rows)
    with pytest.raises(ConfigError, match=r"line 1: 0\.2 is neither 0 nor 1; say from which value"):
        read_evaluations(file, grading=Grading("reward"))
    (evaluation,) = read_evaluations(file, grading=Grading("reward", 0.5))
    assert evaluation.outcomes[0].correct == (False, True, True)
    assert evaluation.protocol == {"reward": "reward >= 0.5"}


def test_a_folder_of_shards_is_one_arm_and_a_repeated_sample_is_refused(tmp_path: Path) -> None:
    head = "problem,sample,correct\n"
    (tmp_path / "0.csv").write_text(f"{head}p,0,1\n")
    (tmp_path / "1.csv").write_text(f"{head}p,1,0\nq,0,1\n")
    (evaluation,) = read_evaluations(tmp_path, "arm")
    assert {o.task_id: o.correct for o in evaluation.outcomes} == {"p": (True, False), "q": (True,)}
    (tmp_path / "2.csv").write_text(f"{head}r,0,1\np,1,0\n")
    first, again = tmp_path / "1.csv", tmp_path / "2.csv"
    with pytest.raises(ConfigError) as raised:
        read_evaluations(tmp_path)
    assert str(raised.value) == (
        f"{again}, line 3, repeats sample 1 of problem 'p' ({first}, line 2); remove one, or tell "
        "the arms or seeds apart."
    )


def test_cells_made_harmless_for_spreadsheets_are_read_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("problem,sample,correct,answer\np,0,1,'=1+1\np,1,0,'x'\np,2,0,''-\n")
    assert read_evaluations(file)[0].outcomes[0].answers == ("=1+1", "'x'", "'-")
    file = jsonl(tmp_path / "x.jsonl", {"problem": "p", "sample": 0, "correct": 1, "answer": "'=1"})
    assert read_evaluations(file)[0].outcomes[0].answers == ("'=1",)


def test_long_cells_and_line_breaks_in_cells(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    long = "é" * 200_000
    file.write_text(f'problem,sample,correct,answer,text\np,0,1,"a\nb","{long}"\np,1,0,c,\n')
    assert read_evaluations(file)[0].outcomes[0].answers == ("a\nb", "c")


KEYS = st.tuples(
    st.sampled_from("xy"), st.sampled_from([None, 0, 1]), st.sampled_from("pqr"), st.integers(0, 5)
)
CELLS = st.tuples(
    st.sampled_from([True, False, None]), st.sampled_from([None, "1", "-2", "=3"]),
    st.integers(0, 9), st.sampled_from([None, "m"]), st.sampled_from([None, 0.5]),
)  # fmt: skip
NAMES = ("arm", "seed", "problem", "sample", "correct", "answer", "tokens", "mode", "entropy")


@settings(max_examples=40)
@given(st.dictionaries(KEYS, CELLS, min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_any_order_of_rows_gives_what_the_rows_say(
    samples: dict[Any, Any], rng: random.Random
) -> None:
    rows = [dict(zip(NAMES, (*key, *cells), strict=True)) for key, cells in samples.items()]
    rng.shuffle(rows)
    with tempfile.TemporaryDirectory() as folder:
        found = read_evaluations(jsonl(Path(folder) / "file.jsonl", *rows))
    expected: dict[Any, Any] = {}
    for arm, seed, problem, number in sorted(samples, key=lambda key: key[3]):
        correct, *rest = samples[arm, seed, problem, number]
        columns = expected.setdefault((arm, seed, problem), ([], [], [], [], []))
        if correct is not None:
            for column, value in zip(columns, (correct, *rest), strict=True):
                column.append(value)
    assert {
        (e.name, e.seed, o.task_id): (o.correct, o.answers, o.lengths, o.modes, o.entropies)
        for e in found
        for o in e.outcomes
    } == {key: tuple(map(tuple, columns)) for key, columns in expected.items()}
    assert sum(o.n + o.failures for e in found for o in e.outcomes) == len(samples)
    for evaluation in found:
        ids = [o.task_id for o in evaluation.outcomes]
        assert ids == sorted(ids)


def test_a_torn_last_line_is_told_and_passed_over(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "x.jsonl", *ROWS)
    whole = file.read_text()
    file.write_text(whole + json.dumps(ROWS[0])[:-9])
    told: list[str] = []
    assert said(read_evaluations(file, notice=told.append)[0]) == EXPECTED
    assert told == [f"{file}, line 4, is cut short and was passed over."]
    file.write_text(whole + '{"problem"\n' + whole)
    with pytest.raises(ConfigError, match="line 4, is no JSON; correct or remove it"):
        read_evaluations(file)
