"""Read what an OpenAI-compatible endpoint answers. Pure functions; nothing here does IO."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ValidationError

from tfgrpo.llm.entropy_bounds import entropy_bounds
from tfgrpo.llm.faults import NOTHING, FaultKind
from tfgrpo.llm.openai_usage import SaidUsage, charged, whole_usage
from tfgrpo.types import Completion, Failure, FinishReason, Usage

_FINISH: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
# How endpoints end a reply that they could not finish themselves: gateways, vLLM, DeepSeek.
_BROKEN_OFF = frozenset({"error", "abort", "insufficient_system_resource"})
# Chat templates of some models open the tag themselves, so that the reply only closes it.


class _Likely(BaseModel):
    token: str = ""
    logprob: float


class _Token(_Likely):
    top_logprobs: list[_Likely] | None = None


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
    usage: SaidUsage | None = None
    model: Any = None
    error: Any = None


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong with a reply: how many rollouts it spoils, and whether it may pass."""

    kind: FaultKind
    spoils: int = 1
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What stood in a 200 answer: 1 to n outcomes, and what was wrong with it.

    `usage` is that of the whole request; the completions hold it too, if there are any. `model` is
    the name under which the endpoint answered.
    """

    outcomes: tuple[Completion | Failure, ...]
    flaws: tuple[Flaw, ...] = ()
    usage: Usage = NOTHING
    model: str | None = None

    @property
    def usable(self) -> bool:
        return any(isinstance(outcome, Completion) for outcome in self.outcomes)

    @property
    def passing(self) -> bool:
        """Whether nothing in it can be used, and all of it may come out better another time."""
        return all(isinstance(o, Failure) and o.retryable for o in self.outcomes)

    @property
    def lost(self) -> Usage:
        """What was billed, if nothing of it can be used."""
        return NOTHING if self.usable else self.usage


def read_reply(content: bytes, seconds: float, n: int) -> Reply:
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
        return _spoilt("unreadable", reason, n)
    usage = whole_usage(reply.usage, seconds)
    model = reply.model if isinstance(reply.model, str) else None
    if not reply.choices:
        words = "" if reply.error is None else f" but says {told(reply.error)!r}"
        return _spoilt("no choices", f"The reply holds no choices{words}.", n, usage, model)
    read = [_outcome(choice) for choice in reply.choices[:n]]
    flaws = [flaw for _, flaw in read if flaw is not None]
    if len(read) < n:
        flaws.append(Flaw("too few choices", spoils=0, passing=True))
    outcomes = charged([outcome for outcome, _ in read], usage)
    return Reply(outcomes, tuple(flaws), usage, model)


def of_another(reply: Reply, model: str) -> Reply:
    """The same answer where it came from another model than `model`: nothing of it can be used."""
    reason = f"The endpoint answered with the model {reply.model!r} in place of {model!r}."
    return _spoilt("other model", reason, len(reply.outcomes), reply.usage, reply.model)


def _spoilt(
    kind: FaultKind, reason: str, n: int, usage: Usage = NOTHING, model: str | None = None
) -> Reply:
    failure = Failure("protocol", reason, retryable=True)
    return Reply((failure,) * n, (Flaw(kind, n, passing=True),), usage, model)


def read_models(content: bytes) -> tuple[str, ...]:
    """The names in a list of models; none if it cannot be read."""
    try:
        return tuple(model.id for model in _Models.model_validate_json(content).data)
    except ValidationError:
        return ()


def _outcome(choice: _Choice) -> tuple[Completion | Failure, Flaw | None]:
    message, finish = choice.message, choice.finish_reason or ""
    if finish == "content_filter":
        failure = Failure("refused", "The endpoint's content filter withheld the reply.")
        return failure, Flaw("content filter")
    if finish in _BROKEN_OFF:
        reason = f"The endpoint broke the reply off (finish_reason {finish!r})."
        return Failure("protocol", reason, retryable=True), Flaw("broken off", passing=True)
    if message.content is None and message.refusal:
        failure = Failure("refused", f"The model refused: {one_line(message.refusal)}")
        return failure, Flaw("refusal")
    # Cut short while it still reasoned: the model's doing, and as such a reply without a text.
    if message.content is None and finish != "length":
        failure = Failure("empty", "The reply has no content.", retryable=True)
        return failure, Flaw("empty", passing=True)
    text, thought = split_reasoning(message.content or "")
    tokens = choice.logprobs.content if choice.logprobs else None
    completion = Completion(
        text,
        _FINISH.get(finish, "other"),
        logprobs=None if tokens is None else tuple(token.logprob for token in tokens),
        entropy_bounds=_mean_bounds(tokens or ()),
        reasoning=message.reasoning_content or message.reasoning or thought,
    )
    return completion, Flaw("cut short", spoils=0) if finish == "length" else None


def _mean_bounds(tokens: Sequence[_Token]) -> tuple[float, float] | None:
    """On the mean entropy of a reply's positions; None if something is missing or no number."""
    found = []
    for token in tokens:
        top = token.top_logprobs or ()
        others = None if token.token in {likely.token for likely in top} else _chance(token)
        try:
            found.append(entropy_bounds([_chance(likely) for likely in top], others))
        except ValueError:
            return None
    if not found:
        return None
    return fmean(low for low, _ in found), fmean(high for _, high in found)


def _chance(token: _Likely) -> float:
    """Its probability; some endpoints round a certain token's logarithm to above 0."""
    return math.exp(min(0.0, token.logprob))


def split_reasoning(content: str) -> tuple[str, str | None]:
    """The reply proper, and the text in a leading <think>, which may have been cut off."""
    head, closed, rest = content.partition("</think>")
    thought = head.lstrip()
    if closed:
        return rest.lstrip(), thought.removeprefix("<think>").strip()
    if thought.startswith("<think>"):
        return "", thought.removeprefix("<think>").strip()
    return content, None


def told(body: object, hide: Callable[[str], str] = str) -> str:
    """The server's own words in the body of an error, with `hide` applied before they are cut."""
    if isinstance(body, Mapping):
        body = body.get("message") or body.get("detail") or body
    return one_line(hide(body if isinstance(body, str) else json.dumps(body, default=str)))


def one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:200] + " ..."
