"""The four seams, and the two functions by which a user fills the last two of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from tfgrpo.types import ChatRequest, Completion, Failure, Prompt, Score, Split, Task


@runtime_checkable
class ChatModel(Protocol):
    """Anything that completes a chat: in-process, HTTP, scripted, or a middleware round another."""

    @property
    def model_id(self) -> str:
        """Stable name that enters cache keys: the same id must mean the same weights."""
        ...

    async def complete(self, request: ChatRequest) -> tuple[Completion | Failure, ...]:
        """Return exactly `request.n` outcomes, in rollout-index order.

        A reply that cannot be had is a `Failure` in its place; only a backend that can serve
        nothing at all raises (`BackendError`).
        """
        ...


@runtime_checkable
class Policy(Protocol):
    """What is compared: a model plus the context or the weights that an arm has learned."""

    @property
    def policy_id(self) -> str: ...

    @property
    def model(self) -> ChatModel: ...

    def render(self, task: Task, index: int) -> Prompt:
        """The prompt for rollout `index` of `task`: a pure function, equal for equal arguments."""
        ...


@runtime_checkable
class Reward(Protocol):
    def score(self, task: Task, text: str) -> Score | Failure:
        """Grade one reply. `Failure`: the verifier broke; never: the reply is wrong."""
        ...


@runtime_checkable
class TaskSet(Protocol):
    @property
    def name(self) -> str: ...

    def tasks(self, split: Split, limit: int, seed: int) -> Sequence[Task]:
        """At most `limit` distinct tasks of `split`; equal arguments give equal tasks."""
        ...


class TaskLoader(Protocol):
    """Tasks of your own: `--tasks MODULE:FUNCTION`, or an entry point of `tfgrpo.tasks`.

    Gives rows as in a JSON Lines file ({"question", "answer"}, and optionally "id", "split" and
    "metadata"), `Task`s, or a whole `TaskSet`. `tasks.options` are the keyword arguments.
    """

    def __call__(self, **options: Any) -> Iterable[Mapping[str, Any] | Task] | TaskSet: ...


class RewardFunction(Protocol):
    """A reward of your own: `--set reward=MODULE:FUNCTION`, or an entry point of `tfgrpo.rewards`.

    Gets one whole reply, the gold answer and the task. A bool, 0 and 1 say whether it is right;
    other numbers need `reward.threshold`; a `Score` stands as it is. What it raises is counted as a
    failure of grading and never as a reward of 0. It is called from several threads at once.
    """

    def __call__(self, text: str, answer: str | None, task: Task) -> bool | float | Score: ...
