"""Evaluation runs read back: their models with logits, their policies, and what was sampled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import banks, sessions, wiring
from tfgrpo import config
from tfgrpo.errors import ConfigError, RunError
from tfgrpo.protocols import Policy
from tfgrpo.runs import RunDir
from tfgrpo.seeding import derive_rng, derive_seed
from tfgrpo.settings import load
from tfgrpo.tokens import TOKENS, SampledTokens, unpack
from tfgrpo.types import Task

if TYPE_CHECKING:
    from baselines.shift.forcing import Told
    from tfgrpo.llm.transformers_local import TransformersChat


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model in this process with its logits, and a chat that makes prompts as its sampler did."""

    weights: tuple[str, str, str]
    model: Any
    tokenizer: Any
    chat: TransformersChat


@dataclass(frozen=True, slots=True)
class Reading:
    """An evaluation run with the policy behind it. `samples` are by task, in rollout order."""

    run: RunDir
    n: int
    sampling: config.SamplingSpec
    scorer: Scorer
    policy: Policy
    tasks: Mapping[str, Task]
    samples: Mapping[str, tuple[SampledTokens, ...]]

    def prompt(self, task: Task, index: int) -> tuple[int, ...]:
        """The token ids that rollout `index` of `task` is given."""
        return self.scorer.chat.prompt_tokens(self.policy.render(task, index).messages)


@dataclass(frozen=True, slots=True)
class Choice:
    """How much of each run is scored; None for all of its problems."""

    problems: int | None = None
    samples: int = 8
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """One sample of a run: its problem, its tokens under both prompts, its recorded entropies."""

    task_id: str
    told: Told
    entropies: tuple[float, ...]


@contextmanager
def scorer(spec: config.ModelSpec, known: Scorer | None = None) -> Iterator[Scorer]:
    """The model of `spec`, loaded unless `known` has the same weights.

    Raises ConfigError for a hosted model, and for one that changes its logits after its head.
    """
    spec = _local(spec)
    weights = path, device, dtype = _weights(spec)
    if known is not None and known.weights == weights:
        yield known
        return
    from baselines.logprobs import check_head
    from tfgrpo.llm import transformers_local

    threads = wiring.pocket_threads()
    if threads is not None and isinstance(spec, config.AbacusSpec):
        import torch

        torch.set_num_threads(threads)
    model, tokenizer = transformers_local.load(path, device, dtype)
    check_head(model)
    name, rows = transformers_local.identify(path, model), spec.max_batch_rows
    chat = transformers_local.TransformersChat.of(model, tokenizer, name, rows)
    try:
        yield Scorer(weights, model, tokenizer, chat)
    finally:
        chat.close()


def _local(spec: config.ModelSpec) -> config.AbacusSpec | config.TransformersSpec:
    if not isinstance(spec, config.AbacusSpec | config.TransformersSpec):
        raise ConfigError(
            "The shift of a model needs its logits, which an endpoint does not give, and vLLM "
            "neither; use a model in this process, such as hf/PATH-OR-ID."
        )
    return spec


def _weights(spec: config.AbacusSpec | config.TransformersSpec) -> tuple[str, str, str]:
    """Where the weights are, on which device and in which precision they are used."""
    if isinstance(spec, config.AbacusSpec):
        return wiring.weights_of(spec), "cpu", "auto"
    return wiring.weights_of(spec), spec.device, spec.dtype


@contextmanager
def reading(path: Path, known: Scorer | None = None) -> Iterator[Reading]:
    """The evaluation in `path`, its policy rebuilt and found to be the one that was sampled.

    Raises:
        ConfigError: if its model is hosted, or it kept no token ids.
        RunError: if its policy or its problems are no longer what they were.
    """
    run = RunDir.open(path)
    spec = load(config.EvalSpec, None, (), run.config)
    with scorer(spec.model, known) as own:
        if not run.file(TOKENS).is_file():
            raise ConfigError(
                f"{path} kept no token ids; evaluate in a new run with --set detail=true."
            )
        bench = wiring.build_tasks(spec.tasks, spec.reward)
        tasks = bench.tasks.tasks(spec.split, spec.limit, derive_seed(spec.seed, "tasks"))
        count = own.chat.count_tokens
        with banks.evaluating(spec, run, count) as casebook:
            policy = wiring.build_policy(spec, own.chat, bench, count, casebook)
            sessions.hold(run, policy, tasks)
            samples = unpack(run.file(TOKENS).read_bytes())
            by_id = {task.task_id: task for task in tasks}
            yield Reading(run, spec.n, spec.sampling, own, policy, by_id, samples)


def chosen(own: Reading, base: Reading, choice: Choice) -> list[Chosen]:
    """Samples of `own`, each with the prompt that it was given and the one that `base` gives.

    Equal problems are chosen in every run. A problem is left out if some of its samples failed and
    its rollouts were not all shown the same: which rollouts are left is not recorded.

    Raises:
        ConfigError: if the two models have different vocabularies.
        RunError: if fewer than 2 problems are left, of which no interval can be made.
    """
    from baselines.shift.forcing import Told

    _check_vocabulary(own.scorer, base.scorer)
    names = sorted(own.samples)
    if choice.problems is not None and choice.problems < len(names):
        names = sorted(derive_rng(choice.seed, "shift").sample(names, choice.problems))
    found: list[Chosen] = []
    for name in names:
        task, kept = own.tasks[name], own.samples[name]
        if len(kept) < own.n and len({own.prompt(task, i) for i in range(own.n)}) > 1:
            continue
        rng = derive_rng(choice.seed, "shift", name)
        for i in sorted(rng.sample(range(len(kept)), min(choice.samples, len(kept)))):
            told = Told(own.prompt(task, i), base.prompt(task, i), kept[i].ids)
            found += [Chosen(name, told, kept[i].entropies)] if told.reply else []
    if len({c.task_id for c in found}) < 2:
        raise RunError(f"{own.run.path} has samples of fewer than 2 problems; evaluate on more.")
    return found


def _check_vocabulary(a: Scorer, b: Scorer) -> None:
    sizes = {s.model.get_output_embeddings().weight.shape[0] for s in (a, b)}
    if len(sizes) > 1 or a.tokenizer.get_vocab() != b.tokenizer.get_vocab():
        raise ConfigError(
            f"{a.chat.model_id} and {b.chat.model_id} have different vocabularies, and no "
            "divergence is defined between them; compare policies of one base model."
        )
