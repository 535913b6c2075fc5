"""A model that says what it is told to: for tests, for demonstrations, for trying a pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from tfgrpo.errors import BackendError
from tfgrpo.types import ChatRequest, Completion, Failure, Usage

Reply = str | Completion | Failure
Script = Callable[[ChatRequest, int], Reply] | Mapping[str, Reply] | Sequence[Reply]


class ScriptedModel:
    """Replies from a script; equal requests in equal order give equal replies.

    The script is a function of the request and the rollout index, a mapping from the last
    message's text, or a sequence that is consumed rollout by rollout. `latency` gives the seconds
    that a request waits. A `Completion` is returned as it is; a string is charged for its words,
    with the prompt's words once per request. `calls` records every request.

    `complete` raises BackendError where the script has no reply.
    """

    def __init__(
        self,
        reply: Script,
        latency: Callable[[ChatRequest], float] | None = None,
        model_id: str = "scripted",
    ) -> None:
        self.calls: list[ChatRequest] = []
        self._reply = _as_function(reply)
        self._latency = latency
        self._model_id = model_id

    @property
    def model_id(self) -> str:
        return self._model_id

    async def complete(self, request: ChatRequest) -> tuple[Completion | Failure, ...]:
        self.calls.append(request)
        indices = range(request.first_index, request.first_index + request.n)
        replies = [self._reply(request, index) for index in indices]
        if self._latency is not None:
            await asyncio.sleep(self._latency(request))
        return tuple(_charged(replies, request))


def _charged(replies: Sequence[Reply], request: ChatRequest) -> Iterator[Completion | Failure]:
    prompt_words = sum(len(message.content.split()) for message in request.messages)
    owed = Usage(calls=1, prompt_tokens=prompt_words)
    for reply in replies:
        if isinstance(reply, str):
            usage = replace(owed, completion_tokens=len(reply.split()))
            yield Completion(reply, "stop", usage)
            owed = Usage()
        else:
            yield reply


def _as_function(script: Script) -> Callable[[ChatRequest, int], Reply]:
    if isinstance(script, Mapping):
        return lambda request, index: _looked_up(script, request)
    if isinstance(script, Sequence):
        rest = iter(script)
        return lambda request, index: _next(rest, len(script))
    return script


def _looked_up(script: Mapping[str, Reply], request: ChatRequest) -> Reply:
    prompt = request.messages[-1].content
    if prompt not in script:
        raise BackendError(
            f"The scripted model has no reply to {prompt[:200]!r}; add this prompt to its mapping."
        )
    return script[prompt]


def _next(rest: Iterator[Reply], length: int) -> Reply:
    for reply in rest:
        return reply
    raise BackendError(
        f"The scripted model has spoken all of its {length} replies; give it as many as are asked."
    )
