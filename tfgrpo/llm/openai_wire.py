"""One endpoint over HTTP: its connections, its key, its pace, and how long a request is tried."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tfgrpo.errors import BackendError
from tfgrpo.llm.faults import Fault, FaultLog
from tfgrpo.llm.limiter import Gate
from tfgrpo.llm.openai_reply import read_models
from tfgrpo.llm.openai_trouble import (
    Trouble,
    broken,
    hopeless,
    is_connection,
    late,
    too_long,
    trouble_of,
)
from tfgrpo.llm.retry import Call

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

OPENAI_URL = "https://api.openai.com/v1"
_CONNECT_S = 30.0
_LISTING_S = 30.0
_SHORTEST_SECRET = 8  # what local servers are given as a key is often a plain word
# Held here, because a model that is dropped in the last moment of a loop is closed by halves.
_KEEPERS: dict[AsyncOpenAI, AsyncGenerator[None, None]] = {}


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of a 200, unread: some servers send HTML or broken JSON with it."""

    content: bytes
    seconds: float


class Wire:
    """What a model and its copies have in common: one pool of connections for each event loop.

    `reached`: a request has been served. `named`: it was answered under the very name that was
    asked for. `counted`: several rollouts have come from one request.
    """

    def __init__(
        self, model: str, base_url: str | None, api_key: str | None, max_connections: int
    ) -> None:
        self.gate = Gate(max_connections)
        self.faults = FaultLog()
        self.reached = self.named = self.counted = False
        self._model = model
        self._url = base_url
        self._given_key = api_key
        self._clients: dict[asyncio.AbstractEventLoop, AsyncOpenAI] = {}

    @property
    def where(self) -> str:
        """The URL without a user, a password or a query, which may be secret."""
        url = urlsplit(self._url or OPENAI_URL)
        bare = url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="")
        return bare.geturl().rstrip("/")

    async def post(self, body: dict[str, Any], call: Call) -> Answer | Trouble:
        """What `body` is answered with, tried as often and as long as `call` allows.

        Raises BackendError for what no later request can cure.
        """
        place = self.gate.place()
        while True:
            answer = await self._attempt(body, call, place)
            if isinstance(answer, Answer) or not answer.again:
                return answer
            pause = call.pause() if answer.pause_s is None else answer.pause_s
            if call.retries == 0 or pause >= call.left_s:
                self._raise_if_nobody(answer)
                return answer
            call.retries -= 1
            call.spent_s += pause
            self.faults.note(Fault(answer.kind, call.phase))
            # The gate keeps everybody waiting for as long as an endpoint that is too busy asks.
            if answer.pause_s is None or not answer.throttles:
                await asyncio.sleep(pause)

    async def _attempt(self, body: dict[str, Any], call: Call, place: int) -> Answer | Trouble:
        client = await self._client()
        async with self.gate.held(place) as number:
            start = time.monotonic()
            answer = await self._sent(client, body, call)
            seconds = time.monotonic() - start
            call.spent_s += seconds
            if isinstance(answer, bytes):
                self.gate.answered()
                self.reached = True
                return Answer(answer, seconds)
            if answer.pause_s is not None and answer.pause_s > call.whole_s:
                answer = self._unbearable(answer)
            if answer.throttles:
                self.gate.throttled(number, answer.pause_s)
            return answer

    async def _sent(self, client: AsyncOpenAI, body: dict[str, Any], call: Call) -> bytes | Trouble:
        import openai

        content, seconds = bytearray(), max(0.0, min(call.attempt_s, call.left_s))
        try:
            async with (
                asyncio.timeout(seconds),
                client.chat.completions.with_streaming_response.create(**body) as answer,
            ):
                async for part in answer.iter_bytes():
                    content += part
                    if len(content) > call.longest:
                        return too_long(call.longest)
        except openai.APIStatusError as error:
            self._raise_if_hopeless(error)
            return trouble_of(error, self._hidden)
        except (TimeoutError, openai.APITimeoutError):
            return late(seconds)
        except Exception as error:
            if not isinstance(error, openai.APIConnectionError) and not is_connection(error):
                raise
            return broken(error)
        secret = self._secret()
        return bytes(content.replace(secret.encode(), b"***") if secret else content)

    def _unbearable(self, trouble: Trouble) -> Trouble:
        """After a request for a pause that outlasts every call: the end, if it counts requests."""
        if trouble.kind == "rate limit":
            raise BackendError(
                f"{self.where} asks for a pause of {trouble.pause_s:.0f} s; resume the run then."
            )
        return replace(trouble, pause_s=None)

    def _raise_if_nobody(self, trouble: Trouble) -> None:
        if trouble.nobody and not self.reached:
            raise BackendError(
                f"Nobody answers at {self.where}; start the server, or correct the address."
            )

    def _raise_if_hopeless(self, error: APIStatusError) -> None:
        advice = hopeless(error, self._model, self.where, not self.reached)
        if advice is not None:
            raise BackendError(advice) from None

    async def models(self, retries: int) -> tuple[str, ...]:
        """The names that the endpoint lists, if any; BackendError if it is unusable."""
        import openai

        # Some servers that serve well cannot list; they are not asked again and again.
        client = (await self._client()).with_options(max_retries=retries, timeout=_LISTING_S)
        try:
            return read_models((await client.models.with_raw_response.list()).content)
        except openai.NotFoundError:
            return ()
        except openai.APIStatusError as error:
            self._raise_if_hopeless(error)
        except openai.OpenAIError as error:
            self._raise_if_nobody(broken(error))
        return ()

    async def _client(self) -> AsyncOpenAI:
        """The running loop's own client: its connections die with the loop."""
        import openai

        loop, clients = asyncio.get_running_loop(), self._clients
        if loop not in clients:
            for closed in [other for other in clients if other.is_closed()]:
                del clients[closed]
            client = openai.AsyncOpenAI(
                api_key=self._key(),
                base_url=self._url or OPENAI_URL,
                max_retries=0,
                timeout=openai.Timeout(None, connect=_CONNECT_S),
            )
            clients[loop] = client
            _KEEPERS[client] = _keep_open(client)
            await anext(_KEEPERS[client])
        return clients[loop]

    def _key(self) -> str:
        """Never the key of the OpenAI API for another host; local servers want any string."""
        fallback = "EMPTY" if self._url else os.environ.get("OPENAI_API_KEY", "")
        key = (self._given_key or fallback).strip()
        if not key:
            raise BackendError(
                "The OpenAI API needs a key; set OPENAI_API_KEY, or give the base URL of another."
            )
        return key

    def _secret(self) -> str | None:
        """The key, unless it is too short to be one."""
        key = self._key()
        return key if len(key) >= _SHORTEST_SECRET else None

    def _hidden(self, text: str) -> str:
        secret = self._secret()
        return text.replace(secret, "***") if secret else text


async def _keep_open(client: AsyncOpenAI) -> AsyncGenerator[None, None]:
    """Close `client` with its loop: `asyncio.run` ends the loop's generators before the loop."""
    try:
        yield
    finally:
        del _KEEPERS[client]
        await client.close()
