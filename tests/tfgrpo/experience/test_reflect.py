"""From a scored group to edits: what is asked, what is asked again, and what is never taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.tfgrpo.experience.world import LESSON, PACK, task, text_of
from tfgrpo.experience.edits import Add, Delete, Edit
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.experience.reflect import (
    LONG,
    Advantage,
    EditReply,
    Reflector,
    ask_for_edits,
    compare,
    verdict,
)
from tfgrpo.experience.replies import render_operations
from tfgrpo.llm.scripted import Reply, ScriptedModel
from tfgrpo.types import (
    ChatRequest,
    Completion,
    Failure,
    Message,
    Rollout,
    RolloutGroup,
    SamplingParams,
    Score,
)

QUESTION = (Message("system", "Be brief."), Message("user", "What did you learn?"))
GOOD = render_operations([Add(LESSON)])
CUT = Completion(render_operations([Add(LESSON), Add("Go slowly.")])[:-3], "length")


def reflector_of(model: ScriptedModel, **changes: Any) -> Reflector:
    return replace(Reflector(model, PACK, SamplingParams(seed=1)), **changes)


def group_of(rewards: Sequence[float], texts: Sequence[str] = ()) -> RolloutGroup:
    said = texts or [f"attempt number {i}" for i in range(len(rewards))]
    return RolloutGroup(
        task(101),
        tuple(
            Rollout("t101", i, "p", Completion(text, "stop"), Score(reward, reward == 1, None))
            for i, (reward, text) in enumerate(zip(rewards, said, strict=True))
        ),
    )


def ask(replies: Sequence[Reply], max_repairs: int = 1) -> tuple[EditReply, ScriptedModel]:
    model = ScriptedModel(replies)
    reflector = reflector_of(model, max_repairs=max_repairs)
    return asyncio.run(ask_for_edits(model, QUESTION, reflector, "compare")), model


def compared(
    group: RolloutGroup,
    reply: Reply = GOOD,
    library: ExperienceLibrary | None = None,
    **changes: Any,
) -> tuple[Advantage, ScriptedModel]:
    def script(request: ChatRequest, index: int) -> Reply:
        return f"Summary {index}." if request.phase == "summarise" else reply

    model = ScriptedModel(script)
    made = compare(group, library or ExperienceLibrary.empty(), reflector_of(model, **changes))
    return asyncio.run(made), model


# asking for edits ---------------------------------------------------------------------------------


def test_a_reply_that_can_be_read_is_asked_for_once_and_with_a_schema() -> None:
    reply, model = ask([GOOD])
    assert reply.parsed.edits == (Add(LESSON),)
    assert reply.readable
    assert reply.problems == ()
    (request,) = model.calls
    assert request.messages == QUESTION
    assert request.json_schema is not None


@pytest.mark.parametrize("bad", ["no JSON at all", '[{"op": "sing"}]', "[3]", CUT])
def test_a_repair_shows_the_reply_and_its_errors_and_is_never_the_identical_request(
    bad: Reply,
) -> None:
    reply, model = ask([bad, GOOD])
    first, second = model.calls
    assert reply.readable
    assert reply.parsed.edits == (Add(LESSON),)
    assert second.messages[:2] == first.messages
    said = bad.text if isinstance(bad, Completion) else bad
    assert second.messages[2] == Message("assistant", str(said))
    (problem,) = reply.problems
    assert problem.partition(": ")[2] in second.messages[3].content
    assert second.messages[3].role == "user"
    assert (first.messages, first.first_index) != (second.messages, second.first_index)


def test_every_further_repair_is_a_new_request() -> None:
    reply, model = ask(["no"] * 4, max_repairs=3)
    assert len(model.calls) == len(set(map(repr, model.calls))) == 4
    assert len({request.messages for request in model.calls}) == 4
    assert not reply.readable
    assert reply.parsed.edits == ()
    assert len(reply.problems) == 4


def test_truncated_json_applies_nothing() -> None:
    whole = render_operations([Add(LESSON), Add("Go slowly.")])
    for end in range(1, len(whole)):
        reply, _ = ask([Completion(whole[:end], "length")] * 2)
        assert reply.parsed.edits == ()
        assert not reply.readable
        assert all(problem.startswith("E_") for problem in reply.problems)


def test_the_readable_part_of_a_reply_is_taken_and_the_rest_is_reported() -> None:
    rows = [*json.loads(GOOD)["operations"], {"op": "sing"}, 7]
    reply, model = ask([json.dumps(rows)])
    assert reply.parsed.edits == (Add(LESSON),)
    assert [problem.partition(":")[0] for problem in reply.problems] == [
        "E_UNKNOWN_OP",
        "E_NOT_OBJECT",
    ]
    assert len(model.calls) == 1


def test_an_empty_list_is_an_answer() -> None:
    reply, model = ask(["[]"])
    assert reply == EditReply(reply.parsed, True, ())
    assert reply.parsed.edits == ()
    assert len(model.calls) == 1


def test_an_empty_list_after_a_repair_is_an_answer_too() -> None:
    reply, _ = ask(["what?", "[]"])
    assert reply.readable
    assert len(reply.problems) == 1


def test_a_call_that_fails_is_not_repaired() -> None:
    reply, model = ask([Failure("transport", "the server is gone")])
    assert reply.problems == ("transport: the server is gone",)
    assert not reply.readable
    assert len(model.calls) == 1


# comparing ----------------------------------------------------------------------------------------


def test_a_comparison_shows_every_attempt_with_its_verdict_and_the_library() -> None:
    library = ExperienceLibrary.empty().by_hand(Add("Go slowly.")).library
    advantage, model = compared(group_of([0, 1, 0]), library=library)
    assert [s.text for s in advantage.summaries] == [f"Summary {i}." for i in range(3)]
    text = text_of(model.calls[-1])
    assert "1. wrong: Summary 0.\n2. right: Summary 1.\n3. wrong: Summary 2." in text
    assert "[E1] Go slowly." in text
    assert task(101).prompt in text
    assert advantage.edits == (Add(LESSON, evidence=("t101",)),)


def test_an_empty_library_is_shown_as_none() -> None:
    _, model = compared(group_of([0, 1]))
    assert "Current experiences:\nnone" in text_of(model.calls[-1])


@pytest.mark.parametrize(("shown", "gold"), [(True, "202"), (False, "unknown")])
def test_gold_is_shown_where_it_may_be(shown: bool, gold: str) -> None:
    _, model = compared(group_of([0, 1]), show_gold=shown, summarise="always")
    *summarised, last = map(text_of, model.calls)
    assert f"Reference answer: {gold}" in last
    assert all(f"reference answer: {gold}" in text for text in summarised)
    if not shown:
        assert not [text for text in (*summarised, last) if "202" in text]


def test_more_operations_than_allowed_are_cut_and_reported() -> None:
    proposals: list[Edit] = [Add(LESSON), Delete("E1"), Add("Go slowly.")]
    advantage, _ = compared(group_of([0, 1]), render_operations(proposals), max_operations=2)
    assert [type(edit) for edit in advantage.edits] == [Add, Delete]
    assert advantage.problems == ("1 operations over the limit were dropped",)


def test_what_a_model_claims_as_evidence_and_support_does_not_count() -> None:
    boast = json.dumps([{"op": "add", "text": LESSON, "evidence": ["C1", "t7"], "support": 99}])
    advantage, _ = compared(group_of([0, 1]), boast)
    assert advantage.edits == (Add(LESSON, evidence=("t101",), support=1),)


@pytest.mark.parametrize(("mode", "asked"), [("always", [0, 1]), ("long", [1]), ("never", [])])
def test_attempts_are_summarised_where_that_shortens_them(mode: Any, asked: list[int]) -> None:
    texts = [" a short attempt ", "x" * (LONG + 1)]
    advantage, model = compared(group_of([0, 1], texts), summarise=mode)
    assert [r.first_index for r in model.calls if r.phase == "summarise"] == asked
    verbatim = [text.strip() for text in texts]
    assert [s.text for s in advantage.summaries] == [
        f"Summary {i}." if i in asked else verbatim[i] for i in range(2)
    ]


def test_summaries_that_fail_are_counted_and_their_attempts_left_out() -> None:
    def script(request: ChatRequest, index: int) -> Reply:
        if request.phase == "summarise":
            return Failure("refused", "no") if index == 1 else f"Summary {index}."
        return GOOD

    model = ScriptedModel(script)
    reflector = reflector_of(model, summarise="always")
    library = ExperienceLibrary.empty()
    advantage = asyncio.run(compare(group_of([0, 0, 1]), library, reflector))
    assert [s.index for s in advantage.summaries] == [0, 2]
    assert advantage.problems == ("1 summaries failed",)
    assert "1. wrong: Summary 0.\n2. right: Summary 2." in text_of(model.calls[-1])

    lost = asyncio.run(compare(group_of([0, 1, 0]), library, reflector))
    assert lost.edits == ()
    assert lost.problems == ("1 summaries failed", "nothing left to compare")
    assert model.calls[-1].phase == "summarise"


@pytest.mark.parametrize(
    ("reward", "rewards", "said"),
    [(1.0, (0.0, 1.0), "right"), (0.0, (0.0, 1.0), "wrong"), (1.0, (0.5, 1.0), "score 1"),
     (0.25, (0.25, 1.0), "score 0.25")],
)  # fmt: skip
def test_verdicts(reward: float, rewards: tuple[float, ...], said: str) -> None:
    assert verdict(reward, rewards) == said
