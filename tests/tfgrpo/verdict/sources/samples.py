"""Small files in the formats of other tools, with their quirks, and what is in an evaluation."""

from __future__ import annotations

import importlib.util
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tfgrpo.verdict.arms import Evaluation

INSTALLED = importlib.util.find_spec("pyarrow") is not None
needs_pyarrow = pytest.mark.skipif(not INSTALLED, reason="pyarrow is not installed")
ZSTANDARD = 93


def jsonl(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def said(evaluation: Evaluation) -> dict[str, tuple[tuple[bool, ...], tuple[str | None, ...]]]:
    """Verdicts and answers by problem."""
    return {o.task_id: (o.correct, o.answers) for o in evaluation.outcomes}


def parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


# lm-eval ------------------------------------------------------------------------------------------


def generated(
    doc_id: int, replies: Sequence[str], kept: Any, exact_match: Any, filter: str = "strict-match"
) -> dict[str, Any]:
    """A line of a generation task as lm-eval 0.4 writes it."""
    settings = {"until": ["Question:", "</s>"], "do_sample": True, "temperature": 0.7}
    return {
        "doc_id": doc_id,
        "doc": {"question": f"How many are {doc_id}?", "answer": f"So. #### {doc_id}"},
        "target": f"So. #### {doc_id}",
        "arguments": {"gen_args_0": {"arg_0": f"Question: {doc_id}", "arg_1": settings}},
        "resps": [list(replies)],
        "filtered_resps": [kept],
        "filter": filter,
        "metrics": ["exact_match"],
        "doc_hash": "a" * 64,
        "prompt_hash": "b" * 64,
        "target_hash": "c" * 64,
        "exact_match": exact_match,
    }


def chosen(doc_id: int, likelihoods: Sequence[float], acc: float, norm: float) -> dict[str, Any]:
    """A line of a multiple-choice task: one request for each choice."""
    pairs = [[str(value), "False"] for value in likelihoods]
    return {
        "doc_id": doc_id,
        "doc": {"query": "Which?", "choices": ["a", "b"], "gold": 1},
        "target": "1",
        "arguments": {
            f"gen_args_{i}": {"arg_0": "Which?", "arg_1": f" {c}"} for i, c in enumerate("ab")
        },
        "resps": [[pair] for pair in pairs],
        "filtered_resps": pairs,
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "acc": acc,
        "acc_norm": norm,
    }


# Inspect ------------------------------------------------------------------------------------------


def header(**changes: Any) -> dict[str, Any]:
    about = {
        "created": "2025-01-01T10:00:00+00:00", "task": "sums", "task_version": 0,
        "model": "openai/m", "model_generate_config": {"temperature": 0.5, "max_tokens": 64},
        "dataset": {"name": "sums"}, "config": {"epochs": 2},
    }  # fmt: skip
    plan = {"name": "plan", "steps": [], "config": {"temperature": 0.7, "stop_seqs": ["#"]}}
    return {"version": 2, "status": "success", "eval": about, "plan": plan} | changes


def sample(number: int | str, epoch: int, value: Any, **changes: Any) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": "It is 3."}, "stop_reason": "stop"}
    score = {"value": value, "answer": "3", "explanation": "It is 3.", "history": []}
    return {
        "id": number,
        "epoch": epoch,
        "input": "1+2?",
        "target": "3",
        "messages": [],
        "output": {"model": "m", "choices": [choice], "usage": {"output_tokens": 5}},
        "scores": {"match": score},
        "model_usage": {"openai/m": {"input_tokens": 9, "output_tokens": 7}},
    } | changes


def eval_log(
    path: Path, head: Mapping[str, Any] | None, samples: Sequence[Mapping[str, Any]], **more: Any
) -> Path:
    """An .eval file; without a head as a killed run leaves it. `more` members by name."""
    start = {name: value for name, value in header().items() if name != "status"}
    members: dict[str, Any] = {"_journal/start.json": start}
    members |= {f"samples/{s['id']}_epoch_{s['epoch']}.json": s for s in samples}
    members |= {"summaries.json": [], **more}
    if head is not None:
        members["header.json"] = head
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name, json.dumps(value))
    return path


def zstandard_log(path: Path, members: Mapping[str, Any]) -> Path:
    """An .eval file whose members are two Zstandard frames each, as Inspect writes large ones."""
    import pyarrow

    body, directory, count = b"", b"", 0
    for name, value in members.items():
        data = json.dumps(value).encode()
        half = len(data) // 2
        packed = b"".join(
            pyarrow.compress(part, codec="zstd", asbytes=True)
            for part in (data[:half], data[half:])
        )
        own = struct.pack(
            "<HHHHHIIIHH", 20, 0, ZSTANDARD, 0, 33, zlib.crc32(data), len(packed), len(data),
            len(name), 0,
        )  # fmt: skip
        central = b"PK\x01\x02" + struct.pack("<H", 20) + own
        directory += central + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\x03\x04" + own + name.encode() + packed
        count += 1
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(body), 0)
    path.write_bytes(body + directory + end)
    return path
