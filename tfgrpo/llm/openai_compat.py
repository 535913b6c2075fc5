"""Any OpenAI-compatible chat endpoint: the OpenAI API, vLLM, llama.cpp, Ollama and others."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tfgrpo.errors import BackendError
from tfgrpo.llm.limiter import Slots
from tfgrpo.llm.openai_reply import read_models, read_reply, told
from tfgrpo.llm.openai_request import Feature, body_of, next_to_drop
from tfgrpo.types import ChatRequest, Completion, Failure

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAIError

OPENAI_URL = "https://api.openai.com/v1"
Outcomes = tuple[Completion | Failure, ...]
# Held here, because a model that is dropped in the last moment of a loop is closed by halves.
_KEEPERS: dict[AsyncOpenAI, AsyncGenerator[None, None]] = {}


@dataclass(slots=True)
class _Shared:
    """What an instance and its copies have in common."""

    slots: Slots
    reached: bool = False
    clients: dict[asyncio.AbstractEventLoop, AsyncOpenAI] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class OpenAIChat:
    """A model behind `base_url` (None: the OpenAI API). It learns once what the endpoint lacks.

    Every request carries temperature, top_p, max_tokens, stop if there is any, and a seed if the
    root is set: the 31-bit child seed of its first rollout. Several rollouts go in one request
    while the endpoint honours `n` and the temperature is above 0, else in one request each.

    `api_key` None is no key for a `base_url` that is given, and OPENAI_API_KEY for the OpenAI API.
    `timeout_s` is per attempt; rate limits, server errors and timeouts are tried `max_retries`
    more times. `complete` raises BackendError if the endpoint can serve nothing: wrong key, no
    such model, nobody listening. All else that goes wrong is a Failure.
    """

    model: str
    base_url: str | None = None
    api_key: str | None = None
    max_connections: int = 32
    timeout_s: float = 300.0
    max_retries: int = 5
    _shared: _Shared = field(init=False)
    _refused: set[Feature] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_shared", _Shared(Slots(self.max_connections)))

    def __repr__(self) -> str:
        return f"OpenAIChat({self.model_id!r})"

    @property
    def model_id(self) -> str:
        """NAME@URL; the URL without a user, a password or a query, which may be secret."""
        url = urlsplit(self.base_url or OPENAI_URL)
        bare = url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="")
        return f"{self.model}@{bare.geturl().rstrip('/')}"

    @property
    def refused(self) -> frozenset[Feature]:
        """What the endpoint has turned down or ignored so far, and is no longer asked for."""
        return frozenset(self._refused)

    def without(self, *features: Feature) -> OpenAIChat:
        """A copy, over the same connections, that knows only not to ask for `features`."""
        copy = replace(self)
        object.__setattr__(copy, "_shared", self._shared)
        copy._refused.update(features)
        return copy

    async def complete(self, request: ChatRequest) -> Outcomes:
        shared = request.n > 1 and request.params.temperature > 0 and "n" not in self.refused
        outcomes = await self._ask(request) if shared else ()
        rest = range(request.first_index + len(outcomes), request.first_index + request.n)
        singles = [self._ask(replace(request, n=1, first_index=index)) for index in rest]
        return outcomes + tuple(single for (single,) in await _together(singles))

    async def models(self) -> tuple[str, ...]:
        """The names that the endpoint lists, if any; BackendError if it is unusable."""
        import openai

        # Some servers that serve well cannot list; they are not asked again and again.
        client = (await self._client()).with_options(max_retries=min(1, self.max_retries))
        try:
            return read_models((await client.models.with_raw_response.list()).content)
        except openai.NotFoundError:
            return ()
        except openai.OpenAIError as error:
            self._raise_if_hopeless(error)
            return ()

    async def _ask(self, request: ChatRequest) -> Outcomes:
        """One request, repeated without what the endpoint says it cannot do; 1 to n outcomes."""
        import openai

        dropped = set(self._refused)
        while True:
            try:
                content, seconds = await self._post(body_of(self.model, request, dropped))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                feature = next_to_drop(f"{error.param} {error.message}", request, dropped)
                if feature is None:
                    return (self._failure(error),) * request.n
                dropped.add(feature)
                continue
            except openai.OpenAIError as error:
                self._raise_if_hopeless(error)
                return (self._failure(error),) * request.n
            # Only now is it sure that the refusal was of the feature, and not of the prompt.
            self._refused.update(dropped)
            self._shared.reached = True
            outcomes = read_reply(content, seconds, request.n)
            self._learn(request, outcomes)
            return outcomes

    def _learn(self, request: ChatRequest, outcomes: Outcomes) -> None:
        """Note what the endpoint has left out without a word."""
        if len(outcomes) < request.n:
            self._refused.add("n")
        completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
        if request.detail and completions and all(c.logprobs is None for c in completions):
            self._refused.add("logprobs")

    async def _post(self, body: dict[str, Any]) -> tuple[bytes, float]:
        """The body of the answer, unread: some servers send HTML or broken JSON with a 200."""
        client = await self._client()
        async with self._shared.slots.here():
            start = time.monotonic()
            answer = await client.chat.completions.with_raw_response.create(**body)
            return answer.content, time.monotonic() - start

    async def _client(self) -> AsyncOpenAI:
        """The running loop's own client: its connections die with the loop."""
        import openai

        loop, clients = asyncio.get_running_loop(), self._shared.clients
        if loop not in clients:
            for closed in [other for other in clients if other.is_closed()]:
                del clients[closed]
            client = openai.AsyncOpenAI(
                api_key=self._key(),
                base_url=self.base_url or OPENAI_URL,
                max_retries=self.max_retries,
                timeout=openai.Timeout(self.timeout_s, connect=min(10.0, self.timeout_s)),
            )
            clients[loop] = client
            _KEEPERS[client] = _keep_open(client)
            await anext(_KEEPERS[client])
        return clients[loop]

    def _key(self) -> str:
        """Never the key of the OpenAI API for another host; local servers want any string."""
        fallback = "EMPTY" if self.base_url else os.environ.get("OPENAI_API_KEY", "")
        key = (self.api_key or fallback).strip()
        if not key:
            raise BackendError(
                "The OpenAI API needs a key; set OPENAI_API_KEY, or give the base URL of another."
            )
        return key

    def _raise_if_hopeless(self, error: OpenAIError) -> None:
        """Raise BackendError for what no later request can cure."""
        import openai

        where = self.model_id.removeprefix(f"{self.model}@")
        first = not self._shared.reached
        if isinstance(error, openai.AuthenticationError):
            todo = f"{where} rejects the API key; check the variable that holds it"
        elif isinstance(error, openai.PermissionDeniedError) and first:
            todo = f"The API key may not use {self.model} at {where}; check the key's rights"
        elif isinstance(error, openai.NotFoundError):
            todo = (
                f"{where} knows no model {self.model!r}, or is not the API's address; check both "
                "(mostly the address ends in /v1)"
            )
        elif first and type(error.__cause__).__name__ == "ConnectError":
            todo = f"Nobody answers at {where}; start the server, or correct the address"
        else:
            return
        raise BackendError(f"{todo}.") from None

    def _failure(self, error: OpenAIError) -> Failure:
        import openai

        if isinstance(error, openai.APITimeoutError):
            return Failure("transport", f"No reply came within {self.timeout_s:g} s.", True)
        if not isinstance(error, openai.APIStatusError):
            return Failure("transport", "The connection to the endpoint broke.", True)
        words = told(error.body).replace(self._key(), "***")
        if error.code == "content_filter":
            return Failure("refused", f"The endpoint's content filter: {words}")
        status = error.status_code
        again = status in (408, 409, 429) or status >= 500
        return Failure("transport", f"The endpoint answered {status}: {words}", again)


async def _together(asks: list[Coroutine[Any, Any, Outcomes]]) -> list[Outcomes]:
    """All at once; if one raises, the others are cancelled, since each costs money."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask) for ask in asks]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _keep_open(client: AsyncOpenAI) -> AsyncGenerator[None, None]:
    """Close `client` with its loop: `asyncio.run` ends the loop's generators before the loop."""
    try:
        yield
    finally:
        del _KEEPERS[client]
        await client.close()
