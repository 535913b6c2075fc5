"""From specs to objects: the only place that builds task sets, rewards, models and policies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from tfgrpo import config
from tfgrpo.errors import ConfigError
from tfgrpo.experience.casebook import Casebook
from tfgrpo.experience.context_policy import ContextPolicy
from tfgrpo.experience.direct import write_directly
from tfgrpo.experience.files import load_library
from tfgrpo.experience.judging import Limits
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.experience.reflect import Reflector
from tfgrpo.ledger import Price
from tfgrpo.llm.cache import CachedModel, CallStore
from tfgrpo.llm.limiter import LimitedModel
from tfgrpo.llm.meter import Budget, Meter, MeteredModel
from tfgrpo.policy import BlockPolicy, empty_block, fewshot_block, placebo_block
from tfgrpo.prompts import PromptPack, load_pack
from tfgrpo.protocols import ChatModel, Policy, Reward, TaskSet
from tfgrpo.rewards.table import GoldReward, make_reward
from tfgrpo.rollout import AnswerReader, Grader, gold_grader, vote_grader
from tfgrpo.seeding import derive_seed
from tfgrpo.tasks.split import SPLITS
from tfgrpo.types import Task

if TYPE_CHECKING:
    from tfgrpo.rewards.code import CodeReward
    from tfgrpo.rewards.custom import FunctionReward

TokenCounter = Callable[[str], int]
Build = Callable[[config.ModelSpec], ChatModel]


def abacus_path() -> Path:
    return Path(str(files("baselines.abacus") / "weights"))


@dataclass(frozen=True, slots=True)
class Bench:
    """A task set, how its replies are graded, and how an answer is read without the gold."""

    tasks: TaskSet
    reward: Reward
    read: AnswerReader


def build_tasks(spec: config.TasksSpec, reward: config.RewardChoice) -> Bench:
    """The tasks and what grades them. Raises ConfigError if the two do not go together."""
    if isinstance(reward, str):
        return _bench(spec, reward)
    bench = _bench(spec, "exact")
    own = _own_reward(reward)
    for split in SPLITS:
        for task in bench.tasks.tasks(split, 1, 0):
            own.check(task)
    return Bench(bench.tasks, own, own.read)


def _own_reward(spec: config.CustomReward | config.CodeReward) -> FunctionReward | CodeReward:
    match spec:
        case config.CustomReward():
            from tfgrpo.rewards.custom import load_reward

            return load_reward(spec.target, spec.style, spec.threshold)
        case config.CodeReward():
            from tfgrpo.rewards.code import CodeReward

            return CodeReward(
                spec.allow_code_execution, spec.cpu_seconds, spec.wall_seconds, spec.memory_mb
            )


def _bench(spec: config.TasksSpec, reward_name: str) -> Bench:
    match spec:
        case config.ProceduralSpec():
            from tfgrpo.tasks.procedural import FamilyReward, ProceduralTasks

            family = FamilyReward()
            return Bench(ProceduralTasks(spec.families), family, family.read)
        case config.JsonlSpec():
            from tfgrpo.tasks.jsonl import JsonlTasks

            return _graded(JsonlTasks(spec.path), reward_name)
        case config.HubSpec():
            from tfgrpo.tasks.hub import HubSource, HubTasks

            source = HubSource(
                spec.dataset, spec.subset, spec.revision, spec.splits, spec.question, spec.answer
            )
            return _graded(HubTasks(source), reward_name)
        case config.GymSpec():
            from tfgrpo.tasks.gym import GymReward, GymTasks

            gym = GymReward()
            return Bench(GymTasks(spec.name, spec.options), gym, gym.read)
        case config.SetSpec():
            return _set(spec, reward_name)
        case config.CustomTasksSpec():
            from tfgrpo.tasks.custom import load_tasks

            return _graded(load_tasks(spec.target, spec.options), reward_name)


def _set(spec: config.SetSpec, reward_name: str) -> Bench:
    from tfgrpo.tasks.gym import FAMILIES
    from tfgrpo.tasks.presets import load_set

    if spec.name in FAMILIES:
        if spec.path or spec.revision:
            raise ConfigError(
                f"The tasks {spec.name} are generated; leave out their path and revision."
            )
        return _bench(config.GymSpec(name=spec.name), reward_name)
    found = load_set(spec.name, spec.path, spec.revision)
    return _graded(found, found.preset.reward if reward_name == "exact" else reward_name)


def _graded(tasks: TaskSet, reward_name: str) -> Bench:
    reward = make_reward(reward_name)

    def read(task: Task, text: str) -> str | None:
        return reward.read(text) if isinstance(reward, GoldReward) else None

    return Bench(tasks, reward, read)


def build_grader(bench: Bench, evidence: config.EvidenceSpec) -> Grader:
    if isinstance(evidence, config.Vote):
        return vote_grader(bench.read, evidence.min_share)
    return gold_grader(bench.reward)


def build_backend(spec: config.ModelSpec) -> ChatModel:
    """The model itself. Raises ConfigError or BackendError if it cannot serve."""
    match spec:
        case config.AbacusSpec():
            from tfgrpo.llm.transformers_local import TransformersChat

            return TransformersChat(
                weights_of(spec),
                "cpu",
                max_batch_rows=spec.max_batch_rows,
                threads=pocket_threads(),
            )
        case config.TransformersSpec():
            from tfgrpo.llm.transformers_local import TransformersChat

            return TransformersChat(spec.path, spec.device, spec.dtype, spec.max_batch_rows)
        case config.VllmSpec():
            from tfgrpo.llm.vllm_local import VllmChat

            return VllmChat(spec.path, spec.dtype, spec.options)
        case config.OpenAISpec():
            from tfgrpo.llm.openai_compat import OpenAIChat

            url = spec.base_url or os.environ.get("OPENAI_BASE_URL")
            return OpenAIChat(
                model=spec.model,
                base_url=url,
                api_key=api_key(spec),
                max_connections=spec.max_connections,
                timeout_s=spec.timeout_s,
                max_retries=spec.max_retries,
                call_timeout_s=spec.call_timeout_s,
                max_repairs=spec.max_repairs,
            )


def api_key(spec: config.OpenAISpec) -> str | None:
    """The key in the variable that was named; that of the OpenAI API for no URL in the settings."""
    if spec.base_url and spec.api_key_env == "OPENAI_API_KEY":
        return None
    return os.environ.get(spec.api_key_env)


def weights_of(spec: config.AbacusSpec | config.TransformersSpec) -> str:
    """Folder or Hub id of a model's weights. Raises ConfigError if Abacus has none here."""
    if isinstance(spec, config.TransformersSpec):
        return spec.path
    if not (abacus_path() / "config.json").is_file():
        raise ConfigError(
            "The weights of Abacus are not in this installation; run: tfgrpo abacus train."
        )
    return str(abacus_path())


def pocket_threads() -> int | None:
    """Torch's threads for a pocket model: more than the idle cores make it many times slower."""
    return None if "OMP_NUM_THREADS" in os.environ else max(1, min(2, os.cpu_count() or 1))


def _meter(spec: config.BudgetSpec) -> Meter:
    return Meter(Budget(spec.max_tokens, spec.max_calls, spec.max_seconds, spec.max_usd))


def _price(spec: config.PriceSpec) -> Price:
    return Price(spec.prompt, spec.cached, spec.completion)


def metering(
    budget: config.BudgetSpec, price: config.PriceSpec
) -> Callable[[ChatModel], ChatModel]:
    """Puts one common meter round every sampler of a run that makes a new one for each step."""
    meter, paid = _meter(budget), _price(price)
    return lambda model: MeteredModel(model, meter, paid)


class Models:
    """The models of one session, each wrapped in cache, meter and limit, and closed at the end.

    Equal specs share one backend, which `build` makes of the spec. The meter stands inside the
    cache: it counts what is paid, beginning with what the run's earlier sessions paid.
    """

    def __init__(
        self,
        store: CallStore | None,
        budget: config.BudgetSpec,
        price: config.PriceSpec,
        build: Build = build_backend,
    ) -> None:
        self.meter = _meter(budget)
        self._store = store
        self._price = _price(price)
        self._build = build
        self._built: dict[str, ChatModel] = {}
        self._sizes: dict[str, int] = {}
        self._backends: list[ChatModel] = []
        if store is not None:
            # A budget is the run's: what its earlier sessions paid for is spent.
            for phase, usage in store.usage_by_phase().items():
                self.meter.charge(phase, usage, self._price)

    def get(self, spec: config.ModelSpec) -> ChatModel:
        key = spec.model_dump_json()
        if key not in self._built:
            backend = self._build(spec)
            self._built[key] = self.wrap(backend, _connections(spec))
            self._sizes[key] = getattr(backend, "parameters", 0)
        return self._built[key]

    def parameters(self, spec: config.ModelSpec) -> int:
        """Weights of a model in this process; 0 of an endpoint, where nobody knows."""
        self.get(spec)
        return self._sizes[spec.model_dump_json()]

    def wrap(self, backend: ChatModel, connections: int) -> ChatModel:
        self._backends.append(backend)
        log = getattr(backend, "fault_log", None)
        if log is not None:
            log.listen(lambda fault: self.meter.lose(fault, self._price))
        # The limit stands outside of the meter, so that a call that waits is not yet admitted.
        model: ChatModel = MeteredModel(backend, self.meter, self._price)
        model = LimitedModel(model, connections)
        if self._store is None:
            return model
        if log is not None:
            log.listen(self._store.note)
        return LimitedModel(CachedModel(model, self._store), connections)

    def token_counter(self) -> TokenCounter:
        """Tokens by the first in-process model's tokenizer; by a rule of thumb for endpoints."""
        for backend in self._backends:
            count = getattr(backend, "count_tokens", None)
            if count is not None:
                return count  # type: ignore[no-any-return]
        from tfgrpo.experience.guard import approximate_tokens

        return approximate_tokens

    def close(self) -> None:
        for backend in self._backends:
            close = getattr(backend, "close", None)
            if close is not None:
                close()


def _connections(spec: config.ModelSpec) -> int:
    return spec.max_connections if isinstance(spec, config.OpenAISpec) else 4096


@contextmanager
def session(
    store_path: Path | None,
    budget: config.BudgetSpec,
    price: config.PriceSpec,
    build: Build = build_backend,
) -> Iterator[Models]:
    with ExitStack() as stack:
        store = stack.enter_context(CallStore(store_path)) if store_path else None
        models = Models(store, budget, price, build)
        stack.callback(models.close)
        yield models


def library_limits(spec: config.LimitsSpec) -> Limits:
    return Limits(spec.max_entries, spec.max_tokens, spec.max_words)


def build_policy(
    spec: config.EvalSpec,
    model: ChatModel,
    bench: Bench,
    count: TokenCounter,
    casebook: Casebook | None = None,
) -> Policy:
    pack = load_pack(spec.pack)
    if casebook is not None:
        return ContextPolicy(model, pack, _beside_cases(spec.policy), casebook=casebook)
    match spec.policy:
        case config.Base():
            return BlockPolicy(model, pack)
        case config.Empty():
            return BlockPolicy(model, pack, empty_block(pack))
        case config.Learned(path=path):
            return ContextPolicy(model, pack, load_library(path))
        case config.Placebo(path=path):
            return placebo_for(load_library(path), model, pack, count, spec.seed)
        case config.FewShot(shots=shots):
            examples: Sequence[Task] = bench.tasks.tasks(
                "train", shots, derive_seed(spec.seed, "fewshot")
            )
            return BlockPolicy(model, pack, fewshot_block(examples))
        case config.Direct(questions=questions):
            return ContextPolicy(model, pack, _written_directly(spec, model, bench, questions))


def _beside_cases(policy: config.PolicySpec) -> ExperienceLibrary:
    match policy:
        case config.Base():
            return ExperienceLibrary.empty()
        case config.Learned(path=path):
            return load_library(path)
    raise ConfigError(
        f"Cases go with the policy base or with a library, not with {policy.kind}; leave one out."
    )


def _written_directly(
    spec: config.EvalSpec, model: ChatModel, bench: Bench, questions: int
) -> ExperienceLibrary:
    seed = derive_seed(spec.seed, "direct")
    params = config.SamplingSpec(max_tokens=spec.sampling.max_tokens).params(seed)
    writer = Reflector(model, load_pack(spec.pack), params)
    tasks = bench.tasks.tasks("train", questions, seed)
    return asyncio.run(write_directly(writer, tasks, ExperienceLibrary.empty()))


def placebo_for(
    library: ExperienceLibrary, model: ChatModel, pack: PromptPack, count: TokenCounter, seed: int
) -> BlockPolicy:
    """The placebo that matches a library in tokens; every library has a text of its own."""
    own = derive_seed(seed, library.fingerprint)
    return BlockPolicy(model, pack, placebo_block(pack, count(library.render()), count, own))
