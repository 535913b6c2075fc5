"""How passes through a model are shared out among processes, and put together again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from baselines.batch import TokenBatch
from baselines.config import TrainSpec
from baselines.rollouts import micro_batches


def on_cpu(spec: TrainSpec) -> bool:
    """Whether a run trains on the CPU; accelerate must be told so from its first use on."""
    return getattr(spec.model, "device", "auto") == "cpu" or not torch.cuda.is_available()


@dataclass(frozen=True, slots=True)
class Turn:
    """One pass of this process: rows `index` of the batch.

    Where the parts do not divide evenly a process is `idle` in the last round: it passes a row as
    well, since all must synchronise alike, but what comes out counts for nothing.
    """

    index: Tensor
    idle: bool
    last: bool


def turns(batch: TokenBatch, micro_tokens: int, accelerator: Any) -> Iterator[Turn]:
    """This process's turns through the micro-batches of `batch`; equally many in every process."""
    parts = micro_batches(batch, micro_tokens)
    world, rank = accelerator.num_processes, accelerator.process_index
    rounds = -(-len(parts) // world)
    for i in range(rounds):
        mine = i * world + rank
        idle = mine >= len(parts)
        yield Turn(parts[0][:1] if idle else parts[mine], idle, i == rounds - 1)


@torch.no_grad()
def passed(
    module: Any, batch: TokenBatch, micro_tokens: int, accelerator: Any
) -> tuple[Tensor, ...]:
    """Each (B, T) output of `module` for the whole batch, in every process, without gradients."""
    found: list[Tensor] = []
    for turn in turns(batch, micro_tokens, accelerator):
        micro = batch.rows(turn.index)
        with accelerator.autocast():
            outputs = module(micro)
        if not found:
            found = [torch.zeros(batch.mask.shape, device=batch.ids.device) for _ in outputs]
        if not turn.idle:
            for whole, part in zip(found, outputs, strict=True):
                whole[turn.index, : part.shape[1]] = part.float()
    if accelerator.num_processes > 1:
        found = [accelerator.reduce(whole) for whole in found]
    return tuple(found)
