"""The rollouts of a training step: groups on the next problems, refilled where asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from baselines.config import TrainSpec
from baselines.rollouts import endless, informative
from tfgrpo.evaluation import evaluate
from tfgrpo.metrics.pass_at_k import pass_at_k, with_samples
from tfgrpo.protocols import Policy
from tfgrpo.rollout import Grader, Sampling, sample_group
from tfgrpo.seeding import derive_seed
from tfgrpo.types import FailedRollout, Rollout, RolloutGroup, Task

Row = tuple[int, tuple[Rollout, ...], tuple[FailedRollout, ...]]


@dataclass(frozen=True, slots=True)
class Collected:
    """`kept` groups are learned from, `sampled` are all that were paid for; `drawn` problems ago
    the run began.
    """

    kept: list[RolloutGroup]
    sampled: list[RolloutGroup]
    drawn: int


async def collect(
    policy: Policy,
    spec: TrainSpec,
    tasks: Sequence[Task],
    grader: Grader,
    step: int,
    drawn: int,
    accelerator: Any,
) -> Collected:
    """Groups for step number `step`, beginning with problem number `drawn` of the endless order."""
    source = endless(tasks, spec.seed, drawn)
    kept: list[RolloutGroup] = []
    sampled: list[RolloutGroup] = []
    for round_ in range(1 + spec.refill):
        wanted = spec.prompts - len(kept)
        if not wanted:
            break
        chosen = [next(source) for _ in range(wanted)]
        drawn += wanted
        seed = derive_seed(spec.seed, "rollouts", step, round_)
        sampling = Sampling(spec.group_size, spec.sampling.params(seed), "rollout", detail=True)
        groups = await _sample(policy, chosen, grader, sampling, accelerator)
        sampled += groups
        kept += [g for g in groups if spec.keep == "all" or informative(g, spec)]
    return Collected(kept, sampled, drawn)


async def _sample(
    policy: Policy, tasks: Sequence[Task], grader: Grader, sampling: Sampling, accelerator: Any
) -> list[RolloutGroup]:
    """The groups of `tasks`, in their order, each process sampling its share."""
    from accelerate.utils import gather_object

    rank, world = accelerator.process_index, accelerator.num_processes
    own = range(len(tasks))[rank::world]
    groups = await asyncio.gather(*(sample_group(policy, tasks[i], grader, sampling) for i in own))
    rows: list[Row] = [(i, g.rollouts, g.failures) for i, g in zip(own, groups, strict=True)]
    if world > 1:
        rows = sorted(gather_object(rows), key=lambda row: row[0])
    return [RolloutGroup(tasks[i], rollouts, failures) for i, rollouts, failures in rows]


def probe(
    policy: Policy, spec: TrainSpec, tasks: Sequence[Task], grader: Grader
) -> dict[str, float]:
    """pass@1 and pass@n on the fixed probe problems, always under the same random numbers."""
    params = spec.sampling.params(derive_seed(spec.seed, "probe"))
    sampling = Sampling(spec.probe.n, params, "evaluate")
    outcomes = asyncio.run(evaluate(policy, tasks, grader, sampling))
    graded = with_samples(outcomes, spec.probe.n, allow_missing=True)
    return {
        f"probe_pass@{k}": sum(pass_at_k(o.n, o.c, k) for o in graded) / len(graded)
        for k in dict.fromkeys((1, spec.probe.n))
        if graded
    }
