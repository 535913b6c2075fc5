"""Bound how many calls are in flight: never over a ceiling, fewer while an endpoint complains."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count

from tfgrpo.errors import ConfigError
from tfgrpo.protocols import ChatModel
from tfgrpo.types import ChatRequest, Completion, Failure


@dataclass(frozen=True, slots=True)
class Window:
    """How many requests may be in flight: additive increase, multiplicative decrease.

        answered:   size <- min(ceiling, size + 1 / size)    one more for every `size` answers
        throttled:  size <- max(1, size / 2)                 once for all requests of one burst

    Chiu and Jain, "Analysis of the increase and decrease algorithms for congestion avoidance in
    computer networks" (1989), as TCP uses it (RFC 5681). `sent` numbers the requests, and a
    complaint about one that was sent before the latest decrease, `cut`, tells nothing new. Assumes
    that requests past an endpoint's limit are refused, rather than only answered more slowly.
    """

    ceiling: int
    size: float
    sent: int = 0
    cut: int = 0

    @property
    def places(self) -> int:
        return int(self.size)

    def opened(self) -> Window:
        """After one more request, whose number is the old `sent`."""
        return replace(self, sent=self.sent + 1)

    def answered(self) -> Window:
        return replace(self, size=min(float(self.ceiling), self.size + 1 / self.size))

    def throttled(self, number: int) -> Window:
        """After the endpoint has turned request `number` down as one too many."""
        if number < self.cut:
            return self
        return replace(self, size=max(1.0, self.size / 2), cut=self.sent)


@dataclass(slots=True)
class _Line:
    """Who is inside and who waits, in one event loop; futures belong to a single loop."""

    inside: int = 0
    closed_until: float = 0.0
    waiting: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)


class Gate:
    """Lets as many holders in as its window says, in the order of their places in the line.

    Whoever tries again keeps its place, so that what was begun first ends first. The window is
    shared by all event loops that come after one another. Raises ConfigError if `ceiling` is
    below 1.
    """

    def __init__(self, ceiling: int) -> None:
        if ceiling < 1:
            raise ConfigError(f"max_connections is {ceiling}; set it to 1 or more.")
        self.window = Window(ceiling, ceiling)
        self._places = count()
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}

    def place(self) -> int:
        """A place at the end of the line."""
        return next(self._places)

    @asynccontextmanager
    async def held(self, place: int | None = None) -> AsyncIterator[int]:
        """Wait for admission, and hold it inside `async with`; gives the request's number."""
        line = self._line()
        await self._admission(line, self.place() if place is None else place)
        number, self.window = self.window.sent, self.window.opened()
        try:
            yield number
        finally:
            self._leave(line)

    def answered(self) -> None:
        self.window = self.window.answered()

    def throttled(self, number: int, pause_s: float | None = None) -> None:
        """Shrink, and let nobody in for `pause_s` seconds, if the endpoint asks for a pause."""
        self.window = self.window.throttled(number)
        if pause_s is not None:
            loop, line = asyncio.get_running_loop(), self._line()
            line.closed_until = max(line.closed_until, loop.time() + pause_s)
            loop.call_at(line.closed_until, self._admit, line)

    async def _admission(self, line: _Line, place: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(line.waiting, (place, turn))
        self._admit(line)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._leave(line)
            raise

    def _admit(self, line: _Line) -> None:
        if asyncio.get_running_loop().time() < line.closed_until:
            return
        while line.waiting and line.inside < self.window.places:
            _, turn = heapq.heappop(line.waiting)
            if not turn.done():
                line.inside += 1
                turn.set_result(None)

    def _leave(self, line: _Line) -> None:
        line.inside -= 1
        self._admit(line)

    def _line(self) -> _Line:
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            live = {k: v for k, v in self._lines.items() if not k.is_closed()}
            self._lines = {**live, loop: _Line()}
        return self._lines[loop]


class LimitedModel:
    """At most `max_connections` concurrent `complete` calls reach `inner`; others wait in order."""

    def __init__(self, inner: ChatModel, max_connections: int) -> None:
        self._inner = inner
        self._gate = Gate(max_connections)

    @property
    def model_id(self) -> str:
        return self._inner.model_id

    def shares(self, request: ChatRequest) -> bool:
        return shares(self._inner, request)

    async def complete(self, request: ChatRequest) -> tuple[Completion | Failure, ...]:
        async with self._gate.held():
            return await self._inner.complete(request)


def shares(model: ChatModel, request: ChatRequest) -> bool:
    """Whether `model` asks for all rollouts of `request` at once, as most do.

    One that needs a call for each says so by a method of this name, which middleware passes on.
    """
    says = getattr(model, "shares", None)
    return says is None or bool(says(request))
