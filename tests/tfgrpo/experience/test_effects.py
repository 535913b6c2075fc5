"""Effects of lessons: the formula by hand, and a planted truth recovered from the loop itself."""

from __future__ import annotations

import asyncio
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tfgrpo.experience.world import PACK, task, text_of
from tfgrpo.experience.context_policy import ContextPolicy
from tfgrpo.experience.edits import Add
from tfgrpo.experience.effects import effects
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.experience.record import group_row
from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.rewards.table import make_reward
from tfgrpo.rollout import Sampling, gold_grader, sample_group
from tfgrpo.seeding import derive_rng
from tfgrpo.types import ChatRequest, SamplingParams


def row(task_id: str, *rollouts: tuple[float, str]) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "rollouts": [{"reward": reward, "shown": shown.split()} for reward, shown in rollouts],
    }


# E1: t1 has 1 - 1/3 in one step and 1/2 - 1 in the other, mean 1/12; t2 has 1 - 0.
# E2: t1 has 1/2 - 2/3 = -1/6 in one step, and was in no prompt of the other; t2 has 0 - 1.
# E3 was never hidden; E4 had a contrast in one task only, which makes no interval.
GOLDEN = [
    row("t1", (1, "E1 E2 E3"), (1, "E1 E3"), (0, "E2 E3"), (1, "E3"), (0, "E3")),
    row("t1", (1, "E1 E3"), (0, "E1 E3"), (1, "E3"), (1, "E3 E4")),
    row("t2", (1, "E1 E3"), (0, "E2 E3")),
]


def test_the_formula_equals_the_golden() -> None:
    found = {e.experience_id: e.estimate for e in effects(GOLDEN, 0)}
    assert list(found) == ["E1", "E2"]
    assert found["E1"].value == pytest.approx((1 / 12 + 1) / 2)
    assert found["E2"].value == pytest.approx((-1 / 6 - 1) / 2)
    assert {estimate.n for estimate in found.values()} == {2}


def test_ids_are_in_the_order_of_their_numbers() -> None:
    rows = [row(t, (1, "E10 E9 E2"), (0, ""), (0, "")) for t in ("t1", "t2")]
    assert [e.experience_id for e in effects(rows, 0)] == ["E2", "E9", "E10"]


@given(st.permutations(GOLDEN * 2))
def test_the_order_of_groups_tells_nothing(rows: list[dict[str, Any]]) -> None:
    assert effects(rows, 0) == effects(GOLDEN * 2, 0)


def test_without_dropout_nothing_can_be_said() -> None:
    assert effects([row("t1", (1, "E1"), (0, "E1")), row("t2", (1, "E1"), (1, "E1"))], 0) == []
    assert effects([], 0) == []
    assert effects([{"task_id": "t1", "rollouts": []}], 0) == []


# a planted truth ----------------------------------------------------------------------------------

HELPS, HARMS, IDLE = "Carry the tens.", "Guess at once.", "Mind the gap."
LIBRARY = ExperienceLibrary.empty().by_hand(Add(HELPS), Add(HARMS), Add(IDLE)).library
PLANTED = {"E1": 0.4, "E2": -0.2, "E3": 0.0}


def experiment(seed: int, count: int = 60, n: int = 8) -> list[dict[str, Any]]:
    """Rows of groups in which p(right) is linear in what a rollout was shown."""

    def reply(request: ChatRequest, index: int) -> str:
        text = text_of(request)
        number = int(request.messages[-1].content.split()[2])
        ease = 0.2 + 0.2 * derive_rng(seed, number).random()
        p = ease + PLANTED["E1"] * (HELPS in text) + PLANTED["E2"] * (HARMS in text)
        right = derive_rng(seed, number, index, "luck").random() < p
        return f"Answer: {2 * number if right else 0}"

    policy = ContextPolicy(ScriptedModel(reply), PACK, LIBRARY, dropout=0.5, seed=seed)
    grade = gold_grader(make_reward("exact"))
    sampling = Sampling(n, SamplingParams())

    async def go() -> list[dict[str, Any]]:
        groups = [
            await sample_group(policy, task(number), grade, sampling)
            for number in range(1, count + 1)
        ]
        return [group_row(0, group) for group in groups]

    return asyncio.run(go())


def test_a_planted_effect_is_recovered_and_a_planted_null_is_not_found() -> None:
    runs = [effects(experiment(seed), seed) for seed in range(8)]
    covered = dict.fromkeys(PLANTED, 0)
    for found in runs:
        by_id = {e.experience_id: e.estimate for e in found}
        assert by_id.keys() == PLANTED.keys()
        assert by_id["E1"].low > 0
        for entry, truth in PLANTED.items():
            covered[entry] += by_id[entry].low <= truth <= by_id[entry].high
    # P(fewer than 6 of 8 intervals of level 0.95 cover) < 0.006 for each
    assert min(covered.values()) >= 6
    for entry, truth in PLANTED.items():
        values = [e.estimate.value for found in runs for e in found if e.experience_id == entry]
        assert fmean(values) == pytest.approx(truth, abs=0.08)
