"""From a scored group to its semantic advantage: what separated right from wrong, in words.

Training-Free GRPO (arXiv 2510.08191) replaces the numerical advantage of a group by text:
s_i = M(q, o_i) summarises each attempt, A = M(q, {s_i}, E) compares them in sight of the library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tfgrpo.experience.edits import Edit
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.experience.replies import ParsedReply, json_schema, parse_operations
from tfgrpo.prompts import PromptPack
from tfgrpo.protocols import ChatModel
from tfgrpo.types import (
    ChatRequest,
    Completion,
    Failure,
    Message,
    Phase,
    Rollout,
    RolloutGroup,
    SamplingParams,
)

Summarise = Literal["always", "long", "never"]
LONG = 600  # characters; shorter attempts are passed on verbatim under "long"


@dataclass(frozen=True, slots=True)
class Reflector:
    """The model that reads attempts and writes lessons, and how it is asked."""

    model: ChatModel
    pack: PromptPack
    params: SamplingParams
    summarise: Summarise = "always"
    max_operations: int = 1
    max_words: int = 32
    max_repairs: int = 1
    show_gold: bool = True


@dataclass(frozen=True, slots=True)
class Summary:
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Advantage:
    """The edits one group proposes, the summaries they rest on, and all that went wrong."""

    task_id: str
    edits: tuple[Edit, ...]
    summaries: tuple[Summary, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EditReply:
    """`problems` are of all attempts; `readable` says whether the last of them could be used."""

    parsed: ParsedReply
    readable: bool
    problems: tuple[str, ...]


async def ask_for_edits(
    model: ChatModel, messages: Sequence[Message], reflector: Reflector, phase: Phase
) -> EditReply:
    """Ask for operations; a reply that cannot be read is asked for again with what was wrong.

    A repeated question carries the reply and its errors, so it is never the identical request.
    """
    conversation = tuple(messages)
    problems: list[str] = []
    parsed, readable = ParsedReply((), ()), False
    schema = json_schema() if reflector.pack.asks_for_json else None
    for attempt in range(reflector.max_repairs + 1):
        request = ChatRequest(conversation, reflector.params, 1, attempt, phase, json_schema=schema)
        (outcome,) = await model.complete(request)
        if isinstance(outcome, Failure):
            problems.append(f"{outcome.stage}: {outcome.reason}")
            break
        parsed = parse_operations(outcome.text, outcome.finish_reason)
        problems += [f"{p.code}: {p.detail}" for p in parsed.problems]
        readable = bool(parsed.edits) or not parsed.problems
        if readable:
            break
        complaint = "; ".join(p.detail for p in parsed.problems)
        conversation = (
            *conversation,
            Message("assistant", outcome.text),
            *reflector.pack.render("repair", problems=complaint),
        )
    return EditReply(parsed, readable, tuple(problems))


async def summarise(group: RolloutGroup, rollout: Rollout, reflector: Reflector) -> Summary | None:
    """One attempt in few words, or the attempt itself where that is short; None if it failed."""
    text = rollout.completion.text
    if reflector.summarise == "never" or (reflector.summarise == "long" and len(text) <= LONG):
        return Summary(rollout.index, text.strip())
    messages = reflector.pack.render(
        "summarise",
        question=group.task.prompt,
        attempt=text.strip(),
        outcome=verdict(rollout.score.reward, group.rewards),
        gold=_gold(group, reflector),
    )
    request = ChatRequest(messages, reflector.params, 1, rollout.index, "summarise")
    (outcome,) = await reflector.model.complete(request)
    return Summary(rollout.index, outcome.text.strip()) if isinstance(outcome, Completion) else None


def verdict(reward: float, rewards: Sequence[float]) -> str:
    """`right` or `wrong` for binary rewards; for any other scale the score itself."""
    if set(rewards) <= {0.0, 1.0}:
        return "right" if reward else "wrong"
    return f"score {reward:g}"


def _gold(group: RolloutGroup, reflector: Reflector) -> str:
    return group.task.answer or "unknown" if reflector.show_gold else "unknown"


async def compare(
    group: RolloutGroup,
    library: ExperienceLibrary,
    reflector: Reflector,
) -> Advantage:
    """The semantic advantage of an informative group, as at most `max_operations` edits."""
    attempts = await asyncio.gather(*(summarise(group, r, reflector) for r in group.rollouts))
    summaries = tuple(s for s in attempts if s is not None)
    lost = len(attempts) - len(summaries)
    problems = [f"{lost} summaries failed"] if lost else []
    rewards = {r.index: r.score.reward for r in group.rollouts}
    if len({rewards[s.index] for s in summaries}) < 2:
        return Advantage(group.task.task_id, (), summaries, (*problems, "nothing left to compare"))
    lines = "\n".join(
        f"{i}. {verdict(rewards[s.index], group.rewards)}: {s.text}"
        for i, s in enumerate(summaries, 1)
    )
    messages = reflector.pack.render(
        "compare",
        question=group.task.prompt,
        attempts=lines,
        library=library.render() or "none",
        gold=_gold(group, reflector),
        limit=str(reflector.max_operations),
        max_words=str(reflector.max_words),
    )
    reply = await ask_for_edits(reflector.model, messages, reflector, "compare")
    kept = reply.parsed.edits[: reflector.max_operations]
    surplus = len(reply.parsed.edits) - len(kept)
    if surplus:
        problems.append(f"{surplus} operations over the limit were dropped")
    edits = tuple(replace(e, evidence=(group.task.task_id,), support=1) for e in kept)
    return Advantage(group.task.task_id, edits, summaries, (*problems, *reply.problems))
