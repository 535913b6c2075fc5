"""`OpenAIChat` against an endpoint that fails in every way: what it keeps, counts and pays."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.tfgrpo.llm.loopback import Answer, Bill, Body, Loopback, Spoil, completion, serving
from tests.tfgrpo.llm.troubles import PASSING, SPOIL, plan
from tfgrpo.errors import BackendError
from tfgrpo.llm.faults import FaultCount, FaultKind
from tfgrpo.llm.openai_compat import OpenAIChat
from tfgrpo.types import ChatRequest, Completion, Failure, Message, SamplingParams, Usage

PARAMS = SamplingParams(temperature=0.7, top_p=0.9, max_tokens=64, seed=5)
REQUEST = ChatRequest((Message("user", "What is 2 + 2?"),), PARAMS, phase="rollout")
Outcomes = tuple[Completion | Failure, ...]

KIND: dict[str, FaultKind] = {
    "429": "rate limit", "429 seconds": "rate limit", "429 date": "rate limit",
    "500": "server error", "gateway": "server error",
    "503": "overload", "503 seconds": "overload",
    "hang-up": "connection", "cut": "connection",
    "stall": "timeout", "stall at once": "timeout",
    "malformed": "unreadable", "huge": "too long", "no choices": "no choices",
    "other model": "other model", "empty": "empty", "broken off": "broken off",
    "fewer": "too few choices", "refusal": "refusal", "filter": "content filter",
    "length": "cut short",
}  # fmt: skip


def chat(server: Loopback, **settings: Any) -> OpenAIChat:
    kept = {"timeout_s": 5.0, "backoff_s": 0.001, "max_connections": 8} | settings
    return OpenAIChat("tiny", server.url, **kept)


def ask(model: OpenAIChat, *requests: ChatRequest) -> list[Outcomes]:
    async def go() -> list[Outcomes]:
        return await asyncio.gather(*(model.complete(request) for request in requests))

    return asyncio.run(go())


def many(count: int, n: int = 1) -> list[ChatRequest]:
    return [
        replace(REQUEST, messages=(Message("user", f"Question {i}"),), n=n) for i in range(count)
    ]


def texts(outcomes: list[Outcomes]) -> list[list[str]]:
    return [[o.text if isinstance(o, Completion) else o.reason for o in row] for row in outcomes]


def paid(outcomes: list[Outcomes], model: OpenAIChat) -> tuple[int, int, int]:
    """Calls, prompt and completion tokens: of what came, and of what came in vain."""
    used = sum((o.usage for row in outcomes for o in row if isinstance(o, Completion)), Usage())
    used = sum((count.lost for count in model.faults.by_kind.values()), used)
    return used.calls, used.prompt_tokens, used.completion_tokens


def billed(bills: list[Bill]) -> tuple[int, int, int]:
    told = [bill for bill in bills if bill.told]
    return len(told), sum(b.prompt for b in told), sum(b.completion for b in told)


def seen(model: OpenAIChat) -> dict[FaultKind, tuple[int, int]]:
    return {kind: (c.seen, c.failed) for kind, c in model.faults.by_kind.items()}


# one trouble after the other ----------------------------------------------------------------------


def once(name: str) -> Any:
    """A plan that spoils the second request alone."""
    return lambda body, times, number: (name, SPOIL[name]) if number == 1 else None


@pytest.mark.parametrize("name", [name for name in PASSING if name not in ("slow", "fewer")])
def test_every_passing_trouble_is_mended_and_counted(name: str) -> None:
    settings = {"timeout_s": 0.5} if "stall" in name else {}
    with Loopback() as server:
        sound = texts(ask(chat(server), *many(2)))
    with Loopback(plan=once(name), skew_s=-3600.0) as server:
        model = chat(server, **settings)
        made = [ask(model, request)[0] for request in many(2)]
        assert (server.met[name], len(server.bodies)) == (1, 3)
    assert texts(made) == sound
    assert seen(model) == {KIND[name]: (1, 0)}
    assert paid(made, model) == billed(server.bills)
    assert sum(bill.sound for bill in server.bills) == 2


@pytest.mark.parametrize("name", ["refusal", "filter"])
def test_what_the_model_will_not_say_is_final_and_billed(name: str) -> None:
    with Loopback(plan=once(name)) as server:
        model = chat(server)
        made = [ask(model, request)[0] for request in many(2)]
    assert len(server.bodies) == 2
    ((outcome,),) = made[1:]
    assert isinstance(outcome, Failure)
    assert (outcome.stage, outcome.retryable) == ("refused", False)
    assert seen(model) == {KIND[name]: (1, 1)}
    assert paid(made, model) == billed(server.bills)


def test_a_reply_at_the_token_limit_is_one_and_is_counted() -> None:
    with Loopback(plan=once("length")) as server:
        model = chat(server)
        made = [ask(model, request)[0] for request in many(2)]
    assert [row[0].finish_reason for row in made if isinstance(row[0], Completion)] == [
        "stop", "length",
    ]  # fmt: skip
    assert seen(model) == {"cut short": (1, 0)}


def test_a_slow_answer_is_no_trouble() -> None:
    with Loopback(plan=once("slow")) as server:
        model = chat(server)
        ask(model, *many(2))
    assert len(server.bodies) == 2
    assert model.faults.by_kind == {}


# troubles together --------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_an_endpoint_that_fails_three_times_in_ten_ends_like_a_sound_one(shared: bool) -> None:
    how = {"ignores": [] if shared else ["n"]}
    requests = many(40, n=3)
    # A rollout of which only a part came is asked for with a seed of its own.
    kinds = [name for name in PASSING if "stall" not in name and (name != "fewer" or not shared)]
    with Loopback(**how) as server:
        sound = ask(chat(server), *requests)
    with Loopback(**how, plan=plan(0.35, kinds, sound=20), skew_s=7200.0) as server:
        model = chat(server)
        made = ask(model, *requests)
        met = server.met.total() - server.met["slow"]
    assert texts(made) == texts(sound)
    assert met / len(server.bodies) > 0.2
    assert len(server.met) >= 8
    assert sum(count.failed for count in model.faults.by_kind.values()) == 0
    if not shared:
        met_by_kind = Counter[FaultKind]()
        for name, count in server.met.items():
            if name not in ("slow", "fewer"):
                met_by_kind[KIND[name]] += count
        counted = {k: c.seen for k, c in model.faults.by_kind.items()}
        # Until it is known that requests are not shared, each lacks all choices but one.
        counted.pop("too few choices")
        assert counted == met_by_kind
    assert paid(made, model) == billed(server.bills)
    assert max(Counter(bill.request for bill in server.bills if bill.sound).values()) == 1


def test_a_single_short_answer_does_not_end_the_sharing_of_requests() -> None:
    def short(body: Body, times: int, number: int) -> tuple[str, Spoil] | None:
        return (
            ("fewer", SPOIL["fewer"]) if body.get("n") == 2 and number % 2 and number > 9 else None
        )

    with Loopback(plan=short) as server:
        model = chat(server)
        made = ask(model, *many(40, n=2))
    assert server.met["fewer"] > 10
    assert model.refused == frozenset()
    assert all(isinstance(outcome, Completion) for row in made for outcome in row)
    assert [len(row) for row in made] == [2] * 40
    assert seen(model) == {"too few choices": (server.met["fewer"], 0)}
    assert paid(made, model) == billed(server.bills)


# budgets of one call ------------------------------------------------------------------------------


@pytest.mark.parametrize(("retries", "repairs"), [(0, 0), (0, 3), (2, 0), (2, 3)])
def test_transport_and_content_have_budgets_of_their_own(retries: int, repairs: int) -> None:
    settings = {"max_retries": retries, "max_repairs": repairs}
    with Loopback(always=Answer.error(500, "oops")) as server:
        model = chat(server, **settings)
        ((outcome,),) = ask(model, REQUEST)
        assert isinstance(outcome, Failure)
        assert len(server.bodies) == 1 + retries
        assert seen(model) == {"server error": (1 + retries, 1)}
    with Loopback(always=completion()) as server:
        model = chat(server, **settings)
        ((outcome,),) = ask(model, REQUEST)
        assert isinstance(outcome, Failure)
        assert len(server.bodies) == 1 + repairs
        assert seen(model) == {"no choices": (1 + repairs, 1)}
    with Loopback() as server:
        server.faults += [Answer.error(500, "oops")] * retries + [completion()] * repairs
        ((outcome,),) = ask(chat(server, **settings), REQUEST)
        assert isinstance(outcome, Completion)
        assert len(server.bodies) == 1 + retries + repairs


def test_a_call_ends_when_its_time_is_up_however_many_tries_are_left() -> None:
    drip = replace(completion({"content": "x"}), stall_after=5)
    with Loopback(always=drip) as server:
        model = chat(server, timeout_s=0.3, call_timeout_s=1.0, max_retries=1000)
        ((outcome,),) = ask(model, REQUEST)
    assert isinstance(outcome, Failure)
    assert (outcome.stage, outcome.retryable) == ("transport", True)
    # Only the last attempt may be shorter than the others.
    assert 1 <= len(server.bodies) <= 4
    assert seen(model) == {"timeout": (len(server.bodies), 1)}


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (402, None, "out of credit; add some, then resume"),
        (429, "insufficient_quota", "out of credit; add some, then resume"),
        (429, None, "asks for a pause of 3600 s; resume the run then"),
    ],
)
def test_what_outlasts_every_call_ends_the_run(status: int, code: str | None, words: str) -> None:
    value = {"error": {"message": "no", "code": code}}
    wait = {"retry_after": "3600"} if code is None and status == 429 else {}
    with Loopback() as server:
        model = chat(server)
        ask(model, REQUEST)
        server.always = Answer.json(status, value, **wait)
        with pytest.raises(BackendError, match=words):
            ask(model, REQUEST)
    assert len(server.bodies) == 2


def test_an_overload_that_names_no_sane_time_is_tried_again_all_the_same() -> None:
    with Loopback() as server:
        server.faults.append(Answer.error(503, "busy", retry_after="86400"))
        ((outcome,),) = ask(chat(server), REQUEST)
    assert isinstance(outcome, Completion)


# models under other names -------------------------------------------------------------------------


def test_an_endpoint_with_names_of_its_own_is_believed() -> None:
    name = "other model"
    with Loopback(plan=plan(1.0, [name], most=99)) as server:
        model = chat(server)
        made = ask(model, *many(5))
    assert all(isinstance(row[0], Completion) for row in made)
    assert model.faults.by_kind == {}


def test_a_stand_in_for_the_model_is_not_believed() -> None:
    with Loopback(plan=plan(1.0, ["other model"], most=99, sound=1)) as server:
        model = chat(server)
        made = [ask(model, request)[0] for request in many(2)]
    ((outcome,),) = made[1:]
    assert isinstance(outcome, Failure)
    assert outcome.stage == "protocol"
    assert "answered with the model 'understudy' in place of 'tiny'" in outcome.reason
    assert seen(model) == {"other model": (3, 1)}
    assert paid(made, model) == billed(server.bills)


# pace ---------------------------------------------------------------------------------------------


def test_the_pace_falls_to_what_the_endpoint_bears() -> None:
    with Loopback(capacity=4, delay_s=0.01) as server:
        model = chat(server, max_connections=32, max_retries=20, backoff_s=0.01)
        made = ask(model, *many(120))
        turned_down = server.met["crowded"]
    assert all(isinstance(row[0], Completion) for row in made)
    assert turned_down > 0
    assert seen(model) == {"rate limit": (turned_down, 0)}
    assert len(server.bodies) == 120 + turned_down


def test_requests_in_flight_keep_to_the_ceiling() -> None:
    with Loopback(delay_s=0.01) as server:
        ask(chat(server, max_connections=5), *many(40))
    assert server.most_at_once == 5


async def crowds(model: OpenAIChat, crowd: int, rounds: int) -> list[tuple[int, int]]:
    """The most tasks alive, and the peak of the memory that each round took on."""
    used = []
    for _ in range(rounds):
        gc.collect()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        calls = [asyncio.create_task(model.complete(request)) for request in many(crowd)]
        most = 0
        while not all(call.done() for call in calls):
            most = max(most, len(asyncio.all_tasks()))
            await asyncio.sleep(0.05)
        assert all(isinstance(call.result()[0], Completion) for call in calls)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        used.append((most, tracemalloc.get_traced_memory()[1] - before))
    assert model.faults.by_kind == {}
    # Each call is one task, and one more while it connects.
    assert all(crowd < most <= 2 * crowd + 1 for most, _ in used)
    return used


def test_memory_stays_level_over_rounds_of_requests() -> None:
    with serving(crowd=20) as url:
        model = OpenAIChat("tiny", url, max_connections=20, max_retries=0)
        ask(model, *many(20))
        tracemalloc.start()
        try:
            used = asyncio.run(crowds(model, 20, 3))
        finally:
            tracemalloc.stop()
    peaks = [peak for _, peak in used]
    assert max(peaks[1:]) < 1.2 * peaks[0]


@pytest.mark.slow
def test_five_hundred_in_flight_leave_no_task_behind() -> None:
    """The server answers none before all are there."""
    with serving(crowd=500) as url:
        model = OpenAIChat("tiny", url, max_connections=500, max_retries=0)
        asyncio.run(crowds(model, 500, 2))


# going away ---------------------------------------------------------------------------------------


def test_calls_that_are_given_up_free_their_places() -> None:
    async def go(model: OpenAIChat) -> Outcomes:
        stuck = [asyncio.create_task(model.complete(request)) for request in many(6)]
        await asyncio.sleep(0.1)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        return await model.complete(REQUEST)

    with Loopback() as server:
        server.faults += [replace(completion({"content": "x"}), stall_after=3)] * 2
        (outcome,) = asyncio.run(go(chat(server, max_connections=2)))
    assert isinstance(outcome, Completion)
    assert len(server.bodies) <= 4


# secrets ------------------------------------------------------------------------------------------

KEY = "sk-planted-0123456789"
PADDING = "x" * 190


@pytest.mark.parametrize(
    "answer",
    [
        Answer.error(400, f"{PADDING} {KEY}"),
        Answer.error(500, f"{PADDING} {KEY}"),
        Answer.json(500, {"detail": [{"key": KEY}]}),
        Answer(502, f"<html>{KEY}</html>".encode()),
        Answer(200, f"<html>{PADDING}{KEY}</html>".encode()),
        Answer.error(200, KEY),
        completion({"content": None, "refusal": f"{PADDING} {KEY}"}),
        completion({"content": f"Bearer {KEY}"}),
        completion({"content": "x", "reasoning": KEY}),
        Answer.json(400, {"error": {"message": f"no {KEY}", "code": "content_filter"}}),
        Answer.json(429, {"error": {"message": KEY, "code": "insufficient_quota"}}),
        Answer.error(401, KEY),
        Answer.error(404, KEY),
    ],
)
def test_a_key_that_the_endpoint_gives_back_is_hidden(answer: Answer) -> None:
    with Loopback(always=answer) as server:
        model = chat(server, api_key=KEY, max_retries=0, max_repairs=0)
        try:
            told = repr(ask(model, REQUEST))
        except BackendError as error:
            told = f"{error!r} {error.__cause__!r}"
        assert server.keys == [f"Bearer {KEY}"]
    # Nor any part of it, where a long text was cut.
    assert KEY[:8] not in told


def test_a_word_that_serves_as_a_key_stays_a_word() -> None:
    with Loopback(always=completion({"content": "The word is none."})) as server:
        ((outcome,),) = ask(chat(server, api_key="none"), REQUEST)
    assert isinstance(outcome, Completion)
    assert outcome.text == "The word is none."


def test_usage_that_cannot_be_meant_is_cut_to_what_can() -> None:
    usage = {
        "prompt_tokens": 10, "completion_tokens": -5,
        "prompt_tokens_details": {"cached_tokens": 99},
        "completion_tokens_details": {"reasoning_tokens": 10**30},
    }  # fmt: skip
    with Loopback(always=completion({"content": "x"}, usage=usage)) as server:
        ((outcome,),) = ask(chat(server), REQUEST)
    assert isinstance(outcome, Completion)
    assert replace(outcome.usage, seconds=0.0) == Usage(1, 10, 10, 0, 2**40)


def test_copies_keep_one_record() -> None:
    with Loopback() as server:
        server.faults += [Answer.error(500, "oops")]
        model = chat(server)
        ask(model.without("n"), REQUEST)
    assert model.faults.by_kind == {"server error": FaultCount(1, 0)}
