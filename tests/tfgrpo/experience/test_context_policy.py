"""The policy that learning moves: what it shows, where, and what dropout hides."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tfgrpo.experience.world import task, text_of
from tfgrpo.experience.context_policy import ContextPolicy
from tfgrpo.experience.edits import Add, SetStatus
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.policy import BlockPolicy
from tfgrpo.prompts import PromptPack, load_pack, pack_names
from tfgrpo.protocols import Policy
from tfgrpo.rewards.table import make_reward
from tfgrpo.rollout import Sampling, gold_grader, sample_group
from tfgrpo.types import Prompt, SamplingParams

PACKS = [load_pack(name) for name in pack_names()]
MODEL = ScriptedModel(lambda request, index: "Answer: 202", model_id="m")
EMPTY = ExperienceLibrary.empty()
LESSONS = ("Go slowly.", "Read the signs.", "Carry the tens.", "Check the last digit.")
LIBRARY = EMPTY.by_hand(*(Add(text) for text in LESSONS)).library
TASK = task(101)

every_pack = pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.name)


def lines_of(prompt: Prompt) -> tuple[str, ...]:
    """The ids of the lessons that the text of a prompt really holds."""
    text = "\n".join(message.content for message in prompt.messages)
    return tuple(entry.id for entry in LIBRARY.active if f"[{entry.id}] {entry.text}" in text)


@every_pack
def test_an_empty_library_is_the_baseline_byte_for_byte(pack: PromptPack) -> None:
    learned, base = ContextPolicy(MODEL, pack, EMPTY), BlockPolicy(MODEL, pack)
    assert isinstance(learned, Policy)
    for index in range(4):
        assert learned.render(TASK, index) == base.render(TASK, index)


@every_pack
def test_lessons_that_are_all_hidden_leave_the_baseline(pack: PromptPack) -> None:
    hidden = LIBRARY.by_hand(*(SetStatus(e.id, "disabled") for e in LIBRARY.active)).library
    base = BlockPolicy(MODEL, pack).render(TASK, 0)
    assert ContextPolicy(MODEL, pack, hidden).render(TASK, 0) == base
    assert ContextPolicy(MODEL, pack, LIBRARY, dropout=1.0).render(TASK, 0) == base


@every_pack
def test_the_library_stands_before_the_question(pack: PromptPack) -> None:
    prompt = ContextPolicy(MODEL, pack, LIBRARY).render(TASK, 0)
    text = "\n".join(message.content for message in prompt.messages)
    assert text.index(LIBRARY.render()) < text.index(TASK.prompt)
    assert prompt.shown == ("E1", "E2", "E3", "E4")


@every_pack
def test_questions_share_the_whole_prompt_up_to_themselves(pack: PromptPack) -> None:
    """A server's prefix cache then reads the library once."""
    policy = ContextPolicy(MODEL, pack, LIBRARY)
    heads = set()
    for t in (task(101), task(999)):
        text = "\n".join(message.content for message in policy.render(t, 0).messages)
        heads.add(text.partition(t.prompt)[0])
    assert len(heads) == 1


def test_a_policy_is_named_by_model_pack_and_library() -> None:
    policies = [
        ContextPolicy(model, pack, library)
        for model in (MODEL, ScriptedModel([], model_id="n"))
        for pack in PACKS
        for library in (EMPTY, LIBRARY)
    ]
    assert len({policy.policy_id for policy in policies}) == len(policies)


# dropout ------------------------------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(0, 40), st.floats(0, 1), st.integers(0, 5))
def test_what_is_recorded_as_shown_is_what_the_prompt_holds(
    number: int, index: int, dropout: float, seed: int
) -> None:
    policy = ContextPolicy(MODEL, PACKS[-1], LIBRARY, dropout, seed)
    prompt = policy.render(task(number), index)
    assert prompt.shown == lines_of(prompt)
    assert prompt == policy.render(task(number), index)


def test_pairs_of_rollouts_see_the_same_and_share_a_request() -> None:
    model = ScriptedModel(lambda request, index: "Answer: 202")
    policy = ContextPolicy(model, PACKS[-1], LIBRARY, dropout=0.5)
    grade = gold_grader(make_reward("exact"))
    group = asyncio.run(sample_group(policy, TASK, grade, Sampling(16, SamplingParams())))
    shown = [r.shown for r in group.rollouts]
    assert shown[::2] == shown[1::2]
    assert len(set(shown)) > 4
    assert sum(request.n for request in model.calls) == 16
    assert len(model.calls) <= 8
    assert all(request.n % 2 == 0 for request in model.calls)
    for request in model.calls:
        ids = shown[request.first_index]
        assert tuple(e.id for e in LIBRARY.active if e.text in text_of(request)) == ids


def test_each_lesson_is_hidden_with_its_probability_and_apart_from_the_others() -> None:
    policy = ContextPolicy(MODEL, PACKS[-1], LIBRARY, dropout=0.25)
    draws = [policy.render(task(n), 2 * i).shown for n in range(400) for i in range(4)]
    for entry in ("E1", "E2", "E3", "E4"):
        share = sum(entry in shown for shown in draws) / len(draws)
        assert share == pytest.approx(0.75, abs=0.04)  # four standard errors
    both = sum("E1" in shown and "E2" in shown for shown in draws) / len(draws)
    assert both == pytest.approx(0.75**2, abs=0.05)


def test_seeds_tasks_and_pairs_draw_apart() -> None:
    def shown(seed: int, number: int, index: int) -> tuple[str, ...]:
        return ContextPolicy(MODEL, PACKS[-1], LIBRARY, 0.5, seed).render(task(number), index).shown

    assert len({shown(seed, 1, 0) for seed in range(40)}) > 8
    assert len({shown(0, number, 0) for number in range(40)}) > 8
    assert len({shown(0, 1, index) for index in range(80)}) > 8
