"""Read what an OpenAI-compatible endpoint answers. Pure functions; nothing here does IO."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from tfgrpo.types import Completion, Failure, FinishReason, Usage

_FINISH: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
# Chat templates of some models open the tag themselves, so that the reply only closes it.
_THOUGHT = re.compile(r"\A\s*(?:<think>)?(.*?)</think>\s*", re.DOTALL)
_OPEN_THOUGHT = re.compile(r"\A\s*<think>(.*)\Z", re.DOTALL)


class _Details(BaseModel):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Token(BaseModel):
    logprob: float


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Reply(BaseModel):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


def read_reply(content: bytes, seconds: float, n: int) -> tuple[Completion | Failure, ...]:
    """The outcomes in the body of a 200 answer: 1 to `n`, or `n` failures if it is unusable.

    `usage` and `seconds` are of the whole request: its prompt, call and seconds are charged to the
    first completion, its generated tokens are split by `shares`, so that all sums are exact.
    """
    try:
        reply = _Reply.model_validate_json(content)
    except ValidationError:
        start = one_line(content[:200].decode(errors="replace"))
        reason = (
            f"The reply is no chat completion but {start!r}; check that the base URL is the "
            "API's, which mostly ends in /v1."
        )
        return (Failure("protocol", reason, retryable=True),) * n
    if not reply.choices:
        words = "" if reply.error is None else f" but says {told(reply.error)!r}"
        return (Failure("protocol", f"The reply holds no choices{words}.", retryable=True),) * n
    outcomes = [_outcome(choice) for choice in reply.choices[:n]]
    return _charged(outcomes, reply.usage or _Usage(), seconds)


def read_models(content: bytes) -> tuple[str, ...]:
    """The names in a list of models; none if it cannot be read."""
    try:
        return tuple(model.id for model in _Models.model_validate_json(content).data)
    except ValidationError:
        return ()


def _outcome(choice: _Choice) -> Completion | Failure:
    message = choice.message
    if choice.finish_reason == "content_filter":
        return Failure("refused", "The endpoint's content filter withheld the reply.")
    if message.content is None and message.refusal:
        return Failure("refused", f"The model refused: {one_line(message.refusal)}")
    # Cut short while it still reasoned: the model's doing, and as such a reply without a text.
    if message.content is None and choice.finish_reason != "length":
        return Failure("empty", "The reply has no content.", retryable=True)
    text, thought = split_reasoning(message.content or "")
    tokens = choice.logprobs.content if choice.logprobs else None
    return Completion(
        text,
        _FINISH.get(choice.finish_reason or "", "other"),
        logprobs=None if tokens is None else tuple(token.logprob for token in tokens),
        reasoning=message.reasoning_content or message.reasoning or thought,
    )


def split_reasoning(content: str) -> tuple[str, str | None]:
    """The reply proper, and the text in a leading <think>, which may have been cut off."""
    if match := _THOUGHT.match(content):
        return content[match.end() :], match[1].strip()
    if match := _OPEN_THOUGHT.match(content):
        return "", match[1].strip()
    return content, None


def _charged(
    outcomes: Sequence[Completion | Failure], usage: _Usage, seconds: float
) -> tuple[Completion | Failure, ...]:
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    generated = shares(usage.completion_tokens or 0, [_weight(c) for c in completions])
    details = usage.completion_tokens_details or _Details()
    reasoned = shares(details.reasoning_tokens or 0, generated)
    cached = (usage.prompt_tokens_details or _Details()).cached_tokens or 0
    owed = Usage(1, usage.prompt_tokens or 0, cached, seconds=seconds)
    paid = iter(zip(generated, reasoned, strict=True))
    charged: list[Completion | Failure] = []
    for outcome in outcomes:
        if isinstance(outcome, Completion):
            mine, thought = next(paid)
            whole = replace(owed, completion_tokens=mine, reasoning_tokens=thought)
            outcome, owed = replace(outcome, usage=whole), Usage()
        charged.append(outcome)
    return tuple(charged)


def _weight(completion: Completion) -> int:
    """Generated tokens where they are known, else characters, which are nearly in proportion."""
    if completion.logprobs is not None:
        return len(completion.logprobs)
    return len(completion.text) + len(completion.reasoning or "")


def shares(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Split `total` into whole parts in proportion to `weights`; the parts sum to it exactly.

    part_i = floor(T c_i / W) - floor(T c_{i-1} / W), c the cumulative weights and W their sum.
    If T <= W, no part exceeds its weight. Weights that are all 0 count as equal.
    """
    if not any(weights):
        weights = [1] * len(weights)
    parts, reached, whole = [], 0, sum(weights)
    for weight in weights:
        parts.append(total * (reached + weight) // whole - total * reached // whole)
        reached += weight
    return tuple(parts)


def told(body: object) -> str:
    """The server's own words in the body of an error."""
    if isinstance(body, Mapping):
        body = body.get("message") or body.get("detail") or body
    return one_line(body if isinstance(body, str) else json.dumps(body, default=str))


def one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:200] + " ..."
