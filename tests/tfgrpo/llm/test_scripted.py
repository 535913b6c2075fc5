from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tfgrpo.errors import BackendError
from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.protocols import ChatModel
from tfgrpo.types import ChatRequest, Completion, Failure, Message, SamplingParams, Usage

REQUEST = ChatRequest((Message("user", "one two three"),), SamplingParams(), n=2, first_index=4)


def ask(model: ScriptedModel, request: ChatRequest = REQUEST) -> tuple[Completion | Failure, ...]:
    return asyncio.run(model.complete(request))


def test_a_function_is_given_the_request_and_the_index() -> None:
    model = ScriptedModel(lambda request, index: f"{request.messages[0].content} {index}")
    assert isinstance(model, ChatModel)
    assert ask(model) == (
        Completion("one two three 4", "stop", Usage(calls=1, prompt_tokens=3, completion_tokens=4)),
        Completion("one two three 5", "stop", Usage(completion_tokens=4)),
    )
    assert model.calls == [REQUEST]


def test_completions_and_failures_pass_unchanged() -> None:
    cut, broken = Completion("a", "length", Usage(9)), Failure("refused", "no")
    assert ask(ScriptedModel([cut, broken])) == (cut, broken)


def test_a_sequence_is_consumed_over_calls_and_then_fails_hard() -> None:
    model = ScriptedModel(["a", "b", "c"])
    single = replace(REQUEST, n=1)
    texts = [outcome.text for outcome in ask(model) + ask(model, single)]  # type: ignore[union-attr]
    assert texts == ["a", "b", "c"]
    with pytest.raises(BackendError, match="all of its 3 replies"):
        ask(model)


def test_a_mapping_goes_by_the_last_message_and_fails_hard() -> None:
    model = ScriptedModel({"one two three": "six"})
    assert [outcome.text for outcome in ask(model)] == ["six", "six"]  # type: ignore[union-attr]
    other = (Message("user", "one two three"), Message("user", "four"))
    with pytest.raises(BackendError, match="no reply to 'four'; add this prompt"):
        ask(model, replace(REQUEST, messages=other))


def test_latency_lets_the_quick_overtake_the_slow() -> None:
    async def race() -> list[str]:
        order: list[str] = []

        async def run(name: str) -> None:
            await model.complete(replace(REQUEST, messages=(Message("user", name),)))
            order.append(name)

        await asyncio.gather(run("slow"), run("quick"))
        return order

    delays = {"slow": 0.1, "quick": 0.0}
    model = ScriptedModel(lambda *_: "x", latency=lambda r: delays[r.messages[0].content])
    assert asyncio.run(race()) == ["quick", "slow"]
    assert [call.messages[0].content for call in model.calls] == ["slow", "quick"]
