"""Any OpenAI-compatible chat endpoint: the OpenAI API, vLLM, llama.cpp, Ollama and others."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from tfgrpo.errors import UntakenError
from tfgrpo.llm.cache import contiguous
from tfgrpo.llm.faults import NOTHING, Fault, FaultKind, FaultLog, Faults
from tfgrpo.llm.openai_reply import Reply, of_another, read_reply
from tfgrpo.llm.openai_request import Feature, body_of, next_to_drop, untaken
from tfgrpo.llm.openai_trouble import Trouble
from tfgrpo.llm.openai_wire import Answer, Wire
from tfgrpo.llm.retry import Call
from tfgrpo.seeding import derive_rng
from tfgrpo.types import ChatRequest, Completion, Failure, Phase, Usage

Outcomes = tuple[Completion | Failure, ...]
# A token has mostly 4 characters, and its log-probability comes in about 100.
_BYTES_A_TOKEN, _BYTES_A_REPLY = 1 << 10, 1 << 20
_REFLECTS: tuple[Phase, ...] = ("summarise", "compare", "consolidate")


@dataclass(frozen=True, eq=False, repr=False)
class OpenAIChat:
    """A model behind `base_url` (None: the OpenAI API). It learns once what the endpoint lacks.

    Every request carries temperature, top_p, max_tokens, stop if there is any, and a seed if the
    root is set: the 31-bit child seed of its first rollout. Several rollouts go in one request
    while the endpoint honours `n` and the temperature is above 0, else in one request each.

    `api_key` None is no key for a `base_url` that is given, and OPENAI_API_KEY for the OpenAI API.
    At most `max_connections` requests are in flight, fewer while the endpoint says that it is too
    busy. Rate limits, server errors, timeouts and broken connections are tried `max_retries` more
    times, answers that cannot be used `max_repairs` more. `timeout_s` is per attempt,
    `call_timeout_s` for all attempts and pauses of one request (None: three times the former).
    Pauses begin at `backoff_s` where the endpoint asks for none, and double.

    `complete` raises BackendError if the endpoint can serve nothing: wrong key, no such model, no
    credit, nobody listening, a rate limit that outlasts `call_timeout_s`; UntakenError for a
    temperature or top_p that it does not take. All else that goes wrong is a Failure. `faults`
    counts what went wrong, mended or not, and `fault_log` tells of it.
    """

    model: str
    base_url: str | None = None
    api_key: str | None = None
    max_connections: int = 32
    timeout_s: float = 300.0
    max_retries: int = 5
    call_timeout_s: float | None = None
    max_repairs: int = 2
    backoff_s: float = 0.5
    _wire: Wire = field(init=False)
    _refused: set[Feature] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        wire = Wire(self.model, self.base_url, self.api_key, self.max_connections)
        object.__setattr__(self, "_wire", wire)

    def __repr__(self) -> str:
        return f"OpenAIChat({self.model_id!r})"

    @property
    def model_id(self) -> str:
        """NAME@URL; the URL without a user, a password or a query, which may be secret."""
        return f"{self.model}@{self._wire.where}"

    @property
    def refused(self) -> frozenset[Feature]:
        """What the endpoint has turned down or ignored so far, and is no longer asked for."""
        return frozenset(self._refused)

    @property
    def faults(self) -> Faults:
        return self._wire.faults.record

    @property
    def fault_log(self) -> FaultLog:
        return self._wire.faults

    def without(self, *features: Feature) -> OpenAIChat:
        """A copy, over the same connections, that knows only not to ask for `features`."""
        copy = replace(self)
        object.__setattr__(copy, "_wire", self._wire)
        copy._refused.update(features)
        return copy

    def shares(self, request: ChatRequest) -> bool:
        """Whether the rollouts of `request` go in one call, as far as is known by now."""
        return request.n > 1 and request.params.temperature > 0 and "n" not in self._refused

    async def complete(self, request: ChatRequest) -> Outcomes:
        if request.n == 1:
            return await self._ask(request)
        indices = range(request.first_index, request.first_index + request.n)
        got: dict[int, Completion | Failure] = {}
        if self.shares(request):
            got = dict(zip(indices, await self._ask(request), strict=False))
        usable = any(isinstance(outcome, Completion) for outcome in got.values())
        open_ = [i for i in indices if i not in got or (usable and _may_come(got[i]))]
        parts = contiguous(open_) if self.shares(request) else [[i] for i in open_]
        rest = [self.complete(replace(request, n=len(p), first_index=p[0])) for p in parts]
        for part, outcomes in zip(parts, await _together(rest), strict=True):
            got |= zip(part, outcomes, strict=True)
        return tuple(got[i] for i in indices)

    async def models(self) -> tuple[str, ...]:
        """The names that the endpoint lists, if any; BackendError if it is unusable."""
        return await self._wire.models(min(1, self.max_retries))

    async def _ask(self, request: ChatRequest) -> Outcomes:
        """One request, repeated without what the endpoint says it cannot do; 1 to n outcomes."""
        dropped, call = set(self._refused), self._call(request)
        while True:
            answer = await self._wire.post(body_of(self.model, request, dropped), call)
            if isinstance(answer, Trouble):
                self._raise_if_untaken(answer, request)
                feature = next_to_drop(answer.words, request, dropped) if answer.unsuited else None
                if feature is None:
                    self._note(request, answer.kind, request.n)
                    return (answer.failure,) * request.n
                dropped.add(feature)
                continue
            # Only now is it sure that the refusal was of the feature, and not of the prompt.
            self._refused.update(dropped)
            reply = self._read(answer, request.n)
            pause = call.pause()
            again = reply.passing and call.repairs > 0 and pause < call.left_s
            self._account(request, reply, again)
            if not again:
                return reply.outcomes
            call.repairs -= 1
            call.spent_s += pause
            await asyncio.sleep(pause)

    def _raise_if_untaken(self, trouble: Trouble, request: ChatRequest) -> None:
        """A sampling value is never changed in silence, and no later request could succeed."""
        value = untaken(trouble.words, request) if trouble.unsuited else None
        if value is not None:
            table = "reflection" if request.phase in _REFLECTS else "sampling"
            raise UntakenError(
                f"{self.model_id} does not take {value} ({trouble.failure.reason}); "
                f"set {table}.{value.split()[0]} to what it takes."
            )

    def _call(self, request: ChatRequest) -> Call:
        return Call(
            phase=request.phase,
            longest=_BYTES_A_REPLY + _BYTES_A_TOKEN * request.params.max_tokens * request.n,
            attempt_s=self.timeout_s,
            whole_s=self.call_timeout_s or 3 * self.timeout_s,
            retries=self.max_retries,
            repairs=self.max_repairs,
            backoff_s=self.backoff_s,
            rng=derive_rng(request.params.seed or 0, "backoff", request.first_index),
        )

    def _read(self, answer: Answer, n: int) -> Reply:
        """The reply, unless it is of another model than the one that has answered so far.

        Some endpoints always answer under another name than the one they are asked for.
        """
        reply, wire = read_reply(answer.content, answer.seconds, n), self._wire
        if reply.model == self.model:
            wire.named = True
        elif wire.named and reply.model is not None:
            return of_another(reply, self.model)
        return reply

    def _account(self, request: ChatRequest, reply: Reply, again: bool) -> None:
        """Note what was wrong with a reply, and what the endpoint has left out without a word."""
        lost = reply.lost
        for flaw in reply.flaws:
            mended = again or (reply.usable and flaw.passing)
            self._note(request, flaw.kind, 0 if mended else flaw.spoils, lost)
            lost = NOTHING
        given = len(reply.outcomes)
        if given == request.n > 1 and reply.usable:
            self._wire.counted = True
        # Where several came before, a single one is a slip and not an endpoint that ignores `n`.
        elif given == 1 < request.n and not self._wire.counted:
            self._refused.add("n")
        completions = [o for o in reply.outcomes if isinstance(o, Completion)]
        if request.detail and completions and all(c.logprobs is None for c in completions):
            self._refused.add("logprobs")

    def _note(
        self, request: ChatRequest, kind: FaultKind, failed: int, lost: Usage = NOTHING
    ) -> None:
        self._wire.faults.note(Fault(kind, request.phase, failed, lost))


def _may_come(outcome: Completion | Failure) -> bool:
    return isinstance(outcome, Failure) and outcome.retryable


async def _together(asks: list[Coroutine[Any, Any, Outcomes]]) -> list[Outcomes]:
    """All at once; if one raises, the others are cancelled, since each costs money."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask) for ask in asks]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
