"""What a run may be asked for: frozen pydantic models, with unions on `kind`. Loads no torch.

Tasks and models can be written as one string instead of a table:

    sum,countdown             generated families          {kind = "procedural", families = [...]}
    jsonl:data/mine.jsonl     your own file               {kind = "jsonl", path = ...}
    hf:openai/gsm8k:main      a Hugging Face dataset      {kind = "hub", dataset = ..., subset}
    gym:chain_sum             a reasoning-gym generator   {kind = "gym", name = ...}
    set:gsm8k[@PATH]          a standard set, frozen      {kind = "set", name = ..., path}
    mine:load                 your own Python function    {kind = "custom", target = ...}
    plugin:NAME               one that a package offers   {kind = "custom", target = ...}

    abacus                    the model in the package    {kind = "abacus"}
    hf/Qwen/Qwen3-0.6B        transformers, id or folder  {kind = "transformers", path = ...}
    runs/train-1              what a training run made    {kind = "transformers", path = ...}
    vllm/Qwen/Qwen3-0.6B      vLLM, id, folder or run     {kind = "vllm", path = ...}
    openai/gpt-5-mini         the OpenAI API              {kind = "openai", model = ...}
    NAME@http://host:8000/v1  any compatible endpoint     {kind = "openai", model, base_url}

Paths are relative to the working directory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
)

from tfgrpo.errors import ConfigError
from tfgrpo.settings import Shorthand
from tfgrpo.types import SamplingParams, Split

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1)]

_DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
TARGET = rf"(?:{_DOTTED}:{_DOTTED}|plugin:[\w.-]+)"
"""Code of others: MODULE:FUNCTION, or plugin:NAME for an entry point of an installed package."""


def _target(text: str) -> str:
    if not re.fullmatch(TARGET, text):
        raise ValueError("should be MODULE:FUNCTION or plugin:NAME")
    return text


Target = Annotated[str, AfterValidator(_target)]


class Spec(BaseModel):
    """Base of all specs: immutable, no unknown keys, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ProceduralSpec(Spec):
    """Generated families with exact verifiers; they need no network."""

    kind: Literal["procedural"] = "procedural"
    families: Annotated[tuple[Name, ...], Field(min_length=1)]


class JsonlSpec(Spec):
    """A file of your own: one JSON object per line, with a question and an answer."""

    kind: Literal["jsonl"] = "jsonl"
    path: Path


class HubSpec(Spec):
    """A Hugging Face dataset (extra `hub`).

    `revision` should be a commit. `splits` are the hub's own names (empty: all); `question` and
    `answer` name columns (None: recognised).
    """

    kind: Literal["hub"] = "hub"
    dataset: Name
    subset: str | None = None
    revision: str | None = None
    splits: tuple[Name, ...] = ()
    question: str | None = None
    answer: str | None = None


class GymSpec(Spec):
    """A reasoning-gym generator (extra `gym`); `options` go to its configuration."""

    kind: Literal["gym"] = "gym"
    name: Name
    options: dict[str, Any] = Field(default_factory=dict)


class SetSpec(Spec):
    """A standard set by its name, see `tfgrpo tasks list`, or the name of a reasoning-gym task.

    `path` is a file or folder in the set's own format instead of the hub; `revision` a commit of
    the hub instead of the frozen one.
    """

    kind: Literal["set"] = "set"
    name: Name
    path: Path | None = None
    revision: str | None = None


class CustomTasksSpec(Spec):
    """A function of your own that gives rows or tasks; `options` are its keyword arguments."""

    kind: Literal["custom"] = "custom"
    target: Target
    options: dict[str, Any] = Field(default_factory=dict)


class AbacusSpec(Spec):
    """The small arithmetic model that ships in the package."""

    kind: Literal["abacus"] = "abacus"
    max_batch_rows: Positive = 256


class TransformersSpec(Spec):
    """A causal model run in this process; `path` is a folder or a Hugging Face id."""

    kind: Literal["transformers"] = "transformers"
    path: Name
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_batch_rows: Positive = 64


class VllmSpec(Spec):
    """A causal model in vLLM's engine on this machine (extra `vllm`); `path` as for transformers.

    `options` are arguments of vLLM's engine by their names, such as `max_model_len`.
    """

    kind: Literal["vllm"] = "vllm"
    path: Name
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    options: dict[str, Any] = Field(default_factory=dict)


class OpenAISpec(Spec):
    """An OpenAI-compatible endpoint. The key itself is read from the variable, never stored.

    `timeout_s` is for an attempt, `call_timeout_s` for all attempts of a call (by default three
    times that). `max_retries` are for an endpoint in trouble, `max_repairs` for useless answers.
    """

    kind: Literal["openai"] = "openai"
    model: Name
    base_url: str | None = None
    api_key_env: Name = "OPENAI_API_KEY"
    max_connections: Positive = 32
    timeout_s: Annotated[float, Field(gt=0)] = 300.0
    max_retries: Annotated[int, Field(ge=0)] = 5
    call_timeout_s: Annotated[float, Field(gt=0)] | None = None
    max_repairs: Annotated[int, Field(ge=0)] = 2

    @field_validator("base_url")
    @classmethod
    def _holds_no_password(cls, url: str | None) -> str | None:
        if url and "@" in url.partition("://")[2].partition("/")[0]:
            raise ValueError(
                "must hold no user and password, since settings are written down; put the key into "
                "the variable that api_key_env names"
            )
        return url


TASK_SOURCES = ("jsonl", "hf", "gym", "set")
"""Prefixes that are taken: a module of such a name is written as a table."""


def parse_tasks(text: str) -> dict[str, Any]:
    """The table that a task string stands for. Raises ConfigError if it stands for none."""
    source, colon, rest = text.partition(":")
    match source:
        case "jsonl" if rest:
            return {"kind": "jsonl", "path": rest}
        case "gym" if rest:
            return {"kind": "gym", "name": rest}
        case "set" if rest:
            name, at, path = rest.partition("@")
            if name and (path or not at):
                return {"kind": "set", "name": name} | ({"path": path} if path else {})
        case "hf":
            dataset, more, subset = rest.partition(":")
            if dataset and subset:
                return {"kind": "hub", "dataset": dataset, "subset": subset}
            if dataset and not more:
                return {"kind": "hub", "dataset": dataset}
        case _ if source not in TASK_SOURCES and re.fullmatch(TARGET, text):
            return {"kind": "custom", "target": text}
    families = [part.strip() for part in text.split(",")]
    if colon or not all(families):
        raise ConfigError(
            f"{text!r} names no tasks; write FAMILY,FAMILY or jsonl:PATH or hf:ID[:SUBSET] or "
            "gym:NAME or set:NAME[@PATH] or MODULE:FUNCTION or plugin:NAME."
        )
    return {"kind": "procedural", "families": families}


def parse_model(text: str) -> dict[str, Any]:
    """The table that a model string stands for. Raises ConfigError if it stands for none."""
    if text == "abacus":
        return {"kind": "abacus"}
    name, at, url = text.rpartition("@")
    if at and name and url.startswith(("http://", "https://")):
        return {"kind": "openai", "model": name, "base_url": url}
    source, _, rest = text.partition("/")
    if source == "openai" and rest:
        return {"kind": "openai", "model": rest}
    if source == "hf" and rest:
        return {"kind": "transformers", "path": rest}
    if source == "vllm" and rest:
        trained = Path(rest) / "weights"
        return {"kind": "vllm", "path": str(trained if trained.is_dir() else rest)}
    for folder in (Path(text) / "weights", Path(text)):
        if (folder / "config.json").is_file() and (folder / "tokenizer_config.json").is_file():
            return {"kind": "transformers", "path": str(folder)}
    raise ConfigError(
        f"{text!r} names no model; write abacus, the folder of a training run, hf/PATH-OR-ID, "
        "vllm/PATH-OR-ID, openai/NAME or NAME@http://URL."
    )


def parse_kind(text: str) -> dict[str, Any]:
    """A variant by its name alone, with its default values."""
    return {"kind": text}


TasksSpec = Annotated[
    ProceduralSpec | JsonlSpec | HubSpec | GymSpec | SetSpec | CustomTasksSpec,
    Field(discriminator="kind"),
]
ModelSpec = Annotated[
    AbacusSpec | TransformersSpec | VllmSpec | OpenAISpec, Field(discriminator="kind")
]


RewardName = Literal["exact", "numeric", "choice", "words", "math"]
"""`exact`, the default, leaves a standard set to its own grader.

Generated families and reasoning-gym keep theirs under every name.
"""

RewardStyle = Literal["tfgrpo", "trl", "trl-chat", "verl", "dspy", "verifiers"]


class CustomReward(Spec):
    """A reward of your own, called as `style` says; `threshold` is the least reward of a right one.

    Without a threshold only rewards of 0 and 1 are accepted.
    """

    kind: Literal["custom"] = "custom"
    target: Target
    style: RewardStyle = "tfgrpo"
    threshold: float | None = None


class CodeReward(Spec):
    """1 for a reply whose Python code passes the task's tests; the code is run, within limits."""

    kind: Literal["code"] = "code"
    allow_code_execution: Annotated[bool, Field(validate_default=True)] = False
    cpu_seconds: Positive = 10
    wall_seconds: Positive = 60
    memory_mb: Annotated[int, Field(ge=64)] = 1024

    @field_validator("allow_code_execution")
    @classmethod
    def _is_wanted(cls, allowed: bool) -> bool:
        if not allowed:
            raise ValueError(
                "this reward runs what a model wrote on this machine; where that may be, it should "
                "be true (--set reward.allow_code_execution=true)"
            )
        return allowed


def parse_reward(text: str) -> Any:
    """The name of a reward, or the table that the string stands for. Raises ConfigError."""
    if text in get_args(RewardName):
        return text
    if text == "code":
        return {"kind": "code"}
    style, _, target = text.partition(":")
    if style not in get_args(RewardStyle):
        style, target = "tfgrpo", text
    if re.fullmatch(TARGET, target):
        return {"kind": "custom", "target": target, "style": style}
    raise ConfigError(
        f"{text!r} names no reward; write {', '.join(get_args(RewardName))}, code, MODULE:FUNCTION "
        f"or plugin:NAME, with {', '.join(get_args(RewardStyle)[1:])} and a colon before it for a "
        "function of that library."
    )


def _reward_kind(value: Any) -> Any:
    if isinstance(value, str):
        return "named"
    return value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)


RewardChoice = Annotated[
    Annotated[RewardName, Tag("named")]
    | Annotated[CustomReward, Tag("custom")]
    | Annotated[CodeReward, Tag("code")],
    Discriminator(_reward_kind),
]


class SamplingSpec(Spec):
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Positive = 4096
    stop: tuple[str, ...] = ()

    def params(self, seed: int | None = None) -> SamplingParams:
        return SamplingParams(self.temperature, self.top_p, self.max_tokens, self.stop, seed)


class LimitsSpec(Spec):
    """How large a library may grow: experiences, tokens of the whole, words in each."""

    max_entries: Positive = 40
    max_tokens: Positive = 1500
    max_words: Positive = 32


class Gold(Spec):
    """Attempts are judged by the gold answer, which the reflecting model also sees."""

    kind: Literal["gold"] = "gold"


class Vote(Spec):
    """Attempts are judged by their own majority; below `min_share` of the group there is none."""

    kind: Literal["vote"] = "vote"
    min_share: Share = 0.5


class Base(Spec):
    """The bare model."""

    kind: Literal["base"] = "base"


class Learned(Spec):
    """The model with the library of a learning run, or of an exported file."""

    kind: Literal["library"] = "library"
    path: Path


class Empty(Spec):
    """The library's heading with nothing under it: what the template alone does."""

    kind: Literal["empty"] = "empty"


class Placebo(Spec):
    """As many tokens that teach nothing as the library at `path` has: what length alone does."""

    kind: Literal["placebo"] = "placebo"
    path: Path


class FewShot(Spec):
    """Solved training problems in the prompt: what the same gold does without reflection."""

    kind: Literal["fewshot"] = "fewshot"
    shots: Positive = 4


class Direct(Spec):
    """Lessons that the model wrote on sight of `questions` training problems, without attempts."""

    kind: Literal["direct"] = "direct"
    questions: Positive = 8


def parse_policy(text: str) -> dict[str, Any]:
    """`base`, `empty`, `direct[:N]`, `fewshot[:N]`, `placebo:PATH`, or the path of a library."""
    kind, _, rest = text.partition(":")
    if kind == "placebo" and rest:
        return {"kind": "placebo", "path": rest}
    counted = {"fewshot": "shots", "direct": "questions"}
    if kind in counted and (not rest or rest.isdigit()):
        return {"kind": kind} | ({counted[kind]: int(rest)} if rest else {})
    if text in ("base", "empty"):
        return {"kind": text}
    if kind == "library" and rest:
        return {"kind": "library", "path": rest}
    if Path(text).exists():
        return {"kind": "library", "path": text}
    raise ConfigError(
        f"{text!r} is no policy and no path; write base, empty, direct, fewshot, placebo:PATH or "
        "the path of a learning run."
    )


EvidenceSpec = Annotated[Gold | Vote, Field(discriminator="kind")]
PolicySpec = Annotated[
    Base | Learned | Empty | Placebo | FewShot | Direct, Field(discriminator="kind")
]


class BudgetSpec(Spec):
    """Hard stops; a run that meets one ends with exit code 3 and can be resumed with a higher one.

    Tokens, calls and dollars are those of the run over all its sessions, seconds of the session.
    """

    max_tokens: Positive | None = None
    max_calls: Positive | None = None
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    max_usd: Annotated[float, Field(gt=0)] | None = None


class PriceSpec(Spec):
    """US dollars per million tokens of the policy model; leave out what is unknown."""

    prompt: Annotated[float, Field(ge=0)] | None = None
    cached: Annotated[float, Field(ge=0)] | None = None
    completion: Annotated[float, Field(ge=0)] | None = None


class MemorySpec(Spec):
    """A bank of cases, shown between the library and the question.

    `read`: off, or what a case is chosen by: similarity of its problem, its measured value, or a
    model trained on the bank's log. `draw`: top shows every rollout the same cases; softmax (at
    temperature `tau`) and thompson draw for each rollout. `floor` is the least cosine; without it,
    the level that chance reaches with this embedder. `snapshot` reads an earlier state.
    """

    path: Path
    read: Literal["off", "similarity", "value", "neural"] = "value"
    draw: Literal["top", "softmax", "thompson"] = "top"
    k: Positive = 4
    tau: Annotated[float, Field(gt=0)] = 0.5
    weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    exploration: Annotated[float, Field(ge=0)] = 0.0
    floor: Annotated[float, Field(ge=-1, le=1)] | None = None
    max_negative: Annotated[int, Field(ge=0)] = 2
    per_source: Positive | None = 1
    diversity: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Positive | None = None
    guard: Literal["strict", "warn", "off"] = "strict"
    embedder: Name = "hashing"
    namespace: Name | None = None
    snapshot: Name | None = None


class PracticeSpec(MemorySpec):
    """The same while learning: each rollout draws its own cases, `off_share` of them see none."""

    draw: Literal["top", "softmax", "thompson"] = "softmax"
    off_share: Share = 0.125


def parse_memory(text: str) -> dict[str, Any]:
    """A bank by its path alone, with default values."""
    return {"path": text}


class LearnSpec(Spec):
    """Learn an experience library (`tfgrpo learn`).

    `model` is the policy; `reflector` and `editor` are the model where they are not given.
    `reflection` is how these two are sampled. `dropout` is the share of experiences hidden from
    each rollout, from which their effects are estimated.
    """

    tasks: Annotated[TasksSpec, Shorthand(parse_tasks)]
    model: Annotated[ModelSpec, Shorthand(parse_model)] = AbacusSpec()
    reflector: Annotated[ModelSpec | None, Shorthand(parse_model)] = None
    editor: Annotated[ModelSpec | None, Shorthand(parse_model)] = None
    pack: Name = "default"
    evidence: Annotated[EvidenceSpec, Shorthand(parse_kind)] = Gold()
    reward: Annotated[RewardChoice, Shorthand(parse_reward)] = "exact"
    sampling: SamplingSpec = SamplingSpec()
    reflection: SamplingSpec = SamplingSpec(temperature=0.2, max_tokens=2048)
    summarise: Literal["always", "long", "never"] = "long"
    limits: LimitsSpec = LimitsSpec()
    epochs: Positive = 3
    batch_size: Positive = 25
    group_size: Annotated[int, Field(ge=2)] = 8
    train_limit: Positive = 100
    max_operations: Positive = 1
    dropout: Share = 0.0
    memory: Annotated[PracticeSpec | None, Shorthand(parse_memory)] = None
    budget: BudgetSpec = BudgetSpec()
    price: PriceSpec = PriceSpec()
    seed: int = 0


class EvalSpec(Spec):
    """Sample `n` replies to each of `limit` problems and count (`tfgrpo eval`)."""

    tasks: Annotated[TasksSpec, Shorthand(parse_tasks)]
    model: Annotated[ModelSpec, Shorthand(parse_model)] = AbacusSpec()
    policy: Annotated[PolicySpec, Shorthand(parse_policy)] = Base()
    pack: Name = "default"
    reward: Annotated[RewardChoice, Shorthand(parse_reward)] = "exact"
    sampling: SamplingSpec = SamplingSpec()
    split: Split = "test"
    limit: Positive = 100
    n: Positive = 16
    detail: bool = False
    memory: Annotated[MemorySpec | None, Shorthand(parse_memory)] = None
    budget: BudgetSpec = BudgetSpec()
    price: PriceSpec = PriceSpec()
    seed: int = 0
