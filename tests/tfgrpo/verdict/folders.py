"""Run folders as the program writes them, with outcomes made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tfgrpo.runs import RunDir
from tfgrpo.types import TaskOutcome

ABACUS = {"kind": "abacus", "max_batch_rows": 256}


def config(**settings: Any) -> dict[str, Any]:
    return {
        "model": ABACUS, "policy": {"kind": "base"}, "split": "test", "pack": "abacus",
        "reward": "exact", "sampling": {"temperature": 1.0}, "memory": None, **settings,
    }  # fmt: skip


def evaluated(
    path: Path, outcomes: Sequence[TaskOutcome], settings: Mapping[str, Any] | None = None
) -> Path:
    """A finished evaluation; each reply's text says which sample of which problem it is."""
    with RunDir.create(path, config(**(settings or {})), "eval") as run:
        run.append("began.jsonl", {"policy_id": "p", "tasks": "f00d"})
        for o in outcomes:
            texts = [f"{path.name} {o.task_id} {i}" for i in range(o.n)]
            row = {"task_id": o.task_id, "dataset": o.dataset, "prompt": f"? {o.task_id}"}
            run.append(
                "samples.jsonl",
                row | {"gold": "right", "texts": texts, "correct": o.correct, "failures": []},
            )
            run.append("outcomes.jsonl", asdict(o))
        run.write_json("ledger.json", {"evaluate": usage(4, 40)})
        run.write_json("parameters.json", {"evaluate": 100})
    return path


def trained(path: Path, steps: int = 10, seed: int = 0) -> Path:
    """A finished training run of ten rollouts and a hundred tokens a step."""
    settings = {"model": ABACUS, "method": "grpo", "seed": seed, "group_size": 5}
    with RunDir.create(path, settings, "train") as run:
        for step in range(steps):
            metrics = {"accuracy": 0.5 + step / 20, "entropy_response": 0.5 - step / 25}
            row = {"metrics": metrics, "groups": {"mixed": 1, "all_pass": 1}}
            run.append("steps.jsonl", {**row, "usage": {"rollout": usage(2, 100)}})
        run.write_json("ledger.json", {"rollout": usage(100, 1000), "train": usage(10, 0, 1100)})
        run.write_json("parameters.json", {"rollout": 100, "train": 100})
    return path


def usage(calls: int, generated: int, prompt: int = 0) -> dict[str, Any]:
    return {
        "calls": calls, "prompt_tokens": prompt, "cached_tokens": 0,
        "completion_tokens": generated, "reasoning_tokens": 0, "seconds": 0.0,
    }  # fmt: skip


def weights(path: Path) -> dict[str, Any]:
    """The model settings that name a training run's weights."""
    return {"kind": "transformers", "path": str(path / "weights"), "max_batch_rows": 256}
