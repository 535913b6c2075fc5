"""`OpenAIChat` against a real server on loopback that behaves well and badly."""

from __future__ import annotations

import asyncio
import gc
import math
import socket
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tfgrpo.llm.loopback import Answer, Loopback, completion
from tfgrpo.errors import BackendError, UntakenError
from tfgrpo.llm.entropy_bounds import LARGEST_VOCABULARY, entropy_bounds
from tfgrpo.llm.openai_compat import OpenAIChat
from tfgrpo.llm.openai_reply import read_reply, split_reasoning
from tfgrpo.llm.openai_usage import shares
from tfgrpo.protocols import ChatModel
from tfgrpo.types import ChatRequest, Completion, Failure, Message, SamplingParams, Usage

PARAMS = SamplingParams(temperature=0.7, top_p=0.9, max_tokens=64, seed=5)
REQUEST = ChatRequest((Message("system", "Be brief."), Message("user", "What is 2 + 2?")), PARAMS)
SCHEMA = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
SOON = {"retry_after_ms": "1"}


def chat(server: Loopback, **settings: Any) -> OpenAIChat:
    return OpenAIChat(
        "tiny", server.url, **{"max_retries": 2, "timeout_s": 5.0, "backoff_s": 0.001} | settings
    )


def ask(model: OpenAIChat, request: ChatRequest = REQUEST) -> tuple[Completion | Failure, ...]:
    return asyncio.run(model.complete(request))


def total(outcomes: tuple[Completion | Failure, ...]) -> Usage:
    return sum((o.usage for o in outcomes if isinstance(o, Completion)), Usage())


def test_every_setting_is_sent() -> None:
    with Loopback() as server:
        model = chat(server, api_key="sk-secret")
        (reply,) = ask(model, replace(REQUEST, params=replace(PARAMS, stop=("zebra",))))
    assert isinstance(model, ChatModel)
    assert isinstance(reply, Completion)
    assert reply.finish_reason == "stop"
    (body,) = server.bodies
    assert 0 <= body.pop("seed") < 2**31
    assert body == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is 2 + 2?"},
        ],
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 64,
        "stop": ["zebra"],
    }
    assert server.keys == ["Bearer sk-secret"]


def test_several_rollouts_share_a_request_and_its_usage() -> None:
    with Loopback() as server:
        outcomes = ask(chat(server), replace(REQUEST, n=4))
    assert [body["n"] for body in server.bodies] == [4]
    assert len({o.text for o in outcomes if isinstance(o, Completion)}) == 4
    generated = [o.usage.completion_tokens for o in outcomes if isinstance(o, Completion)]
    used = total(outcomes)
    assert (used.calls, used.prompt_tokens, used.completion_tokens) == (1, 7, 4 * 24)
    assert used.seconds > 0
    assert all(abs(tokens - 24) <= 6 for tokens in generated)


def test_a_server_that_ignores_n_is_asked_one_by_one_ever_after() -> None:
    with Loopback(ignores=["n"]) as server:
        model = chat(server)
        first = ask(model, replace(REQUEST, n=4))
        assert model.refused == {"n"}
        again = ask(model, replace(REQUEST, n=4))
    assert [body.get("n", 1) for body in server.bodies] == [4] + [1] * 7
    assert total(first).calls == total(again).calls == 4
    seeds = [body["seed"] for body in server.bodies]
    # What was paid for is kept, so the first request of all served rollout 0.
    assert set(seeds[:4]) == set(seeds[4:])
    assert len(set(seeds)) == 4
    assert [o.text for o in first] == [o.text for o in again]  # type: ignore[union-attr]


def test_a_server_that_refuses_n_is_asked_one_by_one_ever_after() -> None:
    with Loopback(refuses=["n"]) as server:
        model = chat(server)
        for _ in range(2):
            assert total(ask(model, replace(REQUEST, n=3))).calls == 3
    assert [body.get("n", 1) for body in server.bodies] == [3] + [1] * 6


def test_half_of_the_choices_are_kept_and_the_rest_is_fetched() -> None:
    with Loopback() as server:
        server.faults.append(completion({"content": "a"}, {"content": "b"}))
        outcomes = ask(chat(server), replace(REQUEST, n=4, first_index=10))
    assert [body.get("n", 1) for body in server.bodies] == [4, 2]
    assert [o.text for o in outcomes[:2] if isinstance(o, Completion)] == ["a", "b"]
    assert len({body["seed"] for body in server.bodies}) == 2
    assert len({o.text for o in outcomes if isinstance(o, Completion)}) == 4


def test_greedy_rollouts_never_share_a_request() -> None:
    greedy = replace(REQUEST, n=3, params=replace(PARAMS, temperature=0.0))
    with Loopback() as server:
        model = chat(server)
        outcomes = ask(model, greedy)
    assert all("n" not in body for body in server.bodies)
    assert len({o.text for o in outcomes if isinstance(o, Completion)}) == 1
    assert not model.refused


def test_a_rollout_keeps_its_seed_however_it_is_asked_for() -> None:
    with Loopback(ignores=["n"]) as server:
        model = chat(server)
        whole = ask(model, replace(REQUEST, n=3))
        parts = tuple(ask(model, replace(REQUEST, first_index=i))[0] for i in range(3))
        ask(model, replace(REQUEST, params=replace(PARAMS, seed=6)))
        ask(model, replace(REQUEST, params=replace(PARAMS, seed=None)))
    assert [o.text for o in whole] == [o.text for o in parts]  # type: ignore[union-attr]
    assert server.bodies[-2]["seed"] not in {body["seed"] for body in server.bodies[:-2]}
    assert "seed" not in server.bodies[-1]


def test_one_instance_serves_several_event_loops() -> None:
    with Loopback() as server:
        model = chat(server)
        texts = [[o.text for o in ask(model)] for _ in range(3)]  # type: ignore[union-attr]
    assert texts[0] == texts[1] == texts[2]


def test_models_dropped_while_the_loop_runs_leave_no_connection_open() -> None:
    async def drop(server: Loopback) -> None:
        for _ in range(3):
            await chat(server).complete(REQUEST)
        gc.collect()
        await asyncio.sleep(0.01)

    # What is left open is a ResourceWarning, which is an error here.
    with Loopback() as server:
        asyncio.run(drop(server))
    gc.collect()
    assert len(server.bodies) == 3


def test_no_more_connections_than_allowed() -> None:
    async def many(model: OpenAIChat) -> None:
        await asyncio.gather(*(model.complete(REQUEST) for _ in range(12)))

    with Loopback(always=replace(completion({"content": "x"}), delay_s=0.02)) as server:
        asyncio.run(many(chat(server, max_connections=3)))
    assert len(server.bodies) == 12
    assert server.most_at_once <= 3


@pytest.mark.parametrize(
    "fault",
    [
        Answer.error(429, "slow down", **SOON),
        Answer.error(429, "slow down"),
        Answer.error(408, "late", **SOON),
        Answer.error(409, "locked", **SOON),
        Answer.error(500, "oops", **SOON),
        Answer(503, b"<html>Bad gateway</html>", {"retry-after-ms": "1"}),
        Answer(hang_up=True),
    ],
    ids=["429 told when", "429", "408", "409", "500", "503 HTML", "hang-up"],
)
def test_passing_trouble_is_tried_again(fault: Answer) -> None:
    with Loopback() as server:
        server.faults.append(fault)
        (reply,) = ask(chat(server))
    assert isinstance(reply, Completion)
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("fault", "stage", "retryable", "words"),
    [
        (Answer.error(429, "slow  down", **SOON), "transport", True, "429: slow down"),
        (Answer.error(500, "oops", **SOON), "transport", True, "500: oops"),
        (Answer.error(400, "context is too long"), "transport", False, "400: context is too long"),
        (Answer.json(422, {"detail": [{"loc": ["x"]}]}), "transport", False, '[{"loc": ["x"]}]'),
        (Answer.error(413, "sk-secret is too big"), "transport", False, "*** is too big"),
        (Answer(hang_up=True), "transport", True, "connection"),
        (replace(completion({"content": "x"}), delay_s=9.0), "transport", True, "within 0.2 s"),
        (
            Answer.json(400, {"error": {"message": "no", "code": "content_filter"}}),
            "refused",
            False,
            "content filter: no",
        ),
        (
            Answer(200, b"<html>Log in</html>", {"content-type": "text/html"}),
            "protocol",
            True,
            "<html>Log in</html>",
        ),
        (Answer(200, b'{"choices": [{"mess'), "protocol", True, "no chat completion"),
        (Answer(200, b"\xff\xfe"), "protocol", True, "no chat completion"),
        (Answer(200, b"[]"), "protocol", True, "no chat completion"),
        (Answer(200, b'{"choices": [{"message": 7}]}'), "protocol", True, "no chat completion"),
        (completion(), "protocol", True, "no choices"),
        (Answer.error(200, "overloaded"), "protocol", True, "no choices but says 'overloaded'"),
        (completion({"content": None}), "empty", True, "no content"),
        (completion({"content": None, "refusal": "I will not."}), "refused", False, "I will not."),
        (
            completion({"content": "par", "finish_reason": "content_filter"}),
            "refused",
            False,
            "content filter",
        ),
    ],
)
def test_lasting_trouble_is_a_typed_failure(
    fault: Answer, stage: str, retryable: bool, words: str
) -> None:
    with Loopback(always=fault) as server:
        settings = {"timeout_s": 0.2} if fault.delay_s else {}
        model = chat(server, max_retries=0, api_key="sk-secret", **settings)
        outcomes = ask(model, replace(REQUEST, n=2, params=replace(PARAMS, temperature=0.0)))
    for outcome in outcomes:
        assert isinstance(outcome, Failure)
        assert (outcome.stage, outcome.retryable) == (stage, retryable)
        assert words in outcome.reason
        assert "sk-secret" not in outcome.reason
    assert len(outcomes) == 2
    assert not model.refused


@pytest.mark.parametrize("fault", [Answer(200, b"<html>"), completion(), Answer.error(500, "no")])
def test_a_shared_request_that_fails_fails_all_its_rollouts(fault: Answer) -> None:
    with Loopback(always=fault) as server:
        model = chat(server, max_retries=0, max_repairs=0)
        outcomes = ask(model, replace(REQUEST, n=3))
    assert len(outcomes) == 3
    assert all(isinstance(outcome, Failure) for outcome in outcomes)
    assert len(server.bodies) == 1
    assert not model.refused


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "check the variable"), (403, "check the key's rights"), (404, "knows no model 'tiny'")],
)
def test_an_unusable_endpoint_is_told_once_and_clearly(status: int, words: str) -> None:
    with Loopback(always=Answer.error(status, "Incorrect key sk-secret")) as server:
        model = chat(server, api_key="sk-secret")
        with pytest.raises(BackendError, match=words) as caught:
            ask(model, replace(REQUEST, n=4))
    assert len(server.bodies) == 1
    assert "sk-secret" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("temperature", "'temperature' does not support 0.2 with this model. Only 1 is supported."),
        ("temperature", "Unsupported parameter: 'temperature' is not supported with this model."),
        ("temperature", "temperature: must be at least 0.5"),
        ("top_p", "Invalid request: top_p must be 1 for reasoning models"),
    ],
)
def test_a_sampling_value_that_is_turned_down_ends_the_run(name: str, words: str) -> None:
    params = SamplingParams(0.2, 0.9, 16, (), 1)
    with Loopback(always=Answer.error(400, words)) as server:
        with pytest.raises(UntakenError, match=rf"set sampling\.{name} to what it takes") as caught:
            ask(chat(server), replace(REQUEST, n=4, params=params))
        with pytest.raises(UntakenError, match=rf"set reflection\.{name} to"):
            ask(chat(server), replace(REQUEST, params=params, phase="compare"))
    assert f"does not take {name} {getattr(params, name):g} " in str(caught.value)
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    "words",
    [
        "the prompt is too long: 'temperature': 1.0, 'top_p': 1.0, 'max_tokens': 16",
        "the prompt asks for the temperature in Paris, which must not be told",
        "n must be 1 at this temperature",
    ],
)
def test_a_refusal_that_only_quotes_a_sampling_value_is_a_failure(words: str) -> None:
    with Loopback(always=Answer.error(400, words)) as server:
        outcomes = ask(chat(server), REQUEST)
    assert all(isinstance(outcome, Failure) for outcome in outcomes)


def test_a_fan_out_that_raises_raises_plainly() -> None:
    with Loopback(always=Answer.error(401, "no")) as server, pytest.raises(BackendError):
        ask(chat(server).without("n"), replace(REQUEST, n=4))


def test_nobody_listening() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = OpenAIChat("tiny", f"http://127.0.0.1:{port}/v1", max_retries=0)
    with pytest.raises(BackendError, match=f"Nobody answers at .*:{port}/v1; start the server"):
        ask(model)


def test_a_server_that_dies_later_is_a_failure() -> None:
    with Loopback() as server:
        model = chat(server, max_retries=0)
        ask(model)
    (outcome,) = ask(model)
    assert outcome == Failure("transport", "The connection to the endpoint broke.", True)


def test_the_openai_api_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(BackendError, match="set OPENAI_API_KEY"):
        ask(OpenAIChat("gpt-5-mini"))


def test_the_key_of_the_openai_api_goes_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with Loopback() as server:
        ask(chat(server))
    assert server.keys == ["Bearer EMPTY"]


def test_secrets_are_in_no_name() -> None:
    model = OpenAIChat("m", "https://user:pass@host:8000/v1/?token=abc", "sk-secret")
    assert model.model_id == "m@https://host:8000/v1"
    assert repr(model) == "OpenAIChat('m@https://host:8000/v1')"
    assert OpenAIChat("gpt-5-mini").model_id == "gpt-5-mini@https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("refuses", "kinds"),
    [
        ([], ["json_schema", "json_schema"]),
        (["json_schema"], ["json_schema", "json_object", "json_object"]),
        (["json_schema", "json_object"], ["json_schema", "json_object", None, None]),
    ],
)
def test_structured_output_goes_down_its_ladder_once(
    refuses: list[str], kinds: list[str | None]
) -> None:
    request = replace(REQUEST, json_schema=SCHEMA)
    with Loopback(refuses=refuses) as server:
        model = chat(server)
        for _ in range(2):
            assert isinstance(ask(model, request)[0], Completion)
    assert [body.get("response_format", {}).get("type") for body in server.bodies] == kinds
    assert server.bodies[0]["response_format"]["json_schema"] == {
        "name": "reply",
        "strict": True,
        "schema": SCHEMA,
    }


def test_a_prompt_that_is_refused_teaches_nothing() -> None:
    request = replace(REQUEST, json_schema=SCHEMA, detail=True, n=2)
    with Loopback() as server:
        server.faults += [Answer.error(400, "too long")] * 6
        model = chat(server)
        assert all(isinstance(outcome, Failure) for outcome in ask(model, request))
        assert not model.refused
        ask(model, request)
    last = server.bodies[-1]
    assert (last["n"], last["logprobs"]) == (2, True)
    assert last["response_format"]["type"] == "json_schema"


def test_parameters_that_have_gone_out_of_use() -> None:
    with Loopback(refuses=["seed"]) as server:
        server.faults.append(Answer.error(400, "Use 'max_completion_tokens' instead."))
        model = chat(server)
        for _ in range(2):
            assert isinstance(ask(model)[0], Completion)
    assert model.refused == {"max_tokens", "seed"}
    assert server.bodies[-1]["max_completion_tokens"] == 64
    assert "max_tokens" not in server.bodies[-1]


def test_log_probabilities_are_given_where_they_can_be_had() -> None:
    request = replace(REQUEST, detail=True)
    with Loopback() as server:
        (reply,) = ask(chat(server), request)
        (plain,) = ask(chat(server))
    assert isinstance(reply, Completion)
    assert reply.logprobs == tuple(-len(word) / 8 for word in reply.text.split())
    assert reply.usage.completion_tokens == len(reply.logprobs)
    assert isinstance(plain, Completion)
    assert plain.logprobs is None


def test_the_likeliest_tokens_bound_the_entropy() -> None:
    request = replace(REQUEST, detail=True)
    with Loopback() as server:
        (reply,) = ask(chat(server), request)
    assert isinstance(reply, Completion)
    assert server.bodies[-1]["top_logprobs"] == 20
    each = [entropy_bounds([math.exp(p), math.exp(-5)]) for p in reply.logprobs or ()]
    means = [fmean(ends) for ends in zip(*each, strict=True)]
    assert reply.entropy_bounds == pytest.approx(means)
    assert reply.entropies is None


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"refuses": ["top_logprobs"]}, None),
        ({"ignores": ["top_logprobs"]}, None),
        ({}, "Requested sample logprobs of 20, which is greater than max allowed: 5"),
    ],
)
def test_log_probabilities_without_the_likeliest(how: dict[str, Any], words: str | None) -> None:
    with Loopback(**how) as server:
        server.faults += [Answer.error(400, words)] if words else []
        (reply,) = ask(chat(server), replace(REQUEST, detail=True))
        assert isinstance(reply, Completion)
        assert reply.logprobs is not None
        assert reply.entropy_bounds is None
        assert server.bodies[-1]["logprobs"] is True


@pytest.mark.parametrize("told", ["NaN", "Infinity", "-Infinity", "1e308", "-9999.0"])
def test_log_probabilities_that_are_no_numbers_spoil_no_reply(told: str) -> None:
    body = (
        '{"choices": [{"message": {"content": "4"}, "finish_reason": "stop", "logprobs": {"content"'
        ': [{"token": "4", "logprob": %s, "top_logprobs": [{"token": "4", "logprob": %s}]}]}}]}'
    )
    (reply,) = read_reply((body % (told, told)).encode(), 0.0, 1).outcomes
    assert isinstance(reply, Completion)
    assert reply.text == "4"
    low, high = reply.entropy_bounds or (0.0, 0.0)
    assert 0.0 <= low <= high <= math.log(2 * LARGEST_VOCABULARY)


@pytest.mark.parametrize("how", [{"refuses": ["logprobs"]}, {"ignores": ["logprobs"]}])
def test_log_probabilities_are_asked_for_once_where_there_are_none(how: dict[str, Any]) -> None:
    with Loopback(**how) as server:
        model = chat(server)
        for _ in range(2):
            (reply,) = ask(model, replace(REQUEST, detail=True))
            assert isinstance(reply, Completion)
            assert reply.logprobs is None
    assert model.refused == {"logprobs"}
    assert "logprobs" not in server.bodies[-1]


def test_usage_in_full() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 7},
    }
    refusal = {"content": None, "refusal": "No."}
    answer = completion({"content": "abc"}, refusal, {"content": "abcdefghi"}, usage=usage)
    with Loopback(always=answer) as server:
        outcomes = ask(chat(server), replace(REQUEST, n=3))
    first, refused, last = outcomes
    assert isinstance(first, Completion)
    assert isinstance(refused, Failure)
    assert isinstance(last, Completion)
    assert replace(first.usage, seconds=0.0) == Usage(1, 100, 64, 2, 1)
    assert last.usage == Usage(0, 0, 0, 8, 6)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}])
def test_usage_that_is_missing_counts_the_call(usage: dict[str, Any] | None) -> None:
    with Loopback(always=completion({"content": "x"}, usage=usage)) as server:
        (reply,) = ask(chat(server))
    assert isinstance(reply, Completion)
    assert replace(reply.usage, seconds=0.0) == Usage(calls=1)


def test_a_reply_cut_short_is_a_reply() -> None:
    with Loopback() as server:
        (reply,) = ask(chat(server), replace(REQUEST, params=replace(PARAMS, max_tokens=3)))
        server.faults.append(
            completion({"content": None, "reasoning_content": "Hm", "finish_reason": "length"})
        )
        (thinking,) = ask(chat(server))
    assert isinstance(reply, Completion)
    assert (reply.finish_reason, len(reply.text.split())) == ("length", 3)
    assert isinstance(thinking, Completion)
    assert (thinking.text, thinking.finish_reason, thinking.reasoning) == ("", "length", "Hm")


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": "4", "reasoning_content": "two and two"}, "4", "two and two"),
        ({"content": "4", "reasoning": "two and two"}, "4", "two and two"),
        ({"content": "<think>\ntwo\n</think>\n\n4"}, "4", "two"),
        ({"content": "4"}, "4", None),
    ],
)
def test_reasoning_is_kept_apart(message: dict[str, Any], text: str, reasoning: str | None) -> None:
    with Loopback(always=completion(message)) as server:
        (reply,) = ask(chat(server))
    assert isinstance(reply, Completion)
    assert (reply.text, reply.reasoning) == (text, reasoning)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("two</think>4", ("4", "two")),
        (" <think>never ends", ("", "never ends")),
        ("<think></think>4", ("4", "")),
        ("4 <think>", ("4 <think>", None)),
        ("", ("", None)),
    ],
)
def test_split_reasoning(content: str, parts: tuple[str, str | None]) -> None:
    assert split_reasoning(content) == parts


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=9))
def test_shares_are_exact_and_proportional(total: int, weights: list[int]) -> None:
    parts = shares(total, weights)
    assert sum(parts) == total
    assert len(parts) == len(weights)
    equal = weights if any(weights) else [1] * len(weights)
    for part, weight in zip(parts, equal, strict=True):
        assert abs(part * sum(equal) - total * weight) < sum(equal)
        assert total > sum(equal) or part <= weight


@pytest.mark.parametrize(
    "answer",
    [Answer(200, b"<html>"), Answer(200, b"{}"), Answer.error(404, "no"), Answer.error(500, "no")],
)
def test_models_that_cannot_be_listed_are_none(answer: Answer) -> None:
    with Loopback() as server:
        server.models = answer
        assert asyncio.run(chat(server, max_retries=0).models()) == ()


def test_models_are_listed_and_copies_start_afresh() -> None:
    with Loopback(ignores=["n"]) as server:
        model = chat(server)
        assert asyncio.run(model.models()) == ("tiny",)
        ask(model, replace(REQUEST, n=2))
    assert model.without().refused == frozenset()
    assert model.without("seed").refused == {"seed"}


def test_failed_rollouts_do_not_take_their_neighbours_along() -> None:
    with Loopback() as server:
        server.faults.append(Answer.error(400, "unlucky"))
        outcomes = ask(chat(server).without("n"), replace(REQUEST, n=5))
    assert sum(isinstance(outcome, Failure) for outcome in outcomes) == 1
    assert len(outcomes) == 5
