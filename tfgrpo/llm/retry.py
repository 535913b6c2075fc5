"""When to try again: what the endpoint asks for, else a pause that grows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import Random

from tfgrpo.types import Phase

LONGEST_S = 30.0


@dataclass(slots=True)
class Call:
    """One call's budgets, as far as they are left.

    `retries` are for what the network and the server do to a request, `repairs` for answers that
    came and could not be used. `spent_s` of `whole_s` are seconds of its own attempts and pauses:
    waiting for a free connection is our own doing, and costs nothing. An attempt may take
    `attempt_s` seconds, and an answer may have `longest` bytes.
    """

    phase: Phase
    longest: int
    attempt_s: float
    whole_s: float
    retries: int
    repairs: int
    backoff_s: float
    rng: Random
    spent_s: float = 0.0
    pauses: int = 0

    @property
    def left_s(self) -> float:
        return self.whole_s - self.spent_s

    def pause(self) -> float:
        """Seconds of the next pause, each about twice as long as the one before."""
        self.pauses += 1
        return backoff(self.backoff_s, self.pauses - 1, self.rng)


def backoff(base_s: float, attempt: int, rng: Random) -> float:
    """Seconds before retry `attempt`, counted from 0: U(1/2, 1) min(30, base 2^attempt).

    Exponential, as a server that stays down is asked ever less; random, so that requests that
    failed together do not come back together.
    """
    return min(LONGEST_S, base_s * 2.0 ** min(attempt, 64)) * rng.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that an answer asks to wait, above 0; None if it asks for nothing that can be read.

    `retry-after-ms`, as OpenAI sends it, comes before Retry-After in seconds or as a date (RFC
    9110, 10.2.3). A date is taken from the answer's own Date, because clocks differ; without one,
    from `now` in seconds of the epoch. `headers` are looked up by their names in lower case.
    """
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        seconds = _number(headers.get(name))
        if seconds is not None:
            return seconds / divisor if seconds > 0 else None
    until = _date(headers.get("retry-after"))
    if until is None:
        return None
    sent = _date(headers.get("date"))
    wait = until - (now if sent is None else sent)
    return wait if wait > 0 else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (ValueError, OverflowError):
        return None
