"""When a request is tried again."""

from __future__ import annotations

from email.utils import formatdate
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.llm.retry import LONGEST_S, Call, backoff, retry_after

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110


@given(st.floats(1e-3, 10), st.integers(0, 10**6), st.integers())
def test_a_pause_is_half_fixed_and_half_random(base: float, attempt: int, seed: int) -> None:
    full = min(LONGEST_S, base * 2.0 ** min(attempt, 64))
    pause = backoff(base, attempt, Random(seed))
    assert full / 2 <= pause <= full <= LONGEST_S
    assert pause == backoff(base, attempt, Random(seed))
    assert Random(seed).uniform(0.5, 1.0) * full == pytest.approx(pause)


def test_pauses_of_one_call_grow_and_differ_between_calls() -> None:
    def pauses(seed: int) -> list[float]:
        call = Call("rollout", 1, 1.0, 9.0, 9, 9, 0.5, Random(seed))
        return [call.pause() for _ in range(5)]

    assert pauses(1) == pauses(1)
    assert len({pauses(seed)[0] for seed in range(20)}) == 20
    for made in map(pauses, range(20)):
        assert all(0.25 * 2**i <= pause <= 0.5 * 2**i for i, pause in enumerate(made))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.25 "}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT"}, 30.0),
        ({"retry-after": "Sun, 06 Nov 1994 09:50:07 +0100"}, 30.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:07 GMT"}, None),
        ({"retry-after": "Sun, 99 Nov 1994 08:50:07 GMT"}, None),
        ({"retry-after": "Sun, 06 Nov 99999 08:50:07 GMT"}, None),
    ],
)
def test_what_an_endpoint_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


@given(st.integers(-(10**8), 10**8), st.integers(1, 10**5))
def test_a_date_is_read_by_the_clock_that_wrote_it(skew: int, wait: int) -> None:
    sent, until = NOW + skew, NOW + skew + wait
    headers = {"retry-after": formatdate(until, usegmt=True), "date": formatdate(sent)}
    assert retry_after(headers, NOW) == wait


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_header_is_too_strange(text: str, date: str) -> None:
    wait = retry_after({"retry-after": text, "date": date}, NOW)
    assert wait is None or 0 < wait < float("inf")
