"""How an endpoint fails: each trouble makes a bad answer of a good one; a plan says which meets it.

`PASSING` are those that trying again can mend. The bill of a good answer goes along as far as the
model has worked for it, and `told` says whether the client can know of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from email.utils import formatdate
from typing import Any

from tests.tfgrpo.llm.loopback import Answer, Bill, Body, Plan, Spoil
from tfgrpo.seeding import derive_rng

FAR = 1 << 23  # bytes, more than any request here allows


def _error(status: int, words: str, **headers: str) -> Spoil:
    return lambda sound, skew: Answer.error(status, words, **headers)


def _at_a_date(sound: Answer, skew_s: float) -> Answer:
    """The date is now by the endpoint's own clock, which by ours may be an hour off."""
    now = formatdate(time.time() + skew_s, usegmt=True)
    return Answer.error(429, "slow down", retry_after=now)


def _untold(**changes: Any) -> Spoil:
    """An answer of which the client cannot read what it cost."""
    return lambda sound, skew_s: replace(sound, **changes, bill=_spoilt(sound, told=False))


def _spoilt(sound: Answer, **changes: Any) -> Bill | None:
    return sound.bill and replace(sound.bill, sound=False, **changes)


def _padded(sound: Answer, skew_s: float) -> Answer:
    return _untold(body=sound.body + b" " * FAR)(sound, skew_s)


def _halved(sound: Answer, skew_s: float) -> Answer:
    return _untold(body=sound.body[: len(sound.body) // 2])(sound, skew_s)


def _stated(**changes: Any) -> Spoil:
    """The whole answer, `usage` and all, with other fields."""

    def spoil(sound: Answer, skew_s: float) -> Answer:
        return replace(sound, body=_changed(sound, lambda _: changes), bill=_spoilt(sound))

    return spoil


def _choices(**changes: Any) -> Spoil:
    def change(reply: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [choice | changes for choice in reply["choices"]]}

    return lambda sound, skew_s: replace(sound, body=_changed(sound, change), bill=_spoilt(sound))


def _fewer(sound: Answer, skew_s: float) -> Answer:
    """Half of the choices, and the price of these."""

    def change(reply: dict[str, Any]) -> dict[str, Any]:
        kept = reply["choices"][: max(1, len(reply["choices"]) // 2)]
        said = sum(len(choice["message"]["content"].split()) for choice in kept)
        return {"choices": kept, "usage": reply["usage"] | {"completion_tokens": said}}

    body = _changed(sound, change)
    bill = sound.bill and replace(
        sound.bill, completion=json.loads(body)["usage"]["completion_tokens"]
    )
    return replace(sound, body=body, bill=bill)


def _changed(sound: Answer, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    reply = json.loads(sound.body)
    return json.dumps(reply | change(reply)).encode()


SPOIL: dict[str, Spoil] = {
    "429": _error(429, "slow down"),
    "429 seconds": _error(429, "slow down", retry_after="0.02"),
    "429 date": _at_a_date,
    "500": _error(500, "oops"),
    "503": _error(503, "too busy"),
    "503 seconds": _error(503, "too busy", retry_after="0.02"),
    "gateway": lambda sound, skew_s: Answer(502, b"<html>Bad gateway</html>"),
    "hang-up": lambda sound, skew_s: Answer(hang_up=True),
    "slow": lambda sound, skew_s: replace(sound, delay_s=0.1),
    "stall": _untold(stall_after=20),
    "stall at once": _untold(stall_after=0),
    "cut": _untold(cut_after=30),
    "malformed": _halved,
    "huge": _padded,
    "no choices": _stated(choices=[]),
    "other model": _stated(model="understudy"),
    "empty": _choices(message={"role": "assistant", "content": None}),
    "broken off": _choices(finish_reason="error"),
    "fewer": _fewer,
    "refusal": _choices(message={"role": "assistant", "content": None, "refusal": "I will not."}),
    "filter": _choices(finish_reason="content_filter"),
    "length": _choices(finish_reason="length"),
}
LASTING = ("refusal", "filter", "length")
PASSING = tuple(name for name in SPOIL if name not in LASTING)


def plan(
    share: float,
    kinds: Sequence[str],
    seed: int = 0,
    most: int = 2,
    sound: int = 0,
) -> Plan:
    """Which trouble meets a request: a function of the seed, the request and how often it came.

    About `share` of all requests are met, none of them more than `most` times, so that a client
    that tries often enough gets through. The first `sound` requests to the server are spared.
    """

    def trouble(body: Body, times: int, number: int) -> tuple[str, Spoil] | None:
        rng = derive_rng(seed, "trouble", body, times)
        if rng.random() >= share or times >= most or number < sound:
            return None
        kind = rng.choice(kinds)
        return kind, SPOIL[kind]

    return trouble
