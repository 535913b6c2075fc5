"""What a reply cost, as the endpoint says, and how its rollouts share it. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel

from tfgrpo.types import Completion, Failure, Usage

_MOST = 2**40  # tokens in one request; sums of them still fit into a database


class _Details(BaseModel):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class SaidUsage(BaseModel):
    """The `usage` of a reply; everything in it may be missing."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


def whole_usage(said: SaidUsage | None, seconds: float) -> Usage:
    """The whole request's usage; what an endpoint cannot mean is cut to what it can."""
    said = said or SaidUsage()
    prompt, completion = _count(said.prompt_tokens), _count(said.completion_tokens)
    cached = _count((said.prompt_tokens_details or _Details()).cached_tokens)
    reasoned = _count((said.completion_tokens_details or _Details()).reasoning_tokens)
    return Usage(1, prompt, min(cached, prompt), completion, reasoned, seconds)


def _count(said: int | None) -> int:
    return min(max(0, said or 0), _MOST)


def charged(
    outcomes: Sequence[Completion | Failure], usage: Usage
) -> tuple[Completion | Failure, ...]:
    """The outcomes with their parts of `usage`, which sum to it if there is any completion.

    The first completion is charged with the call, its seconds and the prompt; the generated tokens
    are split by `shares`.
    """
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    generated = shares(usage.completion_tokens, [_weight(c) for c in completions])
    reasoned = shares(usage.reasoning_tokens, generated)
    owed = replace(usage, completion_tokens=0, reasoning_tokens=0)
    paid = iter(zip(generated, reasoned, strict=True))
    parts: list[Completion | Failure] = []
    for outcome in outcomes:
        if isinstance(outcome, Completion):
            mine, thought = next(paid)
            whole = replace(owed, completion_tokens=mine, reasoning_tokens=thought)
            outcome, owed = replace(outcome, usage=whole), Usage()
        parts.append(outcome)
    return tuple(parts)


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
