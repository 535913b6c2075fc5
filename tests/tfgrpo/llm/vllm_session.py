"""A session with `VllmChat` in an interpreter that has vLLM: what came back, as JSON on stdout."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import psutil

from tfgrpo.errors import TfgrpoError
from tfgrpo.llm.vllm_local import VllmChat
from tfgrpo.types import ChatRequest, Message, SamplingParams

OPTIONS = {"enforce_eager": True, "block_size": 32, "max_model_len": 1024}
LESSONS = Message("system", "Write the sum as tens and ones, then add the parts in turn. " * 8)
QUESTIONS = ("12+35", "7*8", "91+6", "3*14", "58+44")
GREEDY = SamplingParams(temperature=0.0, max_tokens=24)
HOT = SamplingParams(temperature=2.0, max_tokens=300, seed=1)  # the end token comes late, if ever
YES_OR_NO = {"type": "string", "enum": ["yes", "no"]}


def asked(text: str, params: SamplingParams, **more: Any) -> ChatRequest:
    return ChatRequest((LESSONS, Message("user", text)), params, **more)


def ask(chat: VllmChat, *requests: ChatRequest) -> list[Any]:
    async def run() -> Any:
        return await asyncio.gather(*map(chat.complete, requests), return_exceptions=True)

    return [told(reply) for reply in asyncio.run(run())]


def told(reply: Sequence[Any] | BaseException) -> Any:
    if isinstance(reply, BaseException):
        return f"{type(reply).__name__}: {reply}"
    return [{"type": type(outcome).__name__, **asdict(outcome)} for outcome in reply]


def refused(*arguments: Any) -> str:
    try:
        VllmChat(*arguments).close()
    except TfgrpoError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def cancelled(chat: VllmChat) -> Any:
    """A call that is taken back, and one after it."""

    async def run() -> Any:
        slow = asyncio.create_task(chat.complete(asked("1+1", HOT, n=256)))
        await asyncio.sleep(0.05)
        slow.cancel()
        return told(await chat.complete(asked("2+2", GREEDY))), slow.cancelled()

    return asyncio.run(run())


def closed(chat: VllmChat) -> Any:
    """A call that waits while the engine is closed, twice, and one that comes later."""

    async def run() -> Any:
        slow = asyncio.create_task(chat.complete(asked("1+1", HOT, n=256)))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(chat.close)
        chat.close()
        return await asyncio.gather(slow, return_exceptions=True)

    (reply,) = asyncio.run(run())
    return [told(reply), *ask(chat, asked("2+2", GREEDY))]


def engines() -> list[psutil.Process]:
    """The live processes below this one, without Python's own that minds shared memory."""
    below = psutil.Process().children(recursive=True)
    live = [process for process in below if process.status() != psutil.STATUS_ZOMBIE]
    return [process for process in live if "resource_tracker" not in str(process.cmdline())]


def interrupted() -> int:
    """Ctrl-C as these processes get it from a terminal; how many they are."""
    found = engines()
    for process in found:
        os.kill(process.pid, signal.SIGINT)
    return len(found)


def main(weights: str, empty: str) -> None:
    chat = VllmChat(weights, "float32", OPTIONS)
    drawn = SamplingParams(temperature=0.7, top_p=0.8, max_tokens=20, seed=5)
    free = SamplingParams(max_tokens=24)
    end = SamplingParams(temperature=0.0, max_tokens=24, stop=("\x00", "="))
    long = Message("user", "1+" * 800)
    found = {
        "model_id": chat.model_id,
        "parameters": chat.parameters,
        "count": chat.count_tokens("12+35=47"),
        "greedy": ask(chat, *(asked(q, GREEDY, n=2, detail=True) for q in QUESTIONS)),
        "drawn": ask(chat, *(asked(q, drawn, n=4, detail=True) for q in QUESTIONS)),
        "alone": ask(chat, asked(QUESTIONS[1], drawn, n=2, first_index=2, detail=True)),
        "unseeded": ask(chat, asked("12+35", free), asked("12+35", free)),
        "stopped": ask(chat, asked("12+35", end)),
        "short": ask(chat, asked("12+35", SamplingParams(max_tokens=3, seed=1))),
        "long": ask(chat, ChatRequest((long,), GREEDY, n=2)),
        "too_hot": ask(chat, asked("12+35", SamplingParams(3.0, max_tokens=3), n=2)),
        "schema": ask(chat, asked("12+35", free, n=4, json_schema=YES_OR_NO)),
        "bad_schema": ask(chat, asked("12+35", GREEDY, json_schema={"type": "nonsense"})),
        "cancelled": cancelled(chat),
        "interrupted": interrupted(),
        "after": ask(chat, asked("12+35", GREEDY)),
        "closed": closed(chat),
        "left": len(engines()),
        "nothing": refused(empty),
        "bad_option": refused(weights, "float32", {"no_such_option": 1}),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
