"""The meter, its budget, and the limiter."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tfgrpo.errors import BackendError, BudgetStop, ConfigError
from tfgrpo.ledger import Price
from tfgrpo.llm.cache import CachedModel, CallStore
from tfgrpo.llm.limiter import LimitedModel
from tfgrpo.llm.meter import Budget, Meter, MeteredModel
from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.protocols import ChatModel
from tfgrpo.types import ChatRequest, Completion, Failure, Message, SamplingParams, Usage

REQUEST = ChatRequest((Message("user", "one two"),), SamplingParams(), n=2, phase="rollout")


def ask(model: ChatModel, request: ChatRequest = REQUEST) -> tuple[Completion | Failure, ...]:
    return asyncio.run(model.complete(request))


def many(model: ChatModel, count: int) -> list[object]:
    async def run() -> list[object]:
        calls = [model.complete(replace(REQUEST, first_index=2 * i)) for i in range(count)]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(run())


def unclocked(usage: Usage) -> Usage:
    return replace(usage, seconds=0.0)


class Gauge:
    """A model that knows how many calls were inside it at once."""

    model_id = "gauge"

    def __init__(self) -> None:
        self.inside = self.most = 0

    async def complete(self, request: ChatRequest) -> tuple[Completion | Failure, ...]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        for _ in range(5):
            await asyncio.sleep(0)
        self.inside -= 1
        return (Completion("x", "stop", Usage(calls=1)),) * request.n


def test_usage_is_counted_by_phase_over_concurrent_calls() -> None:
    meter = Meter()
    one = MeteredModel(ScriptedModel(lambda *_: "a b c", latency=lambda _: 0.01), meter)
    two = MeteredModel(ScriptedModel(lambda *_: "a"), meter)
    assert isinstance(one, ChatModel)
    many(one, 5)
    ask(two, replace(REQUEST, phase="compare"))
    assert one.usage is two.usage
    assert {phase: unclocked(used) for phase, used in meter.usage.items()} == {
        "rollout": Usage(5, 10, 0, 30),
        "compare": Usage(1, 2, 0, 2),
    }
    assert meter.usage["rollout"].seconds >= 5 * 0.01 * 0.9
    assert meter.total.calls == 6


def test_seconds_are_measured_and_not_believed() -> None:
    told = Completion("x", "stop", Usage(calls=1, seconds=1e6))
    model = MeteredModel(ScriptedModel(lambda *_: told))
    ask(model)
    assert 0 <= model.usage["rollout"].seconds < 1e5


def test_failures_are_counted_by_stage_and_cost_a_call() -> None:
    broken = Failure("transport", "late", True)
    model = MeteredModel(ScriptedModel([broken, broken, "a", Failure("refused", "no")]))
    ask(model)
    assert unclocked(model.usage["rollout"]) == Usage(calls=1)
    ask(model)
    assert model.meter.failures == {"transport": 2, "refused": 1}
    assert unclocked(model.usage["rollout"]) == Usage(2, 2, 0, 1)


def test_inside_a_cache_the_meter_counts_what_is_paid(tmp_path: Path) -> None:
    with CallStore(tmp_path / "c.sqlite") as store:
        inner = MeteredModel(ScriptedModel(lambda *_: "a"))
        outer = MeteredModel(CachedModel(inner, store))
        ask(outer)
        ask(outer)
    assert unclocked(inner.usage["rollout"]) == Usage(1, 2, 0, 2)
    assert unclocked(outer.usage["rollout"]) == Usage(2, 4, 0, 4)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(max_tokens=12), "budget of 12 tokens is spent; raise it"),
        (Budget(max_calls=2), "budget of 2 calls is spent"),
        (Budget(max_usd=7e-6), "budget of 7e-06 US dollars is spent"),
    ],
)
def test_a_spent_budget_admits_no_call(budget: Budget, words: str) -> None:
    # Each call takes 2 prompt and 4 completion tokens, for 4 millionths of a dollar.
    script = ScriptedModel(lambda *_: "a b")
    model = MeteredModel(script, Meter(budget), Price(0.0, 0.0, 1.0))
    ask(model)
    ask(model)
    for _ in range(2):
        with pytest.raises(BudgetStop, match=words):
            ask(model)
    assert len(script.calls) == 2


def test_a_budget_of_no_time_admits_no_call() -> None:
    with pytest.raises(BudgetStop, match="0 seconds"):
        ask(MeteredModel(Gauge(), Meter(Budget(max_seconds=0))))
    assert ask(MeteredModel(Gauge(), Meter(Budget(max_seconds=1e9))))


def test_calls_in_flight_count_towards_the_budget() -> None:
    model = MeteredModel(Gauge(), Meter(Budget(max_calls=3)))
    results = many(model, 5)
    assert [isinstance(result, BudgetStop) for result in results] == [False] * 3 + [True] * 2


def test_a_call_that_raises_is_no_longer_in_flight() -> None:
    model = MeteredModel(ScriptedModel(["a"]), Meter(Budget(max_calls=1)))
    for _ in range(3):
        with pytest.raises(BackendError):
            ask(model)


def test_a_budget_in_dollars_needs_prices() -> None:
    with pytest.raises(ConfigError, match="needs the prices of gauge"):
        MeteredModel(Gauge(), Meter(Budget(max_usd=1.0)), Price(prompt=1.0))


@pytest.mark.parametrize("bound", [1, 3])
def test_the_limiter_bounds_calls_in_every_loop(bound: int) -> None:
    gauge = Gauge()
    model = LimitedModel(gauge, bound)
    assert isinstance(model, ChatModel)
    assert model.model_id == "gauge"
    for _ in range(3):
        assert not any(isinstance(result, Exception) for result in many(model, 8))
    assert gauge.most == bound


def test_a_limiter_of_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_connections is 0; set it to 1 or more"):
        LimitedModel(Gauge(), 0)
