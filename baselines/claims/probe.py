"""Measures a `Probe`: one rollout batch of a model, and what precision and updates do to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from baselines.batch import TokenBatch
from baselines.claims.tokens import PASSES, Probe, first_order
from baselines.config import TrainSpec
from baselines.logprobs import ReplyModel, decoder_of
from baselines.objective.controllers import Controllers
from baselines.objective.loss import objective_loss
from baselines.objective.plan import Scan, make_plan, needs_scan
from baselines.objective.spec import PolicyGradient, PpoClip
from baselines.objective.surrogates import clipped, token_ratio
from baselines.rollouts import micro_batches, minibatches, to_batch
from baselines.trainer import SHORT_ROW, World
from tfgrpo.errors import ConfigError
from tfgrpo.llm.transformers_local import TransformersChat
from tfgrpo.policy import BlockPolicy
from tfgrpo.rollout import Sampling, sample_group
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Message, RolloutGroup, Task

SMALL = 0.1
"""Share of the run's learning rate at which an update counts as small."""
CELLS = 20_000_000
"""Logits that may be kept before and after an update; 4 bytes each, twice."""
ROWS = 64
"""Tokens whose logits are compared at once, in twice the precision."""


def measure(spec: TrainSpec, world: World) -> Probe:
    """Sample `spec.prompts` groups in float32, and train `world.model` on them.

    `spec` is that of a method with a clip. Raises ConfigError otherwise, or if there are fewer
    problems than a step takes.
    """
    part = spec.objective.surrogate
    if not isinstance(part, PpoClip) or len(world.tasks) < spec.prompts:
        raise ConfigError("The probe needs a method with a clip and a step's problems; use grpo.")
    batch = _drawn(spec, world).to(world.model.device)
    module = ReplyModel(world.model.float(), spec.sampling.temperature)
    short = batch.ids.device.type == "cpu" and batch.ids.shape[1] <= SHORT_ROW
    decoder_of(module.model).set_attn_implementation("eager" if short else "sdpa")
    mask = batch.mask
    half = {name: _passed(module, batch, spec, name) for name in (torch.bfloat16, torch.float16)}
    at, predicted, measured = _small_update(spec, deepcopy(module), batch)
    clip = _to_the_clip(spec, part, module, batch)
    rows = mask.nonzero()[:, 0]
    return Probe(
        group=_integers(batch.group[rows]),
        sampled=_floats(batch.logp_rollout[mask]),
        bfloat16=_floats(half[torch.bfloat16].lp[mask]),
        float16=_floats(half[torch.float16].lp[mask]),
        at=_integers(at),
        advantage=_floats(batch.advantages[rows[at]]),
        predicted=predicted,
        measured=measured,
        clip_group=_integers(clip[0]),
        clip_upper=_integers(clip[1]),
        clip_probability=_floats(clip[2]),
        passed=PASSES * int(mask.sum()),
    )


def _drawn(spec: TrainSpec, world: World) -> TokenBatch:
    """A rollout batch on the first problems, in float32."""
    chat = TransformersChat.of(world.model, world.tokenizer, world.name, spec.model.max_batch_rows)

    def render(task: Task, index: int) -> tuple[Message, ...]:
        return world.pack.render("solve", library="", question=task.prompt)

    params = spec.sampling.params(derive_seed(spec.seed, "probe of claims"))
    sampling = Sampling(spec.group_size, params, "rollout", detail=True)

    async def groups() -> list[RolloutGroup]:
        policy = BlockPolicy(world.wrap(chat), world.pack)
        tasks = world.tasks[: spec.prompts]
        return await asyncio.gather(
            *(sample_group(policy, task, world.grader, sampling) for task in tasks)
        )

    try:
        return to_batch(asyncio.run(groups()), spec, render, chat.prompt_tokens, chat.decode)
    finally:
        chat.close()


@torch.no_grad()
def _passed(
    module: ReplyModel, batch: TokenBatch, spec: TrainSpec, dtype: torch.dtype = torch.float32
) -> Scan:
    """Log-probabilities and entropies (B, T), as a trainer of that precision computes them."""
    found = [torch.zeros(batch.mask.shape, device=batch.ids.device) for _ in range(2)]
    for index in micro_batches(batch, spec.micro_tokens):
        micro = batch.rows(index)
        with torch.autocast(batch.ids.device.type, dtype, enabled=dtype != torch.float32):
            outputs = module(micro)
        for whole, own in zip(found, outputs, strict=True):
            whole[index, : own.shape[1]] = own.float()
    return Scan(*found)


# a small update -----------------------------------------------------------------------------------


def _small_update(
    spec: TrainSpec, module: ReplyModel, batch: TokenBatch
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Both sides of the covariance identity at some reply tokens: their numbers, and (S,) each.

    One step of AdamW by the policy gradient of the whole batch at `SMALL` of the learning rate.
    """
    objective = spec.objective.model_copy(update={"surrogate": PolicyGradient(), "masks": ()})
    size = module.model.get_output_embeddings().weight.shape[0]
    tokens = int(batch.mask.sum())
    draw = torch.Generator().manual_seed(derive_seed(spec.seed, "positions of claims"))
    at = torch.randperm(tokens, generator=draw)[: max(1, CELLS // size)].sort().values
    before = _logits(module, batch, spec, at)
    small = spec.model_copy(update={"objective": objective})
    optimiser = _optimiser(small, module, SMALL)
    for _ in _updates(small, module, [batch], optimiser):
        pass
    after = _logits(module, batch, spec, at)
    sides = [
        first_order(
            before[start : start + ROWS].astype(float), after[start : start + ROWS].astype(float)
        )
        for start in range(0, len(at), ROWS)
    ]
    predicted, measured = (np.concatenate(side) for side in zip(*sides, strict=True))
    return at, predicted, measured


@torch.no_grad()
def _logits(module: ReplyModel, batch: TokenBatch, spec: TrainSpec, at: Tensor) -> np.ndarray:
    """Logits over temperature at reply tokens number `at`, in the mask's order: (S, V) float32."""
    head = module.model.get_output_embeddings()
    number = torch.full(batch.mask.shape, -1, device=batch.ids.device)
    number[batch.mask] = torch.arange(int(batch.mask.sum()), device=batch.ids.device)
    found = np.empty((len(at), head.weight.shape[0]), dtype=np.float32)
    wanted = torch.isin(number, at.to(number.device))
    for index in micro_batches(batch, spec.micro_tokens):
        micro = batch.rows(index)
        hidden_BLD = decoder_of(module.model)(input_ids=micro.ids, use_cache=False)[0]
        rows, columns = wanted[index][:, : micro.mask.shape[1]].nonzero(as_tuple=True)
        hidden_SD = hidden_BLD[rows, micro.prompt[rows] + columns - 1]
        z = linear(hidden_SD, head.weight, head.bias).float() / module.temperature
        own = number[index][:, : micro.mask.shape[1]][rows, columns]
        found[np.searchsorted(at.numpy(), own.cpu().numpy())] = z.cpu().numpy()
    return found


# updates ------------------------------------------------------------------------------------------


def _to_the_clip(
    spec: TrainSpec, part: PpoClip, module: ReplyModel, batch: TokenBatch
) -> tuple[Tensor, Tensor, Tensor]:
    """Problem, side and first probability of each token that the clip stops, in `PASSES` passes."""
    old = _passed(module, batch, spec).lp
    batch = replace(batch, logp_old=old)
    parts = [
        mini
        for epoch in range(PASSES)
        for mini in minibatches(batch, spec.minibatches, spec.seed, "claims", epoch)
    ]
    optimiser = _optimiser(spec, module, 1.0)
    found: list[Tensor] = []
    for micro, lp, A in _updates(spec, module, parts, optimiser):
        assert micro.logp_old is not None
        below, above = clipped(token_ratio(lp, micro.logp_old), A, part.low, part.high)
        for stopped, upper in ((below, 0.0), (above, 1.0)):
            rows, columns = (stopped & micro.mask).nonzero(as_tuple=True)
            p = micro.logp_old[rows, columns].exp()
            found.append(torch.stack([micro.group[rows].to(p), torch.full_like(p, upper), p]))
    group, upper_side, probability = torch.cat(found, dim=1)
    return group, upper_side, probability


def _optimiser(spec: TrainSpec, module: ReplyModel, share: float) -> torch.optim.AdamW:
    """The trainer's, at a share of its rate."""
    own = spec.optimiser
    return torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=share * own.lr,
        betas=own.betas,
        weight_decay=own.weight_decay,
    )


def _updates(
    spec: TrainSpec,
    module: ReplyModel,
    parts: list[TokenBatch],
    optimiser: torch.optim.AdamW,
) -> Iterator[tuple[TokenBatch, Tensor, Tensor]]:
    """One update for each of `parts`; yields each micro-batch with its lp and A as they went in."""
    controllers = Controllers(spec.objective)
    for number, mini in enumerate(parts):
        scan = _passed(module, mini, spec) if needs_scan(spec.objective) else None
        draw = torch.Generator().manual_seed(derive_seed(spec.seed, "selection", number))
        plan = make_plan(spec.objective, mini, scan, controllers, draw, spec.sampling.max_tokens)
        for index in micro_batches(mini, spec.micro_tokens):
            micro = mini.rows(index)
            settled = plan.rows(index, micro.mask.shape[1])
            lp, H = module(micro, entropy_gradient=bool(plan.bonus))
            loss, _ = objective_loss(spec.objective, micro, settled, lp, H)
            loss.backward()
            yield micro, lp.detach(), settled.A
        torch.nn.utils.clip_grad_norm_(module.parameters(), spec.optimiser.max_grad_norm)
        optimiser.step()
        optimiser.zero_grad()


def _floats(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _integers(values: Tensor) -> np.ndarray:
    return values.detach().cpu().long().numpy()
