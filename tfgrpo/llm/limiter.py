"""Bound how many calls are in flight at once."""

from __future__ import annotations

import asyncio

from tfgrpo.errors import ConfigError
from tfgrpo.protocols import ChatModel
from tfgrpo.types import ChatRequest, Completion, Failure


class Slots:
    """At most `count` holders per event loop; asyncio's own semaphore belongs to a single loop.

    Raises ConfigError if `count` is below 1.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ConfigError(f"max_connections is {count}; set it to 1 or more.")
        self._count = count
        self._by_loop: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}

    def here(self) -> asyncio.Semaphore:
        """The running loop's semaphore, for `async with`."""
        loop = asyncio.get_running_loop()
        if loop not in self._by_loop:
            live = {k: v for k, v in self._by_loop.items() if not k.is_closed()}
            self._by_loop = {**live, loop: asyncio.Semaphore(self._count)}
        return self._by_loop[loop]


class LimitedModel:
    """At most `max_connections` concurrent `complete` calls reach `inner`; others wait in order."""

    def __init__(self, inner: ChatModel, max_connections: int) -> None:
        self._inner = inner
        self._slots = Slots(max_connections)

    @property
    def model_id(self) -> str:
        return self._inner.model_id

    async def complete(self, request: ChatRequest) -> tuple[Completion | Failure, ...]:
        async with self._slots.here():
            return await self._inner.complete(request)
