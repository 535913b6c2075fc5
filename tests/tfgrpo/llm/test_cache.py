"""The store under kills, and the model that never pays twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from random import Random
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.errors import BackendError, RunError
from tfgrpo.llm.cache import CachedModel, CallStore, call_key, contiguous
from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.protocols import ChatModel
from tfgrpo.types import ChatRequest, Completion, Failure, Message, SamplingParams, Usage

REQUEST = ChatRequest((Message("user", "one two"),), SamplingParams(seed=1), n=3, phase="rollout")
Outcomes = tuple[Completion | Failure, ...]

WRITER = """
import sys
from pathlib import Path
from tfgrpo.llm.cache import CallStore
from tfgrpo.types import Completion, Usage

with CallStore(Path(sys.argv[1])) as store:
    for number in range(10**9):
        name = f"{sys.argv[2]}-{number}"
        pair = {f"{name}-{half}": Completion(name * 99, "stop", Usage(1, 2)) for half in "ab"}
        store.put("rollout", pair)
        print(name, flush=True)
"""

counts = st.integers(0, 2**53)
numbers = st.floats(allow_nan=False)
rows = st.none() | st.lists(numbers, max_size=5).map(tuple)
texts = st.text(st.characters(), max_size=20)  # lone surrogates too: some servers send them
completions = st.builds(
    Completion,
    text=texts,
    finish_reason=st.sampled_from(["stop", "length", "other"]),
    usage=st.builds(Usage, counts, counts, counts, counts, counts, st.floats(0, 1e9)),
    token_ids=st.none() | st.lists(counts, max_size=5).map(tuple),
    logprobs=rows,
    entropies=rows,
    entropy_bounds=st.none() | st.tuples(numbers, numbers),
    reasoning=st.none() | texts,
)


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    with CallStore(tmp_path / "calls.sqlite") as opened:
        yield opened


def echo(request: ChatRequest, index: int) -> str:
    return f"{request.messages[0].content} {index}"


def ask(model: ChatModel, request: ChatRequest = REQUEST) -> Outcomes:
    return asyncio.run(model.complete(request))


def test_completions_come_back_exactly(store: CallStore) -> None:
    keys = map(str, count())

    @settings(max_examples=60)
    @given(completions)
    def round_trip(stored: Completion) -> None:
        key = next(keys)
        store.put("compare", {key: stored})
        (found,) = store.get([key]).values()
        assert found == stored
        assert type(found.usage.seconds) is float

    round_trip()


@settings(max_examples=25)
@given(st.lists(completions, max_size=4))
def test_usage_is_summed(stored: list[Completion]) -> None:
    with CallStore(Path(":memory:")) as store:
        store.put("compare", dict(zip("abcd", stored, strict=False)))
        expected = sum((c.usage for c in stored), Usage())
        expected = replace(expected, seconds=pytest.approx(expected.seconds))
        assert store.usage_by_phase() == ({"compare": expected} if stored else {})


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, params=replace(REQUEST.params, seed=2)),
        replace(REQUEST, params=replace(REQUEST.params, seed=None)),
        replace(REQUEST, params=replace(REQUEST.params, temperature=0.5)),
        replace(REQUEST, params=replace(REQUEST.params, top_p=0.5)),
        replace(REQUEST, params=replace(REQUEST.params, max_tokens=7)),
        replace(REQUEST, params=replace(REQUEST.params, stop=("x",))),
        replace(REQUEST, messages=(Message("system", "one two"),)),
        replace(REQUEST, messages=(Message("user", "one"), Message("user", " two"))),
        replace(REQUEST, detail=True),
        replace(REQUEST, json_schema={"type": "object"}),
    ],
)
def test_whatever_decides_the_reply_is_in_the_key(other: ChatRequest) -> None:
    assert call_key("m", other, 0) != call_key("m", REQUEST, 0)


def test_what_only_groups_calls_is_not_in_the_key() -> None:
    key = call_key("m", REQUEST, 4)
    assert key == call_key("m", replace(REQUEST, n=9, first_index=4, phase="evaluate"), 4)
    assert key == call_key("m", replace(REQUEST, params=SamplingParams(temperature=1, seed=1)), 4)
    assert key != call_key("m", REQUEST, 5)
    assert key != call_key("n", REQUEST, 4)
    schema = {"type": "object", "properties": {"a": {}, "b": {}}}
    frozen = replace(REQUEST, json_schema=MappingProxyType(schema))
    assert call_key("m", frozen, 0) == call_key("m", replace(REQUEST, json_schema=schema), 0)


def test_keys_stay_the_same_over_releases() -> None:
    # A change of this value makes every existing cache useless: raise the store's format with it.
    assert call_key("m", REQUEST, 0) == (
        "1ce430d89cefa74a63a4209940aeb59be8ccd444936f6ea0fa1d64673852b64a"
    )


def test_only_missing_rollouts_are_asked_for_in_contiguous_runs(store: CallStore) -> None:
    inner = ScriptedModel(echo)
    model = CachedModel(inner, store)
    ask(model, replace(REQUEST, n=1, first_index=2))
    ask(model, replace(REQUEST, n=1, first_index=5))
    inner.calls.clear()
    outcomes = ask(model, replace(REQUEST, n=8))
    assert [(call.first_index, call.n) for call in inner.calls] == [(0, 2), (3, 2), (6, 2)]
    assert [o.text for o in outcomes] == [f"one two {i}" for i in range(8)]  # type: ignore[union-attr]
    inner.calls.clear()
    assert ask(model, replace(REQUEST, n=8)) == outcomes
    assert inner.calls == []


@given(st.sets(st.integers(0, 30)))
def test_contiguous_runs(indices: set[int]) -> None:
    runs = contiguous(sorted(indices))
    assert [index for run in runs for index in run] == sorted(indices)
    assert all(run == list(range(run[0], run[-1] + 1)) for run in runs)
    assert all(after[0] > before[-1] + 1 for before, after in pairwise(runs))


def test_failures_are_not_kept(store: CallStore) -> None:
    replies = ["a", Failure("transport", "late", True), Failure("refused", "no"), "b", "c"]
    inner = ScriptedModel(replies)
    model = CachedModel(inner, store)
    assert [isinstance(o, Failure) for o in ask(model)] == [False, True, True]
    assert [o.text for o in ask(model)] == ["a", "b", "c"]  # type: ignore[union-attr]
    assert [(call.first_index, call.n) for call in inner.calls] == [(0, 3), (1, 2)]


def test_a_new_process_pays_nothing(tmp_path: Path) -> None:
    for expected in ([REQUEST], []):
        with CallStore(tmp_path / "calls.sqlite") as store:
            inner = ScriptedModel(echo)
            ask(CachedModel(inner, store))
            assert inner.calls == expected
            assert store.usage_by_phase() == {"rollout": Usage(1, 2, 0, 9)}


def test_usage_is_kept_by_the_phase_that_paid(store: CallStore) -> None:
    model = CachedModel(ScriptedModel(echo), store)
    ask(model)
    ask(model, replace(REQUEST, n=4, phase="evaluate"))
    assert store.usage_by_phase() == {"rollout": Usage(1, 2, 0, 9), "evaluate": Usage(1, 2, 0, 3)}
    assert len(store) == 4


def together(*calls: Callable[[], Awaitable[Outcomes]]) -> list[Outcomes | BaseException]:
    async def run() -> list[Outcomes | BaseException]:
        return await asyncio.gather(*(call() for call in calls), return_exceptions=True)

    return asyncio.run(run())


def test_equal_requests_at_once_are_paid_once(store: CallStore) -> None:
    inner = ScriptedModel(echo, latency=lambda _: 0.01)
    model = CachedModel(inner, store)
    wider = replace(REQUEST, n=5)
    first, second, third = together(
        lambda: model.complete(REQUEST),
        lambda: model.complete(REQUEST),
        lambda: model.complete(wider),
    )
    assert [(call.first_index, call.n) for call in inner.calls] == [(0, 3), (3, 2)]
    assert isinstance(third, tuple)
    assert first == second == third[:3]


def test_an_error_reaches_all_who_wait_and_is_forgotten(store: CallStore) -> None:
    replies: list[str] = ["a"]
    model = CachedModel(ScriptedModel(replies, latency=lambda _: 0.01), store)
    outcomes = together(lambda: model.complete(REQUEST), lambda: model.complete(REQUEST))
    assert all(isinstance(outcome, BackendError) for outcome in outcomes)
    with pytest.raises(BackendError):
        ask(model)


def test_who_goes_away_does_not_take_the_call_along(store: CallStore) -> None:
    inner = ScriptedModel(echo, latency=lambda _: 0.05)
    model = CachedModel(inner, store)

    async def run() -> Outcomes:
        first = asyncio.create_task(model.complete(REQUEST))
        await asyncio.sleep(0)
        second = asyncio.create_task(model.complete(REQUEST))
        await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert [o.text for o in asyncio.run(run())] == [echo(REQUEST, i) for i in range(3)]  # type: ignore[union-attr]
    assert len(inner.calls) == 1


def test_a_cancelled_loop_leaves_a_usable_model(store: CallStore) -> None:
    inner = ScriptedModel(echo, latency=lambda request: 60 if len(inner.calls) == 1 else 0)
    model = CachedModel(inner, store)

    async def give_up() -> None:
        async with asyncio.timeout(0.01):
            await model.complete(REQUEST)

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert len(ask(model)) == 3


def test_twenty_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path, random, kept = tmp_path / "calls.sqlite", Random(7), set[str]()
    for life in range(20):
        command = [sys.executable, "-c", WRITER, str(path), str(life)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(random.choice([0, 0, 1, 5, 20])):
                kept.add(writer.stdout.readline().strip())
            # Without a pause the kill meets the writer at its start, in the middle of opening.
            if random.random() < 0.5:
                kept.add(writer.stdout.readline().strip())
            os.kill(writer.pid, signal.SIGKILL)
            kept |= {line.strip() for line in writer.stdout if line.endswith("\n")}
        with CallStore(path) as store:
            halves = {f"{name}-{half}" for name in kept for half in "ab"}
            assert store.get(halves).keys() == halves
            # The two halves of a call are stored together or not at all.
            assert len(store) % 2 == 0
        with sqlite3.connect(path) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        raw.close()
    assert len(kept) > 40


def test_two_processes_may_share_a_store(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with CallStore(path) as one, CallStore(path) as two:
        one.put("rollout", {"k": Completion("first", "stop")})
        two.put("rollout", {"k": Completion("second", "stop"), "l": Completion("l", "stop")})
        assert [c.text for c in one.get(["k", "l", "m"]).values()] == ["first", "l"]


def test_what_is_no_store_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("These are notes, and not a database. " * 40)
    with pytest.raises(RunError, match=r"notes\.txt cannot be opened .*; check the disk"):
        CallStore(text)
    assert text.read_text().startswith("These are notes")
    with pytest.raises(RunError, match="cannot be opened"):
        CallStore(tmp_path)
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(RunError, match="format 99, not 1; choose another path"):
        CallStore(newer)
