"""What fine-tuning on a model's own replies may be asked for. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from baselines import methods
from baselines.config import OptimiserSpec, TrainableSpec
from tfgrpo.config import (
    AbacusSpec,
    BudgetSpec,
    Name,
    Positive,
    PriceSpec,
    RewardChoice,
    SamplingSpec,
    Spec,
    TasksSpec,
    parse_kind,
    parse_model,
    parse_reward,
    parse_tasks,
)
from tfgrpo.errors import ConfigError
from tfgrpo.settings import Shorthand


class Rejection(Spec):
    """The correct replies among the very rollouts that the learning run at `path` saw."""

    kind: Literal["rejection"] = "rejection"
    path: Path


class ExpertIteration(Spec):
    """Each round samples from the policy of the round before, and trains from the original base.

    arXiv 2504.07912. The correct replies of the round are its demonstrations; the first round's
    policy is the base itself.
    """

    kind: Literal["expert_iteration"] = "expert_iteration"
    rounds: Positive = 3
    samples: Positive = 64


class Diverse(Spec):
    """Of `samples` replies of the base at most `keep` correct ones a problem, as unlike as can be.

    They are chosen to show every strategy first, then every answer.
    """

    kind: Literal["diverse"] = "diverse"
    samples: Positive = 64
    keep: Positive = 4


class Distil(Spec):
    """Context distillation: what the model says with the library at `path` becomes its own.

    Replies that are sampled with the library in the prompt are targets for the prompt without it,
    each as often as it was drawn. No gold is used, unless `correct_only` drops the wrong ones.
    """

    kind: Literal["distil"] = "distil"
    path: Path
    samples: Positive = 16
    correct_only: bool = False


def parse_source(text: str) -> dict[str, Any]:
    """The table that a source string stands for. Raises ConfigError if it stands for none."""
    kind, _, rest = text.partition(":")
    if kind in ("rejection", "distil") and rest:
        return {"kind": kind, "path": rest}
    if kind in ("expert_iteration", "diverse") and not rest:
        return {"kind": kind}
    raise ConfigError(
        f"{text!r} is no source of demonstrations; write rejection:RUN, expert_iteration, diverse "
        "or distil:LIBRARY."
    )


class Nll(Spec):
    """-log p(y): maximum likelihood."""

    kind: Literal["nll"] = "nll"


class Gem(Spec):
    """Maximum likelihood that keeps entropy: its gradient is q - e_y, q = softmax(z / beta).

    arXiv 2408.16673, linear variant. At beta = 1 it is maximum likelihood; below, the tail of the
    distribution is not pushed down.
    """

    kind: Literal["gem"] = "gem"
    beta: Annotated[float, Field(gt=0, le=1)] = 0.7


SourceSpec = Annotated[Rejection | ExpertIteration | Diverse | Distil, Field(discriminator="kind")]
LossSpec = Annotated[Nll | Gem, Field(discriminator="kind")]


class ImitateSpec(Spec):
    """Fine-tune a model on its own replies (`tfgrpo imitate`).

    An epoch passes once over a round's demonstrations, an update takes `batch_size` of them. With
    `balance` the demonstrations of one problem weigh 1 together, otherwise 1 each. `tasks` are
    needed wherever replies are sampled. `micro_tokens` bounds what one forward pass takes.
    """

    source: Annotated[SourceSpec, Shorthand(parse_source)] = ExpertIteration()
    loss: Annotated[LossSpec, Shorthand(parse_kind)] = Nll()
    tasks: Annotated[TasksSpec | None, Shorthand(parse_tasks)] = None
    model: Annotated[TrainableSpec, Shorthand(parse_model)] = AbacusSpec()
    pack: Name = "default"
    reward: Annotated[RewardChoice, Shorthand(parse_reward)] = "exact"
    sampling: SamplingSpec = SamplingSpec(max_tokens=1024)
    balance: bool = True
    epochs: Positive = 2
    batch_size: Positive = 32
    optimiser: OptimiserSpec = OptimiserSpec(lr=1e-5)
    precision: Literal["float32", "bfloat16"] = "float32"
    micro_tokens: Positive = 8192
    train_limit: Positive = 1000
    budget: BudgetSpec = BudgetSpec()
    price: PriceSpec = PriceSpec()
    seed: int = 0


SHARED = ("tasks", "model", "pack", "sampling")
POCKET: Mapping[str, Any] = {
    **{key: methods.POCKET[key] for key in SHARED},
    "optimiser": {"lr": 1e-4},
    "source": {"kind": "expert_iteration", "rounds": 2, "samples": 16},
    "train_limit": 200,
}
"""Settings under which the pocket model is fine-tuned in a minute or two on one core."""


def check(spec: ImitateSpec) -> None:
    """Raise ConfigError, with every problem in it, unless the settings make sense together."""
    found: list[str] = []
    source = spec.source
    if not isinstance(source, Rejection):
        if spec.tasks is None:
            found.append("tasks are missing; give the problems to sample replies to.")
        if source.samples > 1 and spec.sampling.temperature <= 0:
            found.append(
                "Greedy replies to one problem are all alike; set sampling.temperature above 0."
            )
    if isinstance(source, Diverse) and source.keep > source.samples:
        found.append(
            f"{source.keep} of {source.samples} replies cannot be kept; lower source.keep or raise "
            "source.samples."
        )
    if found:
        raise ConfigError("\n  ".join([f"The source {source.kind} cannot be used:", *found]))
