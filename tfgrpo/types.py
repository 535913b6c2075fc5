"""Frozen records that both arms speak.

Nothing here computes more than a property, does IO, or imports anything heavy.
Times are seconds, costs are US dollars, entropies and log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "dev", "test"]
Phase = Literal["rollout", "summarise", "compare", "consolidate", "evaluate", "other"]
FinishReason = Literal["stop", "length", "content_filter", "other"]
Stage = Literal["transport", "refused", "empty", "truncated", "grading", "budget", "protocol"]

PHASES: tuple[Phase, ...] = ("rollout", "summarise", "compare", "consolidate", "evaluate", "other")
EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Task:
    """One problem.

    `task_id` hashes the canonical instance, so equal problems have equal ids in every run.
    `answer` is the gold answer, or None where the gold is withheld (majority-vote learning)
    or where only a verifier exists. `metadata` is what the family's verifier needs (JSON values).
    """

    task_id: str
    prompt: str
    answer: str | None
    dataset: str
    split: Split
    metadata: Mapping[str, Any] = field(default_factory=lambda: EMPTY)

    def without_gold(self) -> Task:
        """The same problem with nothing in it from which the gold could be read."""
        return replace(self, answer=None, metadata=EMPTY)


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Decoding settings; the same object serves both arms and every backend.

    All values are always sent explicitly, because endpoints differ in their defaults.
    `seed` is the root from which each rollout's own seed is derived; None leaves it to the server.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What calls consumed. `cached_tokens` are those `prompt_tokens` that a prefix cache served."""

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled reply. Token-level fields are present only when asked for and supported.

    `logprobs` are of the sampled tokens under the distribution sampled from; `entropies` are of
    the temperature-1 distribution at each generated position. Both align with `token_ids`.
    `entropy_bounds` are the bounds on the mean of `entropies` that a hosted model's likeliest
    tokens leave, where the entropies themselves are not told.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage = Usage()
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    entropies: tuple[float, ...] | None = None
    entropy_bounds: tuple[float, float] | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """What broke and where. A failure is data: counted and reported, never a reward of zero."""

    stage: Stage
    reason: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """A graded reply. `correct` is our verifier's word; `answer` is canonical, None if missing.

    `mode` names the strategy that the reply used, where the family can read it off.
    """

    reward: float
    correct: bool
    answer: str | None
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Ask a `ChatModel` for rollouts `first_index .. first_index + n - 1` of one prompt.

    `detail` asks for token ids, log-probabilities and entropies. `json_schema` asks for a
    structured reply where the server can enforce one. `phase` says which ledger line pays.
    """

    messages: tuple[Message, ...]
    params: SamplingParams
    n: int = 1
    first_index: int = 0
    phase: Phase = "other"
    detail: bool = False
    json_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt and the ids of the experiences and cases it shows."""

    messages: tuple[Message, ...]
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rollout:
    """A graded sample of one task."""

    task_id: str
    index: int
    policy_id: str
    completion: Completion
    score: Score
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FailedRollout:
    task_id: str
    index: int
    policy_id: str
    failure: Failure
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """All samples of one task under one policy; built at sampling time, never by question text."""

    task: Task
    rollouts: tuple[Rollout, ...]
    failures: tuple[FailedRollout, ...] = ()

    @property
    def n(self) -> int:
        return len(self.rollouts)

    @property
    def c(self) -> int:
        return sum(r.score.correct for r in self.rollouts)

    @property
    def rewards(self) -> tuple[float, ...]:
        return tuple(r.score.reward for r in self.rollouts)


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """The sufficient statistic of one task for every metric.

    `answers`, `correct`, `modes`, `entropies` and `lengths` align: one entry per graded sample.
    `answers` are canonical (None: no answer found); `entropies` are mean nats per generated token
    (None where the backend gave none); `lengths` are generated tokens. `entropy_bounds` aligns as
    well, and is empty unless a backend told bounds in place of entropies.
    """

    task_id: str
    dataset: str
    correct: tuple[bool, ...]
    answers: tuple[str | None, ...]
    modes: tuple[str | None, ...]
    entropies: tuple[float | None, ...]
    lengths: tuple[int, ...]
    truncated: int = 0
    failures: int = 0
    entropy_bounds: tuple[tuple[float, float] | None, ...] = ()

    @property
    def n(self) -> int:
        return len(self.correct)

    @property
    def c(self) -> int:
        return sum(self.correct)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One learning step, the same for both arms. `groups` counts groups by kind."""

    step: int
    epoch: int
    policy_id: str
    reward_mean: float
    groups: Mapping[str, int]
    failures: int
    usage: Mapping[str, Usage]
    metrics: Mapping[str, float] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval and how it was made. `n` counts the independent units: problems."""

    value: float
    low: float
    high: float
    n: int
    method: str
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paired difference `b - a` over shared problems, with its sign-flip p-value."""

    name: str
    a: float
    b: float
    difference: Estimate
    p_value: float
