"""What a request to an OpenAI-compatible endpoint says, and what it can do without."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, Literal

from tfgrpo.seeding import derive_seed
from tfgrpo.types import ChatRequest

Feature = Literal[
    "json_schema", "json_object", "top_logprobs", "logprobs", "n", "max_tokens", "seed"
]

MOST_LOGPROBS = 20
"""The most that OpenAI tells for a token, and that vLLM tells unless it was started otherwise."""

# What in the words of a 400 shows that a feature is meant.
_NAMED: dict[Feature, str] = {
    "max_tokens": "max_completion_tokens",
    "seed": r"\bseed\b",
    "json_schema": "response_format|json|schema",
    "json_object": "response_format|json",
    "top_logprobs": r"top_logprobs|logprobs of \d",
    "logprobs": "logprob",
    "n": r"\bn\b",
}
# Dropped only if named. Without "max_tokens" the limit has its newer name, and stays.
_ESSENTIAL: tuple[Feature, ...] = ("max_tokens", "seed")

# A refusal of a value that every request sends. The words may quote the whole request.
_VALUE = re.compile(
    r"\b(temperature|top_p)\b['\"`]?:? (?:\w+ ){0,2}?(?:does not|must|should|only|not supported)"
    r"|unsupported (?:value|parameter):? ['\"`]?(temperature|top_p)\b",
    re.IGNORECASE,
)


def body_of(model: str, request: ChatRequest, dropped: Collection[Feature]) -> dict[str, Any]:
    """The request's parameters; everything is explicit, because endpoints differ in defaults."""
    params = request.params
    length = "max_completion_tokens" if "max_tokens" in dropped else "max_tokens"
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "temperature": params.temperature,
        "top_p": params.top_p,
        length: params.max_tokens,
    }
    if params.stop:
        body["stop"] = list(params.stop)
    if params.seed is not None and "seed" not in dropped:
        # Some servers keep seeds in a signed 32-bit integer.
        body["seed"] = derive_seed(params.seed, "rollout", request.first_index) & 0x7FFFFFFF
    asked = _asked(request, dropped)
    if "n" in asked:
        body["n"] = request.n
    if "logprobs" in asked:
        body["logprobs"] = True
    if "top_logprobs" in asked:
        body["top_logprobs"] = MOST_LOGPROBS
    if "json_schema" in asked:
        schema = json.loads(json.dumps(request.json_schema, default=dict))
        strict = {"name": "reply", "strict": True, "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": strict}
    elif "json_object" in asked:
        body["response_format"] = {"type": "json_object"}
    return body


def _asked(request: ChatRequest, dropped: Collection[Feature]) -> list[Feature]:
    """The optional features that this request uses, those first that are dropped first."""
    wanted: list[Feature] = []
    if request.json_schema is not None:
        wanted += ["json_schema"] if "json_schema" not in dropped else ["json_object"]
    if request.detail and "logprobs" not in dropped:
        wanted += ["top_logprobs", "logprobs"]
    if request.n > 1:
        wanted.append("n")
    return [feature for feature in wanted if feature not in dropped]


def next_to_drop(words: str, request: ChatRequest, dropped: Collection[Feature]) -> Feature | None:
    """What to do without after a 400 that said `words`: what it names, else what is optional."""
    asked = _asked(request, dropped)
    for feature in (*_ESSENTIAL, *asked):
        if feature in dropped:
            continue
        if re.search(_NAMED[feature], words, re.IGNORECASE):
            return feature
    return asked[0] if asked else None


def untaken(words: str, request: ChatRequest) -> str | None:
    """The sampling value that a 400 with these words turns down, as `temperature 0.2`."""
    found = _VALUE.search(words)
    if found is None:
        return None
    name = (found[1] or found[2]).lower()
    return f"{name} {getattr(request.params, name):g}"
