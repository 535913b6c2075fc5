"""What an endpoint really does: each claim is tested, because many servers ignore in silence."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from tfgrpo.errors import BackendError, UntakenError
from tfgrpo.llm.openai_compat import OpenAIChat
from tfgrpo.types import ChatRequest, Completion, Failure, Message, SamplingParams, Usage

_SCHEMA = {
    "type": "object",
    "properties": {"town": {"type": "string"}},
    "required": ["town"],
    "additionalProperties": False,
}
_TALE = "Tell a short tale about a town, in two sentences."


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`supported` None: it could not be told. `consequence` is what a missing feature means."""

    name: str
    supported: bool | None
    detail: str
    consequence: str


Finding = tuple[bool | None, str]
Check = Callable[[OpenAIChat], Awaitable[Finding]]


async def probe(model: OpenAIChat) -> list[ProbeResult]:
    """Try about 20 short requests at `model`'s endpoint, one after another, and tell what it does.

    An endpoint that cannot be used at all yields one result, named "reachable".
    """
    try:
        reached = await _reachable(model)
    except BackendError as error:
        return [ProbeResult("reachable", False, str(error), "nothing can run")]
    results = [ProbeResult("reachable", *reached, "nothing can run")]
    if reached[0]:
        for name, (check, consequence) in _CHECKS.items():
            try:
                finding = await check(model.without())
            except _NoReplyError as error:
                finding = None, str(error)
            results.append(ProbeResult(name, *finding, consequence))
    return results


class _NoReplyError(Exception):
    pass


async def _ask(
    model: OpenAIChat, prompt: str, params: SamplingParams, **changes: object
) -> list[Completion]:
    """The replies to one prompt; raises _NoReplyError with the reason if one of them failed.

    A model that takes only temperature 1 is asked at that.
    """
    request = replace(ChatRequest((Message("user", prompt),), params), **changes)  # type: ignore[arg-type]
    try:
        outcomes = await model.complete(request)
    except UntakenError:
        outcomes = await model.complete(replace(request, params=replace(params, temperature=1.0)))
    replies = []
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            raise _NoReplyError(outcome.reason)
        replies.append(outcome)
    return replies


def _greedy(max_tokens: int = 64, stop: tuple[str, ...] = ()) -> SamplingParams:
    return SamplingParams(0.0, 1.0, max_tokens, stop, 0)


def _warm(seed: int) -> SamplingParams:
    return SamplingParams(1.0, 1.0, 64, (), seed)


def _said(completion: Completion) -> str:
    """All that was generated: models that reason may not come to their reply in a short probe."""
    return (completion.reasoning or "") + completion.text


async def _texts(model: OpenAIChat, *settings: SamplingParams) -> list[str]:
    return [_said((await _ask(model, _TALE, params))[0]) for params in settings]


async def _reachable(model: OpenAIChat) -> Finding:
    listed = await model.models()
    if model.model in listed:
        place = "it is listed"
    else:
        place = f"it is not among the {len(listed)} listed models" if listed else "none is listed"
    try:
        await _ask(model, "Say hello.", _greedy())
    except _NoReplyError as error:
        return False, str(error)
    return True, f"the model answers; {place}"


async def _shares_a_request(model: OpenAIChat) -> Finding:
    await _ask(model, _TALE, _warm(1), n=2)
    if "n" in model.refused:
        return False, "asked for 2 replies, it gave 1"
    return True, "2 replies came from one request"


async def _takes_greedy(model: OpenAIChat) -> bool:
    try:
        await model.complete(ChatRequest((Message("user", _TALE),), _greedy()))
    except UntakenError:
        return False
    return True


async def _greedy_repeats(model: OpenAIChat) -> Finding:
    if not await _takes_greedy(model):
        return False, "it does not take temperature 0; for learning, set reflection.temperature=1"
    same = len(set(await _texts(model, _greedy(), _greedy(), _greedy()))) == 1
    return same, f"3 replies at temperature 0 were {'equal' if same else 'unequal'}"


async def _warm_varies(model: OpenAIChat) -> Finding:
    distinct = len(set(await _texts(model, *map(_warm, range(4)))))
    return distinct > 1, f"{distinct} of 4 replies at temperature 1 were distinct"


async def _seed_repeats(model: OpenAIChat) -> Finding:
    first, again, third, other = await _texts(model, _warm(1), _warm(1), _warm(1), _warm(2))
    if "seed" in model.refused:
        return False, "it turns the parameter down"
    if not first == again == third:
        return False, "equal seeds gave unequal replies"
    if first == other:
        return None, "all seeds gave the same reply"
    return True, "equal seeds gave equal replies"


async def _stops(model: OpenAIChat) -> Finding:
    (free,) = await _ask(model, _TALE, _greedy())
    words, said = free.text.split(), free.text.strip()
    if len(said) < 2:
        return None, "the reply was too short to be stopped"
    word = words[len(words) // 2] if len(words) > 2 else said[len(said) // 2 :].strip()
    (stopped,) = await _ask(model, _TALE, _greedy(stop=(word,)))
    if stopped.text.endswith(word):
        return True, f"the reply ended with its stop string {word!r}, which others leave out"
    if not await _takes_greedy(model):
        return None, "replies differ, so it may not have come to its stop string"
    if word in stopped.text:
        return False, f"the reply went on over its stop string {word!r}"
    return True, f"the reply ended before its stop string {word!r}"


async def _ends(model: OpenAIChat) -> Finding:
    (free,) = await _ask(model, _TALE, _greedy())
    # The limit must lie below what this model says of itself, however short that is.
    limit = min(16, free.usage.completion_tokens // 2)
    if limit < 1:
        return None, "the reply was too short to be limited"
    (reply,) = await _ask(model, _TALE, _greedy(max_tokens=limit))
    generated = reply.usage.completion_tokens
    ending = f"finished by {reply.finish_reason}"
    detail = f"limited to {limit}, it generated {generated} tokens and {ending}"
    if generated > limit:
        return False, detail
    return (True if reply.finish_reason == "length" else None), detail


async def _tells_logprobs(model: OpenAIChat) -> Finding:
    (reply,) = await _ask(model, _TALE, _warm(1), detail=True)
    if reply.logprobs is None:
        return False, "asked for log-probabilities, it gave none"
    told = f"{len(reply.logprobs)} log-probabilities came"
    if reply.entropy_bounds is None:
        return True, f"{told}, without those of other tokens"
    return True, "{}; entropy is between {:.2f} and {:.2f} nats".format(told, *reply.entropy_bounds)


async def _keeps_schema(model: OpenAIChat) -> Finding:
    (reply,) = await _ask(model, _TALE, _greedy(512), json_schema=_SCHEMA)
    if "json_schema" in model.refused:
        return False, "it turns the parameter down"
    value = _json(reply)
    kept = isinstance(value, dict) and value.keys() == {"town"} and isinstance(value["town"], str)
    return _judged(kept, reply, "the schema")


async def _keeps_json(model: OpenAIChat) -> Finding:
    plain = model.without("json_schema")
    # The OpenAI API wants the word in the prompt.
    (reply,) = await _ask(plain, f"{_TALE} (JSON)", _greedy(512), json_schema=_SCHEMA)
    if "json_object" in plain.refused:
        return False, "it turns the parameter down"
    return _judged(isinstance(_json(reply), dict), reply, "JSON")


def _json(reply: Completion) -> object:
    try:
        return json.loads(reply.text)
    except ValueError:
        return None


def _judged(kept: bool, reply: Completion, what: str) -> Finding:
    if not kept and reply.finish_reason == "length":
        return None, "the reply was cut off before its end"
    return kept, f"the reply {'kept to' if kept else 'did not keep to'} {what}"


async def _counts_tokens(model: OpenAIChat) -> Finding:
    (reply,) = await _ask(model, _TALE, _greedy())
    usage = reply.usage
    counted = usage.prompt_tokens > 0 and usage.completion_tokens > 0
    return counted, f"{usage.prompt_tokens} prompt and {usage.completion_tokens} completion tokens"


async def _caches_prompts(model: OpenAIChat) -> Finding:
    # Caches begin at 1024 tokens on some endpoints, where small models already end.
    try:
        usage = await _asked_twice(model, towns=300)
    except _NoReplyError:
        usage = await _asked_twice(model, towns=30)
    detail = f"{usage.cached_tokens} of {usage.prompt_tokens} prompt tokens came from a cache"
    return (True if usage.cached_tokens else None), detail


async def _asked_twice(model: OpenAIChat, towns: int) -> Usage:
    """What the second of two equal requests used, each about 8 tokens long for each town."""
    prompt = " ".join(f"Town {number} lies by the sea." for number in range(towns)) + " " + _TALE
    await _ask(model, prompt, _greedy(max_tokens=16))
    (reply,) = await _ask(model, prompt, _greedy(max_tokens=16))
    return reply.usage


_CHECKS: dict[str, tuple[Check, str]] = {
    "n": (_shares_a_request, "each rollout is a request, and pays for the prompt again"),
    "temperature 0": (_greedy_repeats, "greedy evaluations cannot be repeated exactly"),
    "temperature 1": (_warm_varies, "all rollouts of a group are equal, so nothing can be learnt"),
    "seed": (_seed_repeats, "a run can be repeated only from its cache"),
    "stop": (_stops, "replies run on to the token limit and cost more"),
    "max_tokens": (_ends, "lengths and costs are not bounded"),
    "logprobs": (_tells_logprobs, "no log-probabilities in the report"),
    "json_schema": (_keeps_schema, "edits rely on the prompt and on repair"),
    "json_object": (_keeps_json, "edits rely on the prompt and on repair"),
    "usage": (_counts_tokens, "costs cannot be counted"),
    "cached tokens": (_caches_prompts, "long prompts may cost their full price each time"),
}
