"""Supervised fine-tuning on a model's own replies: the weights arm without a policy gradient.

Where the demonstrations come from is `spec.source`; how they are learned is the same for all. A
run is a function of its settings: every draw has a seed of its own, and there is no dropout.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch

from baselines.demonstrations import (
    Demonstration,
    demonstrations,
    end_token,
    graded,
    nothing_to_learn,
    take_all,
)
from baselines.imitation_config import Distil, ExpertIteration, ImitateSpec, Rejection
from baselines.logprobs import check_head
from baselines.sft import Student
from tfgrpo.advantage import group_kind
from tfgrpo.errors import ConfigError
from tfgrpo.ledger import flops, update_flops
from tfgrpo.llm.inprocess.worker import Encoder
from tfgrpo.llm.transformers_local import TransformersChat
from tfgrpo.policy import BlockPolicy
from tfgrpo.prompts import PromptPack
from tfgrpo.protocols import ChatModel, Policy
from tfgrpo.rollout import Grader, Sampling, sample_groups
from tfgrpo.seeding import derive_rng, derive_seed
from tfgrpo.types import Rollout, RolloutGroup, StepRecord, Task, Usage


@dataclass(frozen=True, slots=True)
class World:
    """What is fine-tuned, and what its demonstrations are made of.

    `groups` are the rollouts of a learning run (rejection); `teacher` is the policy to distil,
    round the sampler that it is given. `wrap` puts a meter round the sampler of each round.
    """

    model: Any
    tokenizer: Any
    name: str
    pack: PromptPack
    tasks: Sequence[Task]
    grader: Grader
    groups: Sequence[RolloutGroup] = ()
    teacher: Callable[[ChatModel], Policy] | None = None
    wrap: Callable[[ChatModel], ChatModel] = lambda model: model
    max_batch_rows: int = 256


@dataclass(frozen=True, slots=True)
class Watch:
    """Whoever looks on: told of each group that is sampled, and of what each round learns."""

    on_group: Callable[[int, RolloutGroup], None] = lambda number, group: None
    on_demonstrations: Callable[[int, Sequence[Demonstration]], None] = lambda number, chosen: None


# the loop -----------------------------------------------------------------------------------------


def imitate(spec: ImitateSpec, world: World, watch: Watch | None = None) -> Iterator[StepRecord]:
    """Fine-tune `world.model` in place; yields a record for each pass over the demonstrations.

    The rollouts of a round are told, and paid, in the record of its first pass. Raises ConfigError
    if a round has nothing to learn, and BackendError if the weights diverge.
    """
    watch = watch or Watch()
    check_head(world.model)
    model = world.model.float().eval()  # master weights; precision is that of the passes
    parameters = sum(p.numel() for p in model.parameters())
    rounds = spec.source.rounds if isinstance(spec.source, ExpertIteration) else 1
    base = deepcopy(model.state_dict()) if rounds > 1 else {}
    for number in range(rounds):
        started = time.monotonic()
        groups = list(world.groups)
        if not isinstance(spec.source, Rejection):
            groups = _sample(spec, world, number, watch)
        demonstrations = _demonstrations(spec, world, groups)
        if number:
            model.load_state_dict(base)
        watch.on_demonstrations(number, demonstrations)
        record = _round_record(spec, groups, demonstrations)
        student = Student(model, spec)
        for epoch in range(spec.epochs):
            order = list(demonstrations)
            derive_rng(spec.seed, "order", number, epoch).shuffle(order)
            learned = student.learn(order)
            train = Usage(int(learned["updates"]), prompt_tokens=sum(d.size for d in order))
            work = update_flops(train.prompt_tokens, parameters)
            work += sum(flops(usage, parameters) for usage in record.usage.values())
            yield replace(
                record,
                step=number * spec.epochs + epoch,
                epoch=epoch,
                policy_id=f"{world.name}+{spec.source.kind}@{number}.{epoch}",
                usage={**record.usage, "train": train},
                metrics={
                    **record.metrics,
                    **learned,
                    "round": float(number),
                    "flops": float(work),
                    "seconds": time.monotonic() - started,
                },
            )
            record = replace(record, groups={}, failures=0, usage={}, metrics={})
            started = time.monotonic()


def _round_record(
    spec: ImitateSpec, groups: Sequence[RolloutGroup], demonstrations: Sequence[Demonstration]
) -> StepRecord:
    """What there is to tell of a round before it trains; rollouts of another run cost nothing."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    replies = Counter(d.task.task_id for d in demonstrations)
    modes = {(d.task.task_id, d.mode) for d in demonstrations}
    truncated = sum(r.completion.finish_reason == "length" for r in rollouts)
    metrics = {
        "demonstrations": float(len(demonstrations)),
        "problems": float(len(replies)),
        "modes": len(modes) / len(replies),
        "truncated": truncated / len(rollouts),
    }
    usage = {}
    if not isinstance(spec.source, Rejection):
        rolled = sum((r.completion.usage for r in rollouts), Usage())
        usage["rollout"] = replace(rolled, seconds=0.0)
    kinds = Counter("unscored" for _ in groups)
    if graded(spec.source):
        metrics["accuracy"] = sum(r.score.correct for r in rollouts) / len(rollouts)
        kinds = Counter(group_kind(group.rewards) for group in groups)
    return StepRecord(
        step=0,
        epoch=0,
        policy_id="",
        reward_mean=sum(r.score.reward for r in rollouts) / len(rollouts),
        groups=dict(sorted(kinds.items())),
        failures=sum(len(group.failures) for group in groups),
        usage=usage,
        metrics=metrics,
    )


# demonstrations -----------------------------------------------------------------------------------


def _sample(spec: ImitateSpec, world: World, number: int, watch: Watch) -> list[RolloutGroup]:
    """A group for each task, in their order, from the weights as they are."""
    assert not isinstance(spec.source, Rejection)
    model = world.model
    if spec.precision != "float32":
        model = deepcopy(model).to(getattr(torch, spec.precision))
    params = spec.sampling.params(derive_seed(spec.seed, "rollouts", number))
    sampling = Sampling(spec.source.samples, params, "rollout", detail=True)
    gold = graded(spec.source)
    tasks = world.tasks if gold else [task.without_gold() for task in world.tasks]
    grader = world.grader if gold else take_all
    name = f"{world.name}@{number}"
    chat = TransformersChat.of(model, world.tokenizer, name, world.max_batch_rows)
    try:
        policy: Policy = BlockPolicy(world.wrap(chat), world.pack)
        if isinstance(spec.source, Distil):
            assert world.teacher is not None
            policy = world.teacher(policy.model)
        found: dict[str, RolloutGroup] = {}

        async def collect() -> None:
            async for group in sample_groups(policy, tasks, grader, sampling):
                found[group.task.task_id] = group
                watch.on_group(number, group)

        asyncio.run(collect())
    finally:
        chat.close()
    return [found[task.task_id] for task in tasks]


def _demonstrations(
    spec: ImitateSpec, world: World, groups: Sequence[RolloutGroup]
) -> list[Demonstration]:
    """What a round learns. Raises ConfigError if that is nothing, or does not fit the model."""
    longest = getattr(world.model.config.get_text_config(), "max_position_embeddings", None)
    encoder = Encoder(world.tokenizer, longest)
    end = end_token(world.model, world.tokenizer)

    def prompt(task: Task) -> tuple[int, ...]:
        messages = world.pack.render("solve", library="", question=task.prompt)
        return encoder.tokens(messages)

    def reply(rollout: Rollout) -> tuple[int, ...]:
        sampled = rollout.completion.token_ids
        if sampled is not None:
            return sampled
        text = rollout.completion.text
        return (*world.tokenizer(text, add_special_tokens=False)["input_ids"], *end)

    found = demonstrations(spec, groups, prompt, reply)
    if not found:
        raise ConfigError(nothing_to_learn(spec.source, groups))
    size = max(d.size for d in found)
    if longest is not None and size > longest:
        raise ConfigError(
            f"The longest demonstration has {size} tokens, and the model's context {longest}; "
            "choose another model or shorter replies."
        )
    return found
