"""What an endpoint's errors mean: which may pass, which never will, and how each is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfgrpo.llm.faults import FaultKind
from tfgrpo.llm.openai_reply import told
from tfgrpo.llm.retry import retry_after
from tfgrpo.types import Failure

if TYPE_CHECKING:
    from openai import APIStatusError

Hide = Callable[[str], str]
# openai has gone over from httpx to httpx2, and lets through what their own parts raise.
_HTTP = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "anyio"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """What came in place of an answer. `words` are the endpoint's own, as far as there are any.

    `again`: the same request may succeed later, after `pause_s` seconds if the endpoint says so.
    `unsuited`: the endpoint cannot do what was asked. `nobody`: no program listens there.
    """

    kind: FaultKind
    failure: Failure
    again: bool
    pause_s: float | None = None
    unsuited: bool = False
    nobody: bool = False
    words: str = ""

    @property
    def throttles(self) -> bool:
        """Whether it says that too much is asked at once."""
        return self.kind in ("rate limit", "overload")


def late(seconds: float) -> Trouble:
    failure = Failure("transport", f"No reply came within {seconds:g} s.", retryable=True)
    return Trouble("timeout", failure, again=True)


def broken(error: Exception) -> Trouble:
    failure = Failure("transport", "The connection to the endpoint broke.", retryable=True)
    nobody = type(error.__cause__).__name__ == "ConnectError"
    return Trouble("connection", failure, again=True, nobody=nobody)


def too_long(limit: int) -> Trouble:
    reason = f"The reply was longer than {limit} bytes, far over the tokens that were asked for."
    return Trouble("too long", Failure("protocol", reason, retryable=True), again=True)


def is_connection(error: Exception) -> bool:
    """Whether the HTTP layer below openai raised it."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _HTTP


def trouble_of(error: APIStatusError, hide: Hide) -> Trouble:
    """An answer that is no 200. `hide` takes secrets out of what is shown of it."""
    words = told(error.body, hide)
    status = error.status_code
    if error.code == "content_filter":
        failure = Failure("refused", f"The endpoint's content filter: {words}")
        return Trouble("content filter", failure, again=False)
    again = status in (408, 409, 429) or status >= 500
    failure = Failure("transport", f"The endpoint answered {status}: {words}", again)
    pause = retry_after(error.response.headers, time.time()) if again else None
    said = f"{error.param} {error.message}"
    unsuited = status in (400, 422)
    return Trouble(_kind(status), failure, again, pause, unsuited, words=said)


def _kind(status: int) -> FaultKind:
    match status:
        case 429:
            return "rate limit"
        case 503 | 529:
            return "overload"
        case 408 | 409:
            return "server error"
        case _:
            return "server error" if status >= 500 else "rejected"


def hopeless(error: APIStatusError, model: str, where: str, first: bool) -> str | None:
    """What to do about an error that no later request can cure; None if it is not of that sort.

    `first`: the endpoint has served nothing yet.
    """
    match error.status_code:
        case 401:
            return f"{where} rejects the API key; check the variable that holds it."
        case 402:
            return f"The account at {where} is out of credit; add some, then resume the run."
        case 429 if error.code == "insufficient_quota":
            return f"The account at {where} is out of credit; add some, then resume the run."
        case 403 if first:
            return f"The API key may not use {model} at {where}; check the key's rights."
        case 404:
            return (
                f"{where} knows no model {model!r}, or is not the API's address; check both "
                "(mostly the address ends in /v1)."
            )
    return None
