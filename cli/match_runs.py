"""The temperature at which a policy has its base's entropy: the search for it, in a run folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from cli import banks, sessions, unseen, wiring
from tfgrpo import config
from tfgrpo.errors import ConfigError, RunError
from tfgrpo.llm.meter import Meter
from tfgrpo.protocols import Policy
from tfgrpo.rollout import Sampling, sample_groups
from tfgrpo.runs import RunDir
from tfgrpo.seeding import derive_seed
from tfgrpo.types import SamplingParams, Score, Task
from tfgrpo.verdict.temperature import Found, Probe, find_temperature

if TYPE_CHECKING:
    from baselines.shift.randomness import Reply
    from cli.shift_runs import Scorer
    from tfgrpo.llm.transformers_local import TransformersChat

FOUND = "temperature.json"


class MatchSpec(config.Spec):
    """At which temperature does `arm` have the token entropy that `like` has at its own?

    Both answer `n` times the same `limit` problems of `like`, never those of the test split.
    `tolerance` is a share of the entropy of `like`.
    """

    arm: config.EvalSpec
    like: config.EvalSpec
    split: Literal["train", "dev"] = "dev"
    limit: config.Positive = 32
    n: config.Positive = 8
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.02
    seed: int = 0


def check(spec: MatchSpec) -> None:
    """Raise ConfigError if a model gives no logits, as one behind an endpoint."""
    for side in (spec.arm, spec.like):
        if not isinstance(side.model, config.AbacusSpec | config.TransformersSpec):
            raise ConfigError(
                f"The entropy at a temperature needs logits, which {side.model.kind!r} models do "
                "not give; use one in this process, such as hf/PATH-OR-ID."
            )


def run_match(
    spec: MatchSpec, run: RunDir, told: Callable[[Probe], None] = lambda probe: None
) -> Found:
    """Search, or read what was found; `told` hears of the base's entropy, then of each probe.

    Entropies are those of the distribution that tokens are drawn from, at its temperature and cut
    to its nucleus.

    Raises:
        ConfigError: as `check`, or if there are no such problems, or no temperature fits.
        RunError: if nothing could be sampled.
    """
    check(spec)
    if run.file(FOUND).is_file():
        return read_found(run.path)
    from cli.shift_runs import scorer

    start = spec.like.sampling.temperature
    with scorer(spec.like.model) as ground, scorer(spec.arm.model, ground) as own:

        def build(model: config.ModelSpec) -> TransformersChat:
            return ground.chat if model == spec.like.model else own.chat

        calls = run.path / sessions.CALLS
        with wiring.session(calls, config.BudgetSpec(), config.PriceSpec(), build) as models:
            try:
                with _replier(spec, spec.like, run, ground, models) as base:
                    first = Probe(start, base.entropy(start))
                told(first)
                with _replier(spec, spec.arm, run, own, models) as arm:
                    sessions.hold(run, arm.policy, arm.tasks)
                    found = find_temperature(
                        arm.entropy, first.entropy, start, spec.tolerance, told
                    )
            finally:
                sessions.write_ledger(run, {"evaluate": models.parameters(spec.arm.model)})
    run.write_json(FOUND, {"temperature": found.temperature, "base": first, "probes": found.probes})
    return found


def read_found(folder: Path) -> Found:
    """What the search in `folder` found. Raises RunError if it is not over or damaged."""
    row = RunDir(folder).read_json(FOUND)
    try:
        probes = tuple(Probe(p["temperature"], p["entropy"]) for p in row["probes"])
        return Found(row["base"]["entropy"], probes)
    except (KeyError, TypeError):
        raise RunError(f"{folder / FOUND} is damaged; delete it and search again.") from None


def at_found(spec: config.EvalSpec, folder: Path) -> config.EvalSpec:
    """`spec` at the temperature found in `folder`; as it is while there is none."""
    if not (folder / FOUND).is_file():
        return spec
    sampling = spec.sampling.model_copy(update={"temperature": read_found(folder).temperature})
    return spec.model_copy(update={"sampling": sampling})


@dataclass(frozen=True, slots=True)
class _Replier:
    """A policy, what it is asked, and the model whose logits tell how random its replies are."""

    policy: Policy
    tasks: Sequence[Task]
    n: int
    params: SamplingParams
    scorer: Scorer
    meter: Meter

    def entropy(self, temperature: float) -> float:
        """Mean nats a token of replies that are drawn at `temperature`, and of these alone."""
        from baselines.shift.randomness import mean_entropy

        if temperature == 0:
            return 0.0
        params = replace(self.params, temperature=temperature)
        replies = asyncio.run(sessions.landed(self._replies(params), self.meter))
        if not replies:
            raise RunError(
                "None of the problems could be answered, so there is no entropy; shorten the "
                "context or lower max_tokens."
            )
        return mean_entropy(self.scorer.model, replies, temperature, params.top_p)

    async def _replies(self, params: SamplingParams) -> list[Reply]:
        """In the order of the problems, so that sums of them are the same in every try."""
        sampling = Sampling(self.n, params, "evaluate", detail=True)
        found: dict[str, list[Reply]] = {}
        async for group in sample_groups(self.policy, self.tasks, _ungraded, sampling):
            found[group.task.task_id] = [
                (self._prompt(group.task, rollout.index), rollout.completion.token_ids or ())
                for rollout in group.rollouts
            ]
        return [reply for task in self.tasks for reply in found[task.task_id]]

    def _prompt(self, task: Task, index: int) -> tuple[int, ...]:
        return self.scorer.chat.prompt_tokens(self.policy.render(task, index).messages)


@contextmanager
def _replier(
    spec: MatchSpec, side: config.EvalSpec, run: RunDir, scorer: Scorer, models: wiring.Models
) -> Iterator[_Replier]:
    bench = wiring.build_tasks(spec.like.tasks, spec.like.reward)
    tasks = bench.tasks.tasks(spec.split, spec.limit, derive_seed(spec.seed, "tasks"))
    if not tasks:
        raise ConfigError(
            f"The tasks {bench.tasks.name} have no {spec.split} split; give --split train or dev."
        )
    if spec.split != "train":
        unseen.check(side, tasks)
    count = scorer.chat.count_tokens
    with banks.evaluating(side.model_copy(update={"n": spec.n}), run, count) as casebook:
        policy = wiring.build_policy(side, models.get(side.model), bench, count, casebook)
        params = side.sampling.params(derive_seed(spec.seed, "match"))
        yield _Replier(policy, tasks, spec.n, params, scorer, models.meter)


def _ungraded(task: Task, texts: Sequence[str]) -> list[Score]:
    return [Score(0.0, False, None) for _ in texts]
