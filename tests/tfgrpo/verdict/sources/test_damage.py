"""Whatever a file holds: evaluations, or one sentence that names the file. Never anything else."""

from __future__ import annotations

import copy
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.tfgrpo.verdict.sources.samples import chosen, eval_log, generated, header, sample
from tfgrpo.errors import ConfigError
from tfgrpo.verdict.sources import Grading, read_evaluations

Value = Any
ODD: list[Value] = [
    None, True, 0, -1, 2**70, 0.5, float("nan"), float("inf"), "", "x", "\ud800", [], [[]],
    [None], {}, {"a": [1]}, [["x", "True"]], [1, 2],
]  # fmt: skip
LINES: list[list[dict[str, Value]]] = [
    [{"problem": "p", "sample": i, "correct": i % 2, "answer": "3", "seed": 1, "entropy": 0.5,
      "tokens": 3, "dataset": "d", "mode": "m"} for i in range(2)],
    [generated(0, ["a", "b"], ["1", "2"], [1, 0]), generated(1, ["a", "b"], ["1", "2"], [1, 0])],
    [chosen(0, (-3.5, -1.25), 1.0, 0.0), chosen(1, (-1.0, -1.5), 0.0, 1.0)],
    [generated(0, ["a"], ["1"], 1.0) | {"tfgrpo": {
        "seed": 0, "dataset": "d", "correct": [True], "modes": [None], "entropies": [0.5],
        "lengths": [3], "truncated": 0, "failures": 1}}],
    [{"input": "a", "output": "b", "gts": "1", "score": 1.0, "step": 3, "acc": True, "pred": "1"}],
    [{"step": 1, "prompt": "a", "completion": "b", "accuracy_reward": 1.0, "advantage": 0.0}],
]  # fmt: skip


def read(path: Path, grading: Grading) -> None:
    """Reads, or is refused with one sentence."""
    try:
        found = read_evaluations(path, grading=grading)
    except ConfigError as error:
        text = str(error)
        assert "\n" not in text.replace(str(path), "")
        assert text.startswith(str(path))
        assert text.endswith((".", "[parquet]'", "convert --to json)"))
    else:
        for outcome in (o for e in found for o in e.outcomes):
            assert outcome.n == len(outcome.answers) == len(outcome.lengths)
            assert set(outcome.correct) <= {True, False}
            assert all(a is None or isinstance(a, str) for a in outcome.answers)


def places(value: Value, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value inside a JSON value."""
    found = [at] if at else []
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(child, (*at, key))
    return found


def changed(value: Value, rng: random.Random) -> Value:
    """A copy with something in it replaced, or taken away."""
    made = copy.deepcopy(value)
    *way, last = rng.choice(places(made))
    owner = made
    for key in way:
        owner = owner[key]
    if rng.random() < 0.3:
        del owner[last]
    else:
        owner[last] = copy.deepcopy(rng.choice(ODD))
    return made


@settings(max_examples=60)
@given(st.binary(max_size=200))
@example(b"")
@example(b"\n\n")
@example(b"{")
@example(b"[]")
@example(b"PAR1")
@example(b"PK\x03\x04")
@example(b"\xff\xfep\x00")
@example(b"\xff" * 9)
@example(b'problem,sample,correct\n"p,0,1\n')
@example(b'problem,sample,correct\n"p"x,0,1\n')
@example(b"problem,sample,correct\np,0\n")
@example(b"problem,sample,correct\np,0,nan\n")
@example(b"problem,sample,correct\np,-1,1\n")
@example(b"problem,sample,correct\np,1e300,1\n")
@example(b"problem,sample,correct\n,0,1\n")
@example(b"problem,sample,correct,correct\np,0,1,1\n")
@example(b"problem,sample,correct,problem_truncated\np,0,1,7\n")
@example(b'{"problem":1,"sample":0,"correct":1}\n{"problem":1,"sample":1,"correct":1,"answer":""}')
@example(b'{"problem":1,"sample":0,"correct":' + b"[" * 3000 + b"\n")
def test_any_bytes(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        read(path, Grading())


@settings(max_examples=150)
@given(st.sampled_from(LINES), st.randoms(use_true_random=False), st.booleans())
def test_lines_with_something_odd_in_them(
    rows: list[dict[str, Value]], rng: random.Random, threshold: bool
) -> None:
    rows = [changed(row, rng) if rng.random() < 0.7 else row for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
        read(path, Grading(threshold=0.5 if threshold else None))


@settings(max_examples=100)
@given(st.randoms(use_true_random=False), st.booleans())
def test_logs_with_something_odd_in_them(rng: random.Random, zipped: bool) -> None:
    head, samples = header(), [sample(1, 1, "C"), sample(1, 2, {"a": 1})]
    if rng.random() < 0.5:
        head = changed(head, rng)
    samples = [changed(one, rng) for one in samples]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.eval"
        if zipped:
            members = {f"samples/{i}_epoch_1.json": one for i, one in enumerate(samples)}
            eval_log(path, head, [], **members)
        else:
            path.write_text(json.dumps(head | {"samples": samples}, indent=1))
        read(path, Grading())


@settings(max_examples=60)
@given(st.randoms(use_true_random=False))
def test_logs_with_damaged_bytes(rng: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = eval_log(Path(folder) / "log.eval", header(), [sample(1, 1, "C")])
        data = bytearray(path.read_bytes())
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(bytes(data[: rng.randint(1, len(data))]) if rng.random() < 0.3 else data)
        read(path, Grading())
