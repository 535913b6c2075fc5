"""Fixed blocks: the bare model, the empty heading, the placebo, solved examples."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.errors import ConfigError
from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.policy import BlockPolicy, TokenCounter, empty_block, fewshot_block, placebo_block
from tfgrpo.prompts import PromptPack, load_pack, pack_names
from tfgrpo.protocols import Policy
from tfgrpo.types import Task

PACKS = [load_pack(name) for name in pack_names()]
every_pack = pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.name)
TASK = Task("t1", "What is 1+1?", "2", "sum", "train")
OTHER = Task("t2", "What is 2+2?", "4", "sum", "train")
MODEL = ScriptedModel([], model_id="m")


def words(text: str) -> int:
    return len(text.split())


def characters(text: str) -> int:
    return len(text)


@given(
    pack=st.sampled_from(PACKS),
    count=st.sampled_from([words, characters]),
    lines=st.floats(1, 40),
    seed=st.integers(0, 9),
)
def test_a_placebo_is_as_long_as_the_library(
    pack: PromptPack, count: TokenCounter, lines: float, seed: int
) -> None:
    longest = max(count(f"\n[E99] {line}") for line in pack.placebo)
    target = round(lines * longest)
    block = placebo_block(pack, target, count, seed)
    body = block.removeprefix(empty_block(pack)).strip()
    assert abs(count(body) - target) <= longest / 2
    shown = body.splitlines()
    assert [line.partition(" ")[0] for line in shown] == [f"[E{i + 1}]" for i in range(len(shown))]
    assert {line.partition(" ")[2] for line in shown} <= set(pack.placebo)


@every_pack
def test_a_placebo_is_seeded(pack: PromptPack) -> None:
    blocks = [placebo_block(pack, 60, words, seed) for seed in (0, 0, 1)]
    assert blocks[0] == blocks[1] != blocks[2]


@every_pack
def test_the_placebo_of_an_empty_library_is_the_base_prompt(pack: PromptPack) -> None:
    assert placebo_block(pack, 0, words, 0) == ""


def test_a_pack_without_sentences_has_no_placebo() -> None:
    with pytest.raises(ConfigError, match=r"has no placebo.txt; add one sentence a line"):
        placebo_block(replace(PACKS[0], placebo=()), 10, words, 0)


@every_pack
def test_the_empty_block_is_the_heading_alone(pack: PromptPack) -> None:
    heading = empty_block(pack)
    assert heading
    assert pack.library_block("[E1] text") == f"{heading}\n[E1] text"


def test_few_shots_show_problems_and_their_gold() -> None:
    assert fewshot_block([TASK, OTHER]) == ("What is 1+1?\nAnswer: 2\n\nWhat is 2+2?\nAnswer: 4")
    assert fewshot_block([TASK.without_gold(), OTHER]) == "What is 2+2?\nAnswer: 4"


@pytest.mark.parametrize("tasks", [[], [TASK.without_gold()]])
def test_few_shots_need_gold(tasks: list[Task]) -> None:
    with pytest.raises(ConfigError, match="gold answers; choose another control"):
        fewshot_block(tasks)


def test_a_policy_is_named_by_model_pack_and_block() -> None:
    base = BlockPolicy(MODEL, PACKS[0])
    assert isinstance(base, Policy)
    assert base.policy_id == f"m/{PACKS[0].version}"
    names = {base.policy_id, *(BlockPolicy(MODEL, p, b).policy_id for p in PACKS for b in "ab")}
    assert len(names) == 1 + 2 * len(PACKS)


@every_pack
def test_the_block_stands_before_the_question_and_is_the_same_for_all_rollouts(
    pack: PromptPack,
) -> None:
    policy = BlockPolicy(MODEL, pack, "[E1] Count twice.")
    prompt = policy.render(TASK, 0)
    assert prompt == policy.render(TASK, 7)
    assert prompt.shown == ()
    text = "\n".join(m.content for m in prompt.messages)
    assert 0 <= text.index("[E1] Count twice.") < text.index(TASK.prompt)
