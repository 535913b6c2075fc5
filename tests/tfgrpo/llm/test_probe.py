"""What the probe says of servers whose abilities are known."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.tfgrpo.llm.loopback import Answer, Loopback
from tfgrpo.llm.openai_compat import OpenAIChat
from tfgrpo.llm.probe import ProbeResult, probe


def findings(server: Loopback, model: str = "tiny") -> dict[str, ProbeResult]:
    chat = OpenAIChat(model, server.url, max_retries=0, timeout_s=5.0)
    return {result.name: result for result in asyncio.run(probe(chat))}


def verdicts(**how: Any) -> dict[str, bool | None]:
    with Loopback(**how) as server:
        return {name: result.supported for name, result in findings(server).items()}


def test_a_server_that_does_everything() -> None:
    with Loopback() as server:
        results = findings(server)
        chat = OpenAIChat("other", server.url)
        assert "not among the 1 listed" in asyncio.run(probe(chat))[0].detail
    assert list(results) == [
        "reachable", "n", "temperature 0", "temperature 1", "seed", "stop", "max_tokens",
        "logprobs", "json_schema", "json_object", "usage", "cached tokens",
    ]  # fmt: skip
    assert all(result.supported for result in results.values())
    assert all(result.detail and result.consequence for result in results.values())
    assert "it is listed" in results["reachable"].detail


@pytest.mark.parametrize("way", ["ignores", "refuses"])
@pytest.mark.parametrize("feature", ["n", "seed", "logprobs", "json_schema", "json_object"])
def test_one_missing_feature_is_the_only_one_found(way: str, feature: str) -> None:
    found = verdicts(**{way: [feature]})
    assert [name for name, supported in found.items() if supported is not True] == [feature]
    assert found[feature] is False


@pytest.mark.parametrize(
    ("ignored", "changed"),
    [
        ("stop", {"stop": False}),
        ("max_tokens", {"max_tokens": False}),
        ("temperature", {"temperature 1": False, "seed": None}),
        ("usage", {"usage": False, "max_tokens": None, "cached tokens": None}),
        ("cached", {"cached tokens": None}),
    ],
)
def test_silent_neglect_is_found(ignored: str, changed: dict[str, bool | None]) -> None:
    found = verdicts(ignores=[ignored])
    assert {name: said for name, said in found.items() if said is not True} == changed


def test_a_model_of_one_temperature_is_asked_at_that() -> None:
    with Loopback(only={"temperature": 1.0}) as server:
        found = findings(server)
    verdicts = {name: result.supported for name, result in found.items()}
    assert {n: v for n, v in verdicts.items() if v is not True} == {
        "temperature 0": False,
        "stop": None,
    }
    assert "reflection.temperature=1" in found["temperature 0"].detail


def test_an_endpoint_that_is_unusable_yields_one_result() -> None:
    with Loopback(always=Answer.error(401, "no")) as server:
        (result,) = findings(server).values()
    assert (result.name, result.supported) == ("reachable", False)
    assert "rejects the API key" in result.detail
    with Loopback(always=Answer.error(500, "out of memory")) as server:
        (result,) = findings(server).values()
    assert (result.name, result.supported) == ("reachable", False)
    assert "out of memory" in result.detail


def test_nobody_listening_is_told() -> None:
    with Loopback() as server:
        pass
    (result,) = findings(server).values()
    assert result.supported is False
    assert "Nobody answers" in result.detail


def test_a_check_that_fails_is_unknown_and_spares_the_others() -> None:
    with Loopback() as server:
        server.faults += [None, Answer.error(500, "hiccup")]
        results = findings(server)
    assert results["n"].supported is None
    assert "hiccup" in results["n"].detail
    assert all(result.supported for name, result in results.items() if name != "n")
