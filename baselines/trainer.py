"""The weights arm's loop: sample groups, settle a plan, take its gradient, repeat.

One file for one process and for several, whose weights are whole (DDP) or sharded (FSDP): every
process knows the whole batch as small tensors, and only passes through the model are shared out
(by `accelerate`). A run is a function of
its settings: every random draw has a seed of its own, so a resumed run equals one that was never
stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.batch import TokenBatch
from baselines.collect import Collected, collect, probe
from baselines.config import TrainSpec
from baselines.critic import Critic
from baselines.logprobs import ReplyModel, check_head, decoder_of
from baselines.objective.controllers import Controllers
from baselines.objective.loss import objective_loss
from baselines.objective.plan import Plan, Scan, make_plan, needs_scan
from baselines.objective.spec import Gae
from baselines.records import Tally, rollout_metrics
from baselines.rollouts import minibatches, to_batch
from baselines.sampler import sampler_of, whole
from baselines.sharing import on_cpu, passed, turns
from tfgrpo.advantage import group_kind
from tfgrpo.errors import BackendError, ConfigError
from tfgrpo.ledger import flops, update_flops
from tfgrpo.llm.inprocess.heap import give_back, keep_few_kernels
from tfgrpo.llm.inprocess.worker import Encoder
from tfgrpo.policy import BlockPolicy
from tfgrpo.prompts import PromptPack
from tfgrpo.protocols import ChatModel
from tfgrpo.rollout import Grader
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Message, StepRecord, Task, Usage

SHORT_ROW = 512  # tokens, up to which attention may hold its scores
MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True, slots=True)
class World:
    """What a trainer trains on and with; `wrap` puts a meter round the sampler of each step."""

    model: Any
    tokenizer: Any
    name: str
    pack: PromptPack
    tasks: Sequence[Task]
    probe: Sequence[Task]
    grader: Grader
    wrap: Callable[[ChatModel], ChatModel] = lambda model: model


@dataclass(slots=True)
class Position:
    """How far a run is: steps made, updates made, problems drawn."""

    step: int = 0
    update: int = 0
    drawn: int = 0

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step, "update": self.update, "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step, self.update, self.drawn = state["step"], state["update"], state["drawn"]


class Trainer:
    """Trains `world.model` in place; `run` yields a record for each step and can be left any time.

    `save` and `load` move the whole state; `export` writes an ordinary Hugging Face folder.
    """

    def __init__(self, spec: TrainSpec, world: World) -> None:
        from accelerate import Accelerator

        keep_few_kernels()
        self.spec = spec
        self.world = world
        check_head(world.model)
        self.accelerator = Accelerator(
            mixed_precision=MIXED[spec.precision],
            cpu=on_cpu(spec),
            step_scheduler_with_optimizer=False,
            log_with=list(spec.trackers) or None,
        )
        sharded = self._check_launch()
        model = world.model.float()  # master weights; precision is that of the passes
        self.reference: ReplyModel | None = None
        if spec.objective.requires("reference"):
            frozen = deepcopy(model).eval().requires_grad_(False)
            self.reference = ReplyModel(frozen, spec.sampling.temperature)
        self.sampler = sampler_of(spec, world.tokenizer, model, sharded=sharded)
        if spec.lora is not None:
            model = _with_lora(model, spec)
        if spec.gradient_checkpointing:
            # Renamed in transformers 5; the old name warns.
            enable = getattr(model, "activation_checkpointing_enable", None)
            (enable or model.gradient_checkpointing_enable)()
            model.enable_input_require_grads()
        module = ReplyModel(model, spec.sampling.temperature)
        weights = [p for p in module.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(
            weights,
            lr=spec.optimiser.lr,
            betas=spec.optimiser.betas,
            weight_decay=spec.optimiser.weight_decay,
        )
        self.module, self.optimiser = self.accelerator.prepare(module, optimiser)
        self.parameters = sum(p.numel() for p in module.parameters())
        self.critic: Critic | None = None
        if isinstance(spec.objective.estimator, Gae):
            estimator = spec.objective.estimator
            self.critic = Critic(model, estimator, spec.micro_tokens, self.accelerator)
        self.controllers = Controllers(spec.objective)
        self.position = Position()
        self.accelerator.register_for_checkpointing(self.position, self.controllers)
        self._check_lengths()

    def _check_launch(self) -> bool:
        """Whether weights are sharded. Raises ConfigError for what cannot be launched so."""
        kind, spec = self.accelerator.distributed_type, self.spec
        if kind not in ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP"):
            raise ConfigError(f"The trainer does not know {kind}; launch with DDP or FSDP.")
        if spec.vllm is not None and self.accelerator.num_processes > 1:
            raise ConfigError(
                "vLLM samples for a trainer of one process; launch one, and give vLLM further GPUs "
                "by vllm.options."
            )
        if kind != "FSDP":
            return False
        if not self.accelerator.is_fsdp2:
            raise ConfigError("FSDP's first version is not supported; add --fsdp_version 2.")
        if spec.lora is not None or isinstance(spec.objective.estimator, Gae):
            raise ConfigError(
                "Adapters and PPO's critic are not sharded; launch without FSDP, or choose another "
                "method and no lora."
            )
        return True

    def _check_lengths(self) -> None:
        """Raise ConfigError if a prompt and its reply cannot fit into the model's context."""
        config = self.world.model.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None)
        if longest is None:
            return
        budget = self.spec.sampling.max_tokens
        encoder = Encoder(self.world.tokenizer, longest)
        size = max(len(encoder.tokens(self._render(task))) for task in self.world.tasks)
        if size + budget > longest:
            raise ConfigError(
                f"The longest prompt has {size} tokens, which with max_tokens={budget} exceeds the "
                f"model's context of {longest}; lower sampling.max_tokens or drop long problems."
            )

    # the loop -----------------------------------------------------------------------------------

    def run(self) -> Iterator[StepRecord]:
        while self.position.step < self.spec.steps:
            yield self.step()

    def step(self) -> StepRecord:
        """Sample, update, and tell. Raises BackendError if no rollout could be graded."""
        started = time.monotonic()
        number = self.position.step
        found, batch, probed = self._rollouts(number)
        kept, all_groups = found.kept, found.sampled
        if not len(batch) and not any(group.n for group in all_groups):
            raise BackendError(
                "No rollout of the step could be graded; look at the failures, then run again."
            )
        metrics = rollout_metrics(kept, batch) | probed
        trained = 0
        if len(batch):
            updates = self._update(batch.to(self.accelerator.device), number)
            give_back()
            trained = int(updates.pop("trained_tokens"))
            metrics |= updates
        self.position.step += 1
        self.position.drawn = found.drawn  # only now: a budget may stop a step halfway
        rolled = sum((r.completion.usage for g in all_groups for r in g.rollouts), Usage())
        metrics["flops"] = float(
            flops(rolled, self.parameters) + update_flops(trained, self.parameters)
        )
        rewards = [r.score.reward for g in all_groups for r in g.rollouts]
        return StepRecord(
            step=number,
            epoch=self.position.drawn // len(self.world.tasks),
            policy_id=f"{self.world.name}+{self.spec.method}@{number}",
            reward_mean=sum(rewards) / len(rewards) if rewards else 0.0,
            groups=dict(sorted(Counter(group_kind(g.rewards) for g in all_groups).items())),
            failures=sum(len(g.failures) for g in all_groups),
            usage={
                "rollout": replace(rolled, seconds=0.0),
                "train": Usage(calls=self.spec.updates_per_rollout, prompt_tokens=trained),
            },
            metrics=metrics | {"seconds": time.monotonic() - started},
        )

    # rollouts -----------------------------------------------------------------------------------

    def _rollouts(self, number: int) -> tuple[Collected, TokenBatch, dict[str, float]]:
        """The groups of a step, as a batch too, and the probe's figures."""
        model = self.accelerator.unwrap_model(self.module).model
        with self.sampler.serving(model, f"{self.world.name}@{number}") as chat:
            policy, every = self.policy(chat), self.spec.probe.every
            due = every and not number % every and self.world.probe
            probed = probe(policy, self.spec, self.world.probe, self.world.grader) if due else {}
            found = asyncio.run(
                collect(
                    policy, self.spec, self.world.tasks, self.world.grader, number,
                    self.position.drawn, self.accelerator,
                )
            )  # fmt: skip
            batch = to_batch(
                found.kept, self.spec, lambda task, _: self._render(task), chat.prompt_tokens,
                chat.decode,
            )  # fmt: skip
        return found, self._with_entropies(batch), probed

    def _with_entropies(self, batch: TokenBatch) -> TokenBatch:
        """Those of a pass of our own, where the sampler told none."""
        if not bool(batch.entropy_rollout.isnan().any()):
            return batch
        moved = batch.to(self.accelerator.device)
        self._use_fast_attention(moved)
        return replace(batch, entropy_rollout=self._scan(moved).H.to(batch.ids.device))

    def policy(self, chat: ChatModel) -> BlockPolicy:
        return BlockPolicy(self.world.wrap(chat), self.world.pack)

    def _render(self, task: Task) -> tuple[Message, ...]:
        return self.world.pack.render("solve", library="", question=task.prompt)

    # updates ------------------------------------------------------------------------------------

    def _update(self, batch: TokenBatch, number: int) -> dict[str, float]:
        """All updates on one batch of rollouts."""
        spec, objective = self.spec, self.spec.objective
        tally, trained, norms = Tally(), 0, []
        self._use_fast_attention(batch)
        if self.reference is not None:
            reference = self.reference.to(batch.ids.device)
            batch = replace(batch, logp_ref=self._pass(reference, batch)[0])
        if spec.updates_per_rollout > 1:
            batch = replace(batch, logp_old=self._scan(batch).lp)
        if self.critic is not None:
            batch = self.critic.settle(batch)
        self.module.train()
        numbers: dict[str, float] = {}
        for epoch in range(spec.epochs):
            parts = (
                minibatches(batch, spec.minibatches, spec.seed, number, epoch)
                if spec.minibatches > 1
                else [batch]
            )
            for part in parts:
                scan = self._scan(part) if needs_scan(objective) else None
                generator = torch.Generator().manual_seed(
                    derive_seed(spec.seed, "selection", self.position.update)
                )
                plan = make_plan(
                    objective, part, scan, self.controllers, generator, spec.sampling.max_tokens
                )
                norm, tokens = self._optimise(part, plan, tally)
                if self.critic is not None:
                    numbers["value_loss"] = self.critic.fit(part)
                norms.append(norm)
                trained += tokens
                numbers |= plan.numbers
                entropy = scan.H if scan is not None else part.entropy_rollout
                self.controllers.update(float(entropy[part.mask].mean()))
                self.position.update += 1
        return {
            "trained_tokens": float(trained),
            "grad_norm": sum(norms) / len(norms),
            **{f"update_{name}": value for name, value in tally.means().items()},
            **numbers,
            **{f"controller_{kind}": v for kind, v in self.controllers.values().items()},
        }

    def _use_fast_attention(self, batch: TokenBatch) -> None:
        """On a CPU plain matrix products outrun the fused kernel backwards, while rows are short.

        The sampler chooses its own at every step.
        """
        short = batch.ids.device.type == "cpu" and batch.ids.shape[1] <= SHORT_ROW
        model = self.accelerator.unwrap_model(self.module).model
        decoder_of(model).set_attn_implementation("eager" if short else "sdpa")

    def _optimise(self, batch: TokenBatch, plan: Plan, tally: Tally) -> tuple[float, int]:
        """One optimiser step; returns the gradient's norm and the tokens passed through."""
        rows = plan.active.nonzero()[:, 0]
        if not len(rows):
            return 0.0, 0
        batch, plan = batch.rows(rows), plan.rows(rows, int(batch.rows(rows).mask.shape[1]))
        for turn in turns(batch, self.spec.micro_tokens, self.accelerator):
            micro = batch.rows(turn.index)
            settled = plan.rows(turn.index, micro.mask.shape[1])
            with nullcontext() if turn.last else self.accelerator.no_sync(self.module):
                lp, H = self.module(micro, entropy_gradient=bool(plan.bonus))
                loss, sums = objective_loss(self.spec.objective, micro, settled, lp, H)
                # Processes average their gradients; the loss is a sum over all of them.
                scale = 0 if turn.idle else self.accelerator.num_processes
                self.accelerator.backward(loss * scale)
            if not turn.idle:
                tally.add(sums)
        optimiser = self.spec.optimiser
        scale = min(1.0, (self.position.update + 1) / (optimiser.warmup_steps or 1))
        for group in self.optimiser.param_groups:
            group["lr"] = optimiser.lr * scale
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), optimiser.max_grad_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return float(whole(norm)), int(batch.sizes.sum())

    def _scan(self, batch: TokenBatch) -> Scan:
        """Log-probabilities and entropies under the weights as they are."""
        return Scan(*self._pass(self.module, batch))

    def _pass(self, module: Any, batch: TokenBatch) -> tuple[Tensor, ...]:
        return passed(module, batch, self.spec.micro_tokens, self.accelerator)

    # state --------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Weights, optimiser, controllers and position; readable only by `load`."""
        # It would warn at every checkpoint that a tied head is stored once.
        logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
        self.accelerator.save_state(str(folder))
        self.accelerator.wait_for_everyone()

    def load(self, folder: Path) -> None:
        self.accelerator.load_state(str(folder))

    def close(self) -> None:
        """End the sampler; training cannot go on after this."""
        self.sampler.close()

    def export(self, folder: Path) -> None:
        """The trained model and its tokenizer, adapters merged, as any tool reads them."""
        module = self.accelerator.unwrap_model(self.module)
        model, state = module.model, None
        if self.accelerator.num_processes > 1:
            gathered = self.accelerator.get_state_dict(self.module)
            state = {k.removeprefix("model."): v for k, v in gathered.items()}
        if not self.accelerator.is_main_process:
            return
        if hasattr(model, "merge_and_unload"):
            model, state = model.merge_and_unload(), None
        model.save_pretrained(folder, state_dict=state)
        self.world.tokenizer.save_pretrained(folder)


def _with_lora(model: Any, spec: TrainSpec) -> Any:
    from peft import LoraConfig, get_peft_model

    assert spec.lora is not None
    targets = spec.lora.targets
    torch.manual_seed(spec.seed)  # peft draws the adapters from the global generator
    return get_peft_model(
        model,
        LoraConfig(
            r=spec.lora.rank,
            lora_alpha=spec.lora.alpha,
            lora_dropout=spec.lora.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            task_type="CAUSAL_LM",
        ),
    )
