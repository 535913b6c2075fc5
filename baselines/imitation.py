"""Supervised fine-tuning on a model's own replies: the weights arm without a policy gradient.

Where the demonstrations come from is `spec.source`; how they are learned is the same for all. A
run is a function of its settings: every draw has a seed of its own, and there is no dropout.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from baselines.batch import padded
from baselines.imitation_config import (
    Distil,
    Diverse,
    ExpertIteration,
    Gem,
    ImitateSpec,
    LossSpec,
    Rejection,
    SourceSpec,
)
from baselines.logprobs import CHUNK, check_head, token_stats
from tfgrpo.advantage import group_kind
from tfgrpo.errors import BackendError, ConfigError
from tfgrpo.ledger import flops, update_flops
from tfgrpo.llm.inprocess.worker import Encoder
from tfgrpo.llm.transformers_local import TransformersChat, end_tokens
from tfgrpo.policy import BlockPolicy
from tfgrpo.prompts import PromptPack
from tfgrpo.protocols import ChatModel, Policy
from tfgrpo.rollout import Grader, Sampling, sample_groups
from tfgrpo.seeding import derive_rng, derive_seed
from tfgrpo.types import Rollout, RolloutGroup, Score, StepRecord, Task, Usage


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A reply to learn, as tokens: the prompt, and the reply with its end token.

    `weight` multiplies the loss of each of its tokens.
    """

    task: Task
    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    text: str
    answer: str | None
    mode: str | None
    weight: float

    @property
    def size(self) -> int:
        return len(self.prompt) + len(self.reply)


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


def graded(source: SourceSpec) -> bool:
    """Whether gold decides what is learned."""
    return not isinstance(source, Distil) or source.correct_only


def take_all(task: Task, texts: Sequence[str]) -> list[Score]:
    """The grader that asks nobody: every reply is taken, and none is rewarded."""
    return [Score(0.0, True, None) for _ in texts]


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
        raise ConfigError(_nothing(spec.source, groups))
    size = max(d.size for d in found)
    if longest is not None and size > longest:
        raise ConfigError(
            f"The longest demonstration has {size} tokens, and the model's context {longest}; "
            "choose another model or shorter replies."
        )
    return found


def demonstrations(
    spec: ImitateSpec,
    groups: Sequence[RolloutGroup],
    prompt: Callable[[Task], tuple[int, ...]],
    reply: Callable[[Rollout], tuple[int, ...]],
) -> list[Demonstration]:
    """What `groups` give to learn, by problem; a problem may have several groups.

    With `spec.balance` the weights of a problem's replies sum to 1.
    """
    tasks = {group.task.task_id: group.task for group in groups}
    rollouts: dict[str, list[Rollout]] = {task_id: [] for task_id in tasks}
    for group in groups:
        rollouts[group.task.task_id] += group.rollouts
    found: list[Demonstration] = []
    for task_id, task in tasks.items():
        chosen = select(spec.source, rollouts[task_id])
        total = sum(count for _, count in chosen) if spec.balance else 1
        asked = prompt(task)
        found += [
            Demonstration(
                task=task,
                prompt=asked,
                reply=reply(rollout),
                text=rollout.completion.text,
                answer=rollout.score.answer,
                mode=rollout.score.mode,
                weight=count / total,
            )
            for rollout, count in chosen
        ]
    return found


def select(source: SourceSpec, rollouts: Sequence[Rollout]) -> list[tuple[Rollout, int]]:
    """The replies to one problem that are learned, no text twice, and how much each counts.

    A reply that was cut off is never learned: it would teach not to end.
    """
    kept = [r for r in rollouts if r.score.correct and r.completion.finish_reason == "stop"]
    texts = Counter(r.completion.text for r in kept)
    first: dict[str, Rollout] = {}
    for rollout in kept:
        first.setdefault(rollout.completion.text, rollout)
    distinct = list(first.values())
    match source:
        case Distil():
            return [(r, texts[r.completion.text]) for r in distinct]
        case Diverse(keep=keep):
            return [(r, 1) for r in spread(distinct, keep)]
    return [(r, 1) for r in distinct]


def spread(rollouts: Sequence[Rollout], keep: int) -> list[Rollout]:
    """At most `keep` of them: new strategies first, then new answers, then the rarest strategy."""
    left, chosen = list(rollouts), list[Rollout]()
    modes, answers = Counter[str | None](), Counter[str | None]()
    while left and len(chosen) < keep:
        best = min(
            left,
            key=lambda r: (
                modes[r.score.mode] > 0,
                answers[r.score.answer] > 0,
                modes[r.score.mode],
            ),
        )
        left.remove(best)
        chosen.append(best)
        modes[best.score.mode] += 1
        answers[best.score.answer] += 1
    return chosen


def end_token(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The token that ends a reply, or none: the tokenizer's own among those that the model knows.

    A model that ends at several tokens lists the end of a document beside the end of a turn.
    """
    ends = end_tokens(model, tokenizer)
    return (tokenizer.eos_token_id,) if tokenizer.eos_token_id in ends else ends[:1]


def _nothing(source: SourceSpec, groups: Sequence[RolloutGroup]) -> str:
    replies = sum(group.n for group in groups)
    failures = [failed.failure.reason for group in groups for failed in group.failures]
    more = f" ({len(failures)} failed, the first because: {failures[0]})" if failures else ""
    wanted = "correct and complete" if graded(source) else "complete"
    advice = "give easier problems, more samples or a larger sampling.max_tokens."
    if isinstance(source, Rejection):
        advice = "give a learning run that solved some problems."
    return f"None of {replies} replies is {wanted}{more}, so there is nothing to learn; {advice}"


# learning -----------------------------------------------------------------------------------------


def gem_loss(logits_NV: Tensor, targets_N: Tensor, beta: float) -> Tensor:
    """-sum_v q_v (lp_y - lp_v), q = softmax(z / beta) held constant (arXiv 2408.16673, linear).

    (N,), in nats. Its gradient with respect to the logits is q - e_y.
    """
    lp_NV = logits_NV.log_softmax(-1)
    q_NV = (logits_NV.detach() / beta).softmax(-1)
    return (q_NV * lp_NV).sum(-1) - lp_NV.gather(-1, targets_N[:, None])[:, 0]


def token_losses(logits_NV: Tensor, targets_N: Tensor, loss: LossSpec) -> Tensor:
    """(3, N) float32 in nats: the loss, which alone has a gradient, -log p(y), and the entropy."""
    lp_N, H_N = token_stats(logits_NV, targets_N, 1.0, entropy_gradient=False)
    loss_N = -lp_N
    if isinstance(loss, Gem):
        loss_N = gem_loss(logits_NV.float(), targets_N, loss.beta)
    return torch.stack([loss_N, -lp_N.detach(), H_N.detach()])


def reply_losses(model: Any, batch: Sequence[Demonstration], loss: LossSpec) -> Tensor:
    """`token_losses` of the reply tokens of `batch`, one reply after the other: (3, N).

    The decoder runs on whole rows; its head on the positions that predict reply tokens, `CHUNK` at
    a time, recomputed in the backward pass. Padding stands to the right of all that is read.
    """
    ids_BL = padded([[*d.prompt, *d.reply] for d in batch], torch.int64).to(model.device)
    hidden_BLD = model.get_decoder()(input_ids=ids_BL, use_cache=False).last_hidden_state
    read = [h[len(d.prompt) - 1 : d.size - 1] for h, d in zip(hidden_BLD, batch, strict=True)]
    targets_N = torch.tensor([t for d in batch for t in d.reply], device=model.device)
    head = model.get_output_embeddings()

    def work(hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        return token_losses(linear(hidden_ND, head.weight, head.bias), targets_N, loss)

    parts = zip(torch.cat(read).split(CHUNK), targets_N.split(CHUNK), strict=True)
    return torch.cat([checkpoint(work, h, y, use_reentrant=False) for h, y in parts], dim=1)


def token_weights(batch: Sequence[Demonstration]) -> Tensor:
    """The weight of each reply token, in the order of `reply_losses`: (N,)."""
    return torch.tensor([d.weight for d in batch for _ in d.reply])


def buckets(batch: Sequence[Demonstration], tokens: int) -> Iterator[list[Demonstration]]:
    """Demonstrations of similar length, each list within `tokens` when padded, or one alone."""
    left = sorted(batch, key=lambda d: -d.size)
    while left:
        height = max(1, tokens // left[0].size)
        yield left[:height]
        left = left[height:]


class Student:
    """A model and its optimiser, for the passes of one round."""

    def __init__(self, model: Any, spec: ImitateSpec) -> None:
        self.model = model
        self.spec = spec
        self.updates = 0
        self.optimiser = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=spec.optimiser.lr,
            betas=spec.optimiser.betas,
            weight_decay=spec.optimiser.weight_decay,
        )

    def learn(self, order: Sequence[Demonstration]) -> dict[str, float]:
        """One pass over `order`. Means are over reply tokens by their weights, in nats."""
        sums, norms = torch.zeros(3), []
        for start in range(0, len(order), self.spec.batch_size):
            own, norm = self._update(order[start : start + self.spec.batch_size])
            sums += own
            norms.append(norm)
        loss, nll, entropy = (sums / sum(map(_mass, order))).tolist()
        return {
            "loss": loss,
            "nll": nll,
            "entropy": entropy,
            "grad_norm": sum(norms) / len(norms),
            "updates": float(len(norms)),
        }

    def _update(self, batch: Sequence[Demonstration]) -> tuple[Tensor, float]:
        """One optimiser step; the weighted sums of `reply_losses` (3,) and the gradient's norm."""
        spec, device = self.spec, self.model.device
        sums, total = torch.zeros(3), sum(map(_mass, batch))
        for part in buckets(batch, spec.micro_tokens):
            with torch.autocast(device.type, torch.bfloat16, spec.precision != "float32"):
                losses = reply_losses(self.model, part, spec.loss)
            own = losses @ token_weights(part).to(device)
            (own[0] / total).backward()
            sums += own.detach().cpu()
        scale = min(1.0, (self.updates + 1) / (spec.optimiser.warmup_steps or 1))
        for group in self.optimiser.param_groups:
            group["lr"] = spec.optimiser.lr * scale
        weights = self.model.parameters()
        norm = float(torch.nn.utils.clip_grad_norm_(weights, spec.optimiser.max_grad_norm))
        if not math.isfinite(norm):
            raise BackendError(
                f"Update {self.updates} has no finite gradient; lower optimiser.lr and start a new "
                "run."
            )
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.updates += 1
        return sums, norm


def _mass(demonstration: Demonstration) -> float:
    return demonstration.weight * len(demonstration.reply)
