"""Training steps whose rollouts vLLM samples, in an interpreter that has it: figures as JSON."""

from __future__ import annotations

import json

from baselines.config import TrainSpec
from baselines.methods import POCKET, method
from cli.training import build_trainer
from tfgrpo.llm.vllm_local import VllmChat
from tfgrpo.settings import load, merged

SETTINGS = {
    "tasks": {"kind": "procedural", "families": ["product", "sort"]},
    "method": "rloo", "prompts": 4, "group_size": 4, "train_limit": 12, "steps": 3,
    "sampling": {"max_tokens": 40}, "optimiser": {"lr": 1e-3}, "probe": {"every": 0},
    "vllm": {"options": {"enforce_eager": True, "block_size": 32, "max_model_len": 512}},
}  # fmt: skip


def main() -> None:
    """Three steps; before the second, vLLM is not told of the new weights."""
    table = merged(merged(POCKET, method("rloo").settings), SETTINGS)
    trainer = build_trainer(load(TrainSpec, None, (), table))
    known = VllmChat.reload
    steps = []
    for reload in (known, lambda chat, folder, name: None, known):
        VllmChat.reload = reload  # type: ignore[method-assign,assignment]
        steps.append(trainer.step().metrics)
    trainer.close()
    print(json.dumps(steps))


if __name__ == "__main__":
    main()
