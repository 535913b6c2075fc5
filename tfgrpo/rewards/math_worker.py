"""The process in which math-verify may hang, crash or eat memory; run as a script.

Speaks JSON lines: gold and answer in; gold_parsed, correct and answer, or error, out.
The parent kills it when an item takes too long; an alarm does the same should the parent be gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from functools import lru_cache
from typing import Any

MEMORY_BYTES = 4 << 30


@lru_cache(maxsize=4096)
def _parse(text: str) -> list[Any]:
    from math_verify import parse

    # Dollars make it LaTeX: bare `(1,2)` parses to nothing and bare `50\%` to 50. No fallback,
    # because an unparsed string compares as text. The time-outs need SIGALRM, hence ours.
    return list(parse(f"${text}$", fallback_mode="no_fallback", parsing_timeout=None))


def _grade(gold: str, answer: str) -> dict[str, Any]:
    from math_verify import verify

    wanted = _parse(gold)
    given = _parse(answer) if wanted else []
    # The order of the arguments matters: verify is not symmetric.
    correct = bool(given) and bool(verify(wanted, given, timeout_seconds=None))
    return {
        "gold_parsed": bool(wanted),
        "correct": correct,
        "answer": str(given[0]) if given else None,
    }


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def main(seconds: int) -> None:
    """Serve until standard input closes; each item gets at most `seconds`."""
    # Whatever a library prints must not reach the protocol.
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    _limit_memory()
    _grade("1", "1")
    print("{}", file=replies, flush=True)
    alarm = getattr(signal, "alarm", None)
    for line in sys.stdin:
        if alarm:
            alarm(seconds)
        try:
            reply = _grade(**json.loads(line))
        except Exception as error:  # a verifier that breaks on one item must not end the service
            reply = {"error": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps(reply), file=replies, flush=True)
        if alarm:
            alarm(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
