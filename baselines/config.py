"""What a training run may be asked for. Loads no torch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field

from baselines.objective.check import problems
from baselines.objective.spec import ObjectiveSpec
from tfgrpo.config import (
    AbacusSpec,
    BudgetSpec,
    Name,
    Positive,
    PriceSpec,
    RewardChoice,
    SamplingSpec,
    Share,
    Spec,
    TasksSpec,
    TransformersSpec,
    parse_model,
    parse_reward,
    parse_tasks,
)
from tfgrpo.errors import ConfigError
from tfgrpo.settings import Shorthand

NonNegative = Annotated[float, Field(ge=0)]
TrainableSpec = Annotated[AbacusSpec | TransformersSpec, Field(discriminator="kind")]


class SignedReward(Spec):
    """r -> 2 r - 1: right is 1, wrong -1."""

    kind: Literal["signed"] = "signed"


class SoftOverlong(Spec):
    """Replies longer than max_tokens - cache lose up to `factor` (DAPO, arXiv 2503.14476)."""

    kind: Literal["soft_overlong"] = "soft_overlong"
    cache: Positive
    factor: NonNegative = 1.0


class Brier(Spec):
    """RLCR: r - (confidence - right)^2, the confidence as the reply states it (2507.16806)."""

    kind: Literal["brier"] = "brier"


class RandomReward(Spec):
    """A coin instead of the reward, 1 with chance `share`: a control (arXiv 2506.10947)."""

    kind: Literal["random"] = "random"
    share: Share = 0.5


RewardSpec = Annotated[
    SignedReward | SoftOverlong | Brier | RandomReward, Field(discriminator="kind")
]


class OptimiserSpec(Spec):
    """AdamW; linear warm-up, then a constant rate."""

    lr: Annotated[float, Field(gt=0)] = 1e-6
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: NonNegative = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0


class LoraSpec(Spec):
    """Train low-rank adapters instead of all weights (extra `train`)."""

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Share = 0.0
    targets: tuple[Name, ...] | Literal["all-linear"] = "all-linear"


class VllmSamplerSpec(Spec):
    """Rollouts by vLLM's engine beside the trainer (extra `vllm`), sent the weights of every step.

    `options` are arguments of the engine by their names, such as `gpu_memory_utilization`; with
    `enable_sleep_mode` it gives its memory back while weights are updated.
    """

    options: dict[str, Any] = Field(default_factory=dict)


class ProbeSpec(Spec):
    """A fixed set of dev problems that is evaluated every so many steps (0: never)."""

    every: Annotated[int, Field(ge=0)] = 0
    limit: Positive = 32
    n: Positive = 16


class TrainSpec(Spec):
    """Move a policy by its weights (`tfgrpo train`).

    A step samples `group_size` replies to each of `prompts` problems and updates the weights
    `epochs` x `minibatches` times on them. `keep` informative leaves groups without spread out of
    the batch; `refill` then samples further problems, up to so many rounds more, until `prompts`
    groups are informative (DAPO's dynamic sampling). `planning` lists regular expressions whose
    matches in a reply are its planning tokens. With `vllm` (`--set vllm={}`) vLLM samples, else the
    trained module itself. `micro_tokens` bounds what one forward pass takes.
    `trackers` are told every step's metrics, besides the run folder.
    """

    method: Name = "grpo"
    tasks: Annotated[TasksSpec, Shorthand(parse_tasks)]
    model: Annotated[TrainableSpec, Shorthand(parse_model)] = AbacusSpec()
    pack: Name = "default"
    reward: Annotated[RewardChoice, Shorthand(parse_reward)] = "exact"
    rewards: tuple[RewardSpec, ...] = ()
    objective: ObjectiveSpec = ObjectiveSpec()
    sampling: SamplingSpec = SamplingSpec(max_tokens=1024)
    steps: Positive = 100
    prompts: Positive = 32
    group_size: Positive = 8
    minibatches: Positive = 1
    epochs: Positive = 1
    keep: Literal["all", "informative"] = "all"
    refill: Annotated[int, Field(ge=0)] = 0
    mask_truncated: bool = False
    planning: tuple[Name, ...] = ()
    optimiser: OptimiserSpec = OptimiserSpec()
    lora: LoraSpec | None = None
    vllm: VllmSamplerSpec | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    gradient_checkpointing: bool = False
    micro_tokens: Positive = 8192
    train_limit: Positive = 1000
    probe: ProbeSpec = ProbeSpec()
    checkpoint_every: Positive = 10
    trackers: tuple[Literal["wandb", "mlflow", "trackio", "swanlab"], ...] = ()
    budget: BudgetSpec = BudgetSpec()
    price: PriceSpec = PriceSpec()
    seed: int = 0

    @property
    def updates_per_rollout(self) -> int:
        return self.epochs * self.minibatches


def check(spec: TrainSpec) -> None:
    """Raise ConfigError, with every problem in it, unless the settings make sense together."""
    found = problems(
        spec.objective,
        spec.updates_per_rollout,
        spec.group_size,
        binary_rewards=not spec.rewards and isinstance(spec.reward, str),
        top_p=spec.sampling.top_p,
    )
    if spec.objective.requires("planning") and not spec.planning:
        found.append("This method needs planning tokens; list their patterns in `planning`.")
    if spec.refill and spec.keep != "informative":
        found.append("refill replaces groups without spread; set keep to informative.")
    if spec.minibatches > spec.prompts:
        found.append(
            f"{spec.minibatches} minibatches cannot be cut from {spec.prompts} groups; lower "
            "minibatches or raise prompts."
        )
    if spec.sampling.temperature <= 0:
        found.append(
            "Greedy replies to one problem are all alike; set sampling.temperature above 0."
        )
    found += [
        f"The tracker {name} is not installed; run: pip install {name}."
        for name in spec.trackers
        if find_spec(name) is None
    ]
    if found:
        raise ConfigError("\n  ".join([f"The method {spec.method} cannot run:", *found]))
