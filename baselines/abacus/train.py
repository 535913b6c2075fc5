"""Pretrain Abacus from nothing: one seed, resumable, on a CPU or a GPU.

The schedule is warm-up, a constant rate, and a linear decay over the last part (arXiv 2404.06395),
so a run can be lengthened before its decay begins. Matrices are updated by Muon (K. Jordan, 2024;
arXiv 2502.16982), everything else by AdamW.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from baselines.abacus.batches import Batch, pool_batches
from baselines.abacus.corpus import Mixture, draw_document
from baselines.abacus.tokenizer import train_tokenizer
from tfgrpo.seeding import derive_rng


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines the weights, apart from the machine's floating point."""

    tokens: int = 92_000_000
    seed: int = 0
    vocab_size: int = 1024
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    intermediate: int = 512
    batch_tokens: int = 3072
    replicas: int = 2
    muon_lr: float = 0.015
    adam_lr: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.01
    decay: float = 0.3
    begin: float = 0.0  # where in the curriculum; a run that goes on from weights skips its start


GO_ON: Mapping[str, Any] = MappingProxyType(
    {"tokens": 32_000_000, "begin": 0.5, "warmup": 0.03, "decay": 0.5, "muon_lr": 0.012,
     "adam_lr": 1.6e-3}
)  # fmt: skip
"""What a recipe changes for a run that goes on from weights."""


@dataclass(frozen=True, slots=True)
class Progress:
    step: int
    tokens: int
    loss: float
    seconds: float


def build_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    rng = derive_rng(recipe.seed, "tokenizer")
    documents = [draw_document(rng, Mixture()) for _ in range(20_000)]
    texts = [t for d in documents for t in (*(m.content for m in d.messages), d.reply)]
    return train_tokenizer(texts, recipe.vocab_size)


def saved_tokenizer(folder: Path) -> PreTrainedTokenizerFast | None:
    """The tokenizer that a run began with: a checkpoint is worthless under any other."""
    path = folder / TOKENIZER
    return PreTrainedTokenizerFast.from_pretrained(path) if path.is_dir() else None


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(recipe.seed)
    end = tokenizer.eos_token_id
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=-(-len(tokenizer) // 64) * 64,
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=2048,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=tokenizer.pad_token_id,
            attn_implementation="eager",  # on short rows and a CPU the fused kernel is slower
        )
    )


def learning_scale(progress: float, recipe: Recipe) -> float:
    """Multiplier of both learning rates at `progress` in [0, 1]."""
    if progress < recipe.warmup:
        return progress / recipe.warmup
    if progress > 1 - recipe.decay:
        return max(0.0, (1 - progress) / recipe.decay)
    return 1.0


USUAL_REPLY_SHARE = 0.3  # of a batch's tokens; only sets the scale of the loss
LOG, TOKENIZER = "log.jsonl", "tokenizer"


class Trainer:
    """Holds model, optimisers and position; `run` yields progress and can be stopped at any time.

    With `recipe.replicas` > 1 each process holds one trainer, takes every so-manieth batch, and
    gradients are averaged: two processes of one thread each outrun one process of two threads.
    """

    def __init__(
        self,
        recipe: Recipe,
        device: str = "cpu",
        compiled: bool = False,
        tokenizer: PreTrainedTokenizerFast | None = None,
        weights: Path | None = None,
    ) -> None:
        self.recipe = recipe
        self.device = torch.device(device)
        self.replica = dist.get_rank() if dist.is_initialized() else 0
        self.tokenizer = tokenizer or build_tokenizer(recipe)
        self.model = build_model(recipe, self.tokenizer)
        if weights is not None:
            self.model.load_state_dict(LlamaForCausalLM.from_pretrained(weights).state_dict())
        self.model = self.model.to(self.device)
        matrices = [p for n, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in n]
        inside = {id(p) for p in matrices}
        others = [p for p in self.model.parameters() if id(p) not in inside]
        self.optimisers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(
                matrices, lr=recipe.muon_lr, momentum=0.95, nesterov=True,
                weight_decay=recipe.weight_decay, adjust_lr_fn="original",
            ),
            torch.optim.AdamW(others, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
        )  # fmt: skip
        self.base_rates = (recipe.muon_lr, recipe.adam_lr)
        self.step = self.tokens = self.pool = self.offset = 0
        self.body = torch.compile(self.model.model, dynamic=True) if compiled else self.model.model

    @property
    def progress(self) -> float:
        return min(1.0, self.tokens / self.recipe.tokens)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Summed cross-entropy of reply tokens over their usual number, in nats; logits only there.

        The divisor is the same for all batches. Dividing by a batch's own number of reply tokens
        would give a token more weight among short rows, and a style more often the shorter it is.
        """
        ids = torch.from_numpy(batch.ids).to(self.device)
        targets = torch.from_numpy(batch.targets).to(self.device)
        wanted = (targets >= 0).flatten().nonzero().squeeze(1)
        spare = -len(wanted) % 256  # as few different shapes as can be: see `pool_batches`
        wanted = torch.cat([wanted, wanted.new_zeros(spare)])
        goal = targets.flatten()[wanted]
        goal[len(goal) - spare :] = -100
        with torch.autocast(self.device.type, torch.bfloat16):
            hidden = self.body(input_ids=ids, use_cache=False).last_hidden_state  # (B, T, D)
            logits = self.model.lm_head(hidden.flatten(0, 1)[wanted])  # (N, V)
        total = cross_entropy(logits.float(), goal, reduction="sum")
        return total / (USUAL_REPLY_SHARE * self.recipe.batch_tokens)

    def _average_gradients(self) -> None:
        """One all-reduce over all gradients laid end to end."""
        if self.recipe.replicas == 1:
            return
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        flat /= self.recipe.replicas
        for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def _batches(self) -> Iterator[Batch]:
        while True:
            batches = pool_batches(
                self.recipe.seed, self.pool, self.progress_at_pool(), self.tokenizer,
                self.recipe.batch_tokens,
            )  # fmt: skip
            width = self.recipe.replicas
            while self.offset + width <= len(batches):
                group = batches[self.offset : self.offset + width]
                self.offset += width
                self.tokens += sum(batch.tokens for batch in group)
                yield group[self.replica]
            self.pool, self.offset = self.pool + 1, 0

    def progress_at_pool(self) -> float:
        """The curriculum follows pools, not tokens, so that a resumed pool is drawn alike."""
        share = min(1.0, self.pool * 218_000 / self.recipe.tokens)
        return self.recipe.begin + (1 - self.recipe.begin) * share

    def run(self, every: int = 50) -> Iterator[Progress]:
        started, window = time.monotonic(), []
        for batch in self._batches():
            scale = learning_scale(self.progress, self.recipe)
            for optimiser, rate in zip(self.optimisers, self.base_rates, strict=True):
                optimiser.param_groups[0]["lr"] = rate * scale
            loss = self.loss(batch)
            loss.backward()
            self._average_gradients()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optimiser in self.optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            self.step += 1
            window.append(float(loss.detach()))
            done = self.tokens >= self.recipe.tokens
            if self.step % every == 0 or done:
                mean = sum(window) / len(window)
                yield Progress(self.step, self.tokens, mean, time.monotonic() - started)
                window = []
            if done:
                return

    def save_checkpoint(self, path: Path) -> None:
        state = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "position": (self.step, self.tokens, self.pool, self.offset),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def load_checkpoint(self, path: Path) -> None:
        """Continue where a checkpoint stands. The budget of tokens may differ before the decay."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.tokens, self.pool, self.offset = state["position"]

    def export(self, folder: Path) -> None:
        """Write the model in bf16, as transformers, vLLM and `transformers serve` expect it."""
        model = copy.deepcopy(self.model).to(torch.bfloat16)
        model.set_attn_implementation("sdpa")
        generation = model.generation_config
        generation.do_sample, generation.temperature, generation.top_p = True, 1.0, 1.0
        generation.top_k = 0
        generation.eos_token_id = self.tokenizer.eos_token_id
        generation.pad_token_id = self.tokenizer.pad_token_id
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _replica(
    rank: int, recipe: Recipe, folder: str, device: str, compiled: bool, weights: Path | None
) -> None:
    torch.set_num_threads(1)
    if recipe.replicas > 1:
        store = dist.FileStore(f"{folder}/rendezvous", recipe.replicas)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=rank, world_size=recipe.replicas)
    tokenizer = saved_tokenizer(Path(folder))
    if tokenizer is None and weights is not None:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(weights)
    trainer = Trainer(recipe, device, compiled, tokenizer, weights)
    if rank == 0:
        trainer.tokenizer.save_pretrained(Path(folder) / TOKENIZER)
    checkpoint = Path(folder) / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load_checkpoint(checkpoint)
    log = Path(folder) / LOG
    for progress in trainer.run():
        if rank == 0:
            with log.open("a") as stream:
                stream.write(json.dumps(asdict(progress)) + "\n")
            if progress.step % 250 == 0:
                trainer.save_checkpoint(checkpoint)
    if rank == 0:
        trainer.save_checkpoint(checkpoint)
        trainer.export(Path(folder) / "weights")


def train(
    recipe: Recipe,
    folder: Path,
    device: str = "cpu",
    compiled: bool = False,
    weights: Path | None = None,
) -> Iterator[Progress]:
    """Train, or go on with, the run in `folder`, which ends with `weights/` in it.

    A new run begins with random weights, or with those in the folder `weights` and their tokenizer.
    Yields progress as it is logged. Ending the iteration early ends the training at once; its last
    checkpoint stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rendezvous").unlink(missing_ok=True)
    log = folder / LOG
    seen = len(log.read_text().splitlines()) if log.exists() else 0
    context = spawn(
        _replica,
        (recipe, str(folder), device, compiled, weights),
        nprocs=recipe.replicas,
        join=False,
    )
    try:
        ended = False
        while not ended:
            ended = context.join(timeout=2)
            rows = log.read_text().splitlines() if log.exists() else []
            yield from (Progress(**json.loads(row)) for row in rows[seen:])
            seen = len(rows)
    finally:
        for process in context.processes:
            process.kill()
