"""The window as a controller, and the gate that keeps to it, under a clock that only tests move."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.errors import ConfigError
from tfgrpo.llm.limiter import Gate, Window

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """Passes the time that a loop would wait in no time."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += timeout or 0.0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jump = _Jump()
        super().__init__(self.jump)

    def time(self) -> float:
        return self.jump.now


def run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


# the controller -----------------------------------------------------------------------------------

events = st.lists(st.sampled_from(["sent", "answered", "throttled"]), max_size=200)


@given(st.integers(1, 64), events, st.randoms(use_true_random=False))
def test_the_size_stays_between_one_and_the_ceiling(
    ceiling: int, history: list[str], chance: Any
) -> None:
    window = Window(ceiling, ceiling)
    for event in history:
        before = window
        match event:
            case "sent":
                window = window.opened()
                assert window.sent == before.sent + 1
            case "answered":
                window = window.answered()
                assert window.size == min(ceiling, before.size + 1 / before.size)
            case _ if window.sent:
                number = chance.randrange(window.sent)
                window = window.throttled(number)
                cut = number >= before.cut
                assert window.size == (max(1.0, before.size / 2) if cut else before.size)
        assert 1 <= window.size <= ceiling
        assert 1 <= window.places <= ceiling


@given(st.integers(2, 256), st.data())
def test_one_burst_halves_the_window_once(ceiling: int, data: st.DataObject) -> None:
    window = Window(ceiling, ceiling)
    for _ in range(ceiling):
        window = window.opened()
    complaints = data.draw(st.lists(st.integers(0, ceiling - 1), min_size=1))
    for number in complaints:
        window = window.throttled(number)
    assert window.size == ceiling / 2
    # A request that was sent in knowledge of this halves it again.
    assert window.opened().throttled(window.sent).size == max(1.0, ceiling / 4)


@pytest.mark.parametrize("ceiling", [1, 2, 7, 32, 500])
def test_answers_bring_it_back_by_one_place_a_round(ceiling: int) -> None:
    window = Window(ceiling, 1.0)
    for places in range(1, ceiling):
        for _ in range(places + 1):
            window = window.answered()
        assert places + 1 <= window.size < places + 2.5
    assert window.size <= ceiling
    assert replace(window, size=ceiling).answered().size == ceiling


# the gate -----------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.lists(st.integers(0, 9), min_size=1, max_size=25))
def test_no_more_are_inside_than_the_window_has_places(ceiling: int, seconds: list[int]) -> None:
    gate, inside, order = Gate(ceiling), [0, 0], list[int]()

    async def one(index: int) -> None:
        async with gate.held() as number:
            order.append(index)
            inside[0] += 1
            inside[1] = max(inside[1], inside[0])
            await asyncio.sleep(seconds[index])
            if seconds[index] == 9:
                gate.throttled(number)
            inside[0] -= 1
            assert inside[0] < ceiling

    async def go() -> float:
        await asyncio.gather(*(one(index) for index in range(len(seconds))))
        return asyncio.get_running_loop().time()

    took = run(go())
    assert order == list(range(len(seconds)))
    assert inside == [0, min(ceiling, len(seconds))]
    assert took >= sum(seconds) / ceiling


def test_a_smaller_window_admits_fewer_until_answers_widen_it() -> None:
    async def go() -> tuple[int, int, int]:
        gate, inside, seen = Gate(8), [0], list[int]()

        async def one(index: int) -> None:
            async with gate.held() as number:
                inside[0] += 1
                await asyncio.sleep(1)
                seen.append(inside[0])
                gate.throttled(number) if index < 8 else gate.answered()
                inside[0] -= 1

        await asyncio.gather(*(one(index) for index in range(60)))
        return seen[0], max(seen[8:12]), max(seen[12:])

    first, after, later = run(go())
    assert (first, after) == (8, 4)
    assert 4 < later <= 8


@pytest.mark.parametrize(("ceiling", "capacity"), [(32, 4), (32, 20), (8, 8), (64, 6)])
def test_the_pace_finds_what_an_endpoint_bears(ceiling: int, capacity: int) -> None:
    """An endpoint that serves `capacity` requests for a second each, and turns the others down."""

    async def go(count: int) -> tuple[int, float]:
        gate, inside, refused = Gate(ceiling), [0], [0]

        async def one() -> None:
            place = gate.place()
            while True:
                async with gate.held(place) as number:
                    if inside[0] >= capacity:
                        refused[0] += 1
                        gate.throttled(number)
                    else:
                        inside[0] += 1
                        await asyncio.sleep(1.0)
                        inside[0] -= 1
                        gate.answered()
                        return
                await asyncio.sleep(0.5)

        await asyncio.gather(*(one() for _ in range(count)))
        return refused[0], asyncio.get_running_loop().time()

    refused, took = run(go(500))
    assert refused < 500 / 4 + ceiling
    assert took < 1.5 * 500 / capacity
    if ceiling == capacity:
        assert (refused, took) == (0, pytest.approx(63))


@pytest.mark.parametrize("pauses", [[5.0], [5.0, 2.0], [2.0, 5.0], [1.0, 1.0, 5.0]])
def test_nobody_enters_during_a_pause_and_all_do_after_the_longest(pauses: list[float]) -> None:
    async def go() -> list[float]:
        gate = Gate(4)
        loop, entered = asyncio.get_running_loop(), list[float]()

        async def one() -> None:
            async with gate.held():
                entered.append(loop.time())

        async with gate.held() as number:
            for pause in pauses:
                gate.throttled(number, pause)
            early = [asyncio.create_task(one()) for _ in range(3)]
            await asyncio.sleep(3.0)
        await asyncio.gather(*early, one())
        return entered

    assert run(go()) == pytest.approx([5.0] * 4)


def test_whoever_tries_again_goes_before_those_who_came_later() -> None:
    async def go() -> list[str]:
        gate, order = Gate(1), list[str]()

        async def one(name: str, tries: int = 1) -> None:
            place = gate.place()
            for attempt in range(tries):
                async with gate.held(place):
                    order.append(f"{name}{attempt}")
                    await asyncio.sleep(1)

        await asyncio.gather(one("a", 3), one("b"), one("c", 2))
        return order

    # As one leaves, the next one is let in at once; "a" is back before "c" has its turn.
    assert run(go()) == ["a0", "b0", "a1", "c0", "a2", "c1"]


@given(st.integers(1, 3), st.sets(st.integers(0, 9)), st.integers(0, 4))
def test_those_who_go_away_leave_their_places_to_others(
    ceiling: int, leaving: set[int], moment: int
) -> None:
    """Some are cancelled as they wait, some inside, and some between being let in and going in."""

    async def go() -> list[int]:
        gate, served = Gate(ceiling), list[int]()

        async def one(index: int) -> None:
            async with gate.held():
                await asyncio.sleep(0)
                served.append(index)

        tasks = [asyncio.create_task(one(index)) for index in range(10)]
        for _ in range(moment):
            await asyncio.sleep(0)
        for index in leaving:
            tasks[index].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with gate.held(), asyncio.timeout(1):
            others = [asyncio.create_task(one(99)) for _ in range(ceiling - 1)]
            await asyncio.gather(*others)
        return served

    served = run(go())
    assert {index for index in range(10) if index not in leaving} <= set(served)
    assert served.count(99) == ceiling - 1


def test_a_window_outlives_its_loop_but_places_do_not() -> None:
    gate = Gate(2)

    async def stuck() -> None:
        async with gate.held() as number:
            gate.throttled(number)
            await asyncio.sleep(9)

    async def leave() -> None:
        task = asyncio.create_task(stuck())
        await asyncio.sleep(1)
        assert not task.done()

    async def enter() -> None:
        async with gate.held():
            pass

    run(leave())
    run(enter())
    assert gate.window.size == 1


def test_a_gate_for_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_connections is 0; set it to 1 or more"):
        Gate(0)
