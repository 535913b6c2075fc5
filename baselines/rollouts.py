"""From graded groups to the tensors of an update."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence

import torch

from baselines.batch import TokenBatch, padded
from baselines.config import TrainSpec
from baselines.objective.advantages import GroupRewards, estimate
from baselines.objective.spec import Gae
from baselines.planning import planning_tokens
from baselines.rewards import training_reward
from tfgrpo.advantage import is_informative
from tfgrpo.errors import BackendError, GradingError
from tfgrpo.seeding import derive_rng
from tfgrpo.types import Message, Rollout, RolloutGroup, Task

Encode = Callable[[tuple[Message, ...]], Sequence[int]]
Render = Callable[[Task, int], tuple[Message, ...]]
Decode = Callable[[Sequence[int]], str]


def endless(tasks: Sequence[Task], seed: int, start: int = 0) -> Iterator[Task]:
    """Tasks in an order drawn anew for every pass over them, from position `start` on."""
    position = start
    while True:
        epoch, offset = divmod(position, len(tasks))
        order = list(tasks)
        derive_rng(seed, "order", epoch).shuffle(order)
        for task in order[offset:]:
            position += 1
            yield task


def informative(group: RolloutGroup, spec: TrainSpec) -> bool:
    """Whether the rewards that are trained on have any spread."""
    return is_informative(_rewards(group, spec))


def _rewards(group: RolloutGroup, spec: TrainSpec) -> list[float]:
    limit = spec.sampling.max_tokens
    return [training_reward(rollout, spec.rewards, limit) for rollout in group.rollouts]


def to_batch(
    groups: Sequence[RolloutGroup], spec: TrainSpec, render: Render, encode: Encode, decode: Decode
) -> TokenBatch:
    """One row per graded rollout; a failure has no row, and no reward of zero.

    Raises BackendError if the sampler gave no token ids or log-probabilities.
    """
    ids: list[list[int]] = []
    prompts: list[int] = []
    rollouts: list[Rollout] = []
    numbers: list[int] = []
    rewards: list[float] = []
    advantages: list[float] = []
    for number, group in enumerate(groups):
        own = _rewards(group, spec)
        _must_suit(own, group, spec)
        lengths = [len(_tokens(r)) for r in group.rollouts]
        if not isinstance(spec.objective.estimator, Gae):
            advantages += estimate(spec.objective.estimator, GroupRewards(own, lengths))
        for rollout in group.rollouts:
            prompt = list(encode(render(group.task, rollout.index)))
            ids.append([*prompt, *_tokens(rollout)])
            prompts.append(len(prompt))
            rollouts.append(rollout)
            numbers.append(number)
        rewards += own

    mask = [[not _masked(r, spec)] * len(_tokens(r)) for r in rollouts]
    patterns = [re.compile(pattern) for pattern in spec.planning]
    planning = [planning_tokens(_tokens(r), patterns, decode) for r in rollouts]
    return TokenBatch(
        ids=padded(ids, torch.int64),
        prompt=torch.tensor(prompts),
        targets=padded([_tokens(r) for r in rollouts], torch.int64),
        mask=padded(mask, torch.bool),
        group=torch.tensor(numbers),
        rewards=torch.tensor(rewards, dtype=torch.float64),
        correct=torch.tensor([r.score.correct for r in rollouts]),
        advantages=torch.tensor(advantages or [0.0] * len(rollouts)),
        logp_rollout=padded([r.completion.logprobs or () for r in rollouts], torch.float32),
        entropy_rollout=padded([_entropies(r) for r in rollouts], torch.float32),
        planning=padded(planning, torch.bool) if patterns else None,
    )


def _must_suit(rewards: Sequence[float], group: RolloutGroup, spec: TrainSpec) -> None:
    """Raise GradingError if a part that is defined on 0 and 1 would get another reward."""
    part = next((p for p in spec.objective.parts if p.binary), None)
    if part is not None and not set(rewards) <= {0.0, 1.0}:
        name = type(part).__name__
        raise GradingError(
            f"Task {group.task.task_id} has rewards other than 0 and 1, which {name} is not "
            "defined for; choose grpo, dr-grpo, rloo or opo."
        )


def _tokens(rollout: Rollout) -> Sequence[int]:
    completion = rollout.completion
    if completion.token_ids is None or completion.logprobs is None:
        raise BackendError(
            "The sampler gave no token ids and log-probabilities, which an update needs; train "
            "with an in-process model."
        )
    return completion.token_ids


def _entropies(rollout: Rollout) -> Sequence[float]:
    """NaN where the sampler told none, so that nothing can be concluded from them unnoticed."""
    known = rollout.completion.entropies
    return [math.nan] * len(_tokens(rollout)) if known is None else known


def _masked(rollout: Rollout, spec: TrainSpec) -> bool:
    return spec.mask_truncated and rollout.completion.finish_reason == "length"


def minibatches(batch: TokenBatch, count: int, seed: int, *labels: object) -> Iterator[TokenBatch]:
    """`count` parts of whole groups, as equal as can be, in an order drawn from the seed."""
    groups: list[int] = batch.group.unique().tolist()
    derive_rng(seed, "minibatches", *labels).shuffle(groups)
    for part in range(min(count, len(groups))):
        chosen = torch.tensor(groups[part::count], device=batch.group.device)
        yield batch.rows(torch.isin(batch.group, chosen).nonzero()[:, 0])


def micro_batches(batch: TokenBatch, tokens: int) -> list[torch.Tensor]:
    """Indices of rows of similar length, each set within `tokens` when padded.

    A row that is longer than `tokens` goes alone.
    """
    sizes = batch.sizes
    order = sizes.argsort(descending=True, stable=True)
    parts, start = [], 0
    while start < len(order):
        height = max(1, tokens // int(sizes[order[start]]))
        parts.append(order[start : start + height])
        start += height
    return parts
