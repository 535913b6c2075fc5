"""Groups: drawn in few requests, graded as a whole, streamed, and never a row lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import pytest

from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.policy import BlockPolicy
from tfgrpo.prompts import load_pack
from tfgrpo.protocols import ChatModel, Policy
from tfgrpo.rewards.table import make_reward
from tfgrpo.rollout import (
    Grader,
    Sampling,
    gold_grader,
    own_stream,
    sample_group,
    sample_groups,
    vote_grader,
)
from tfgrpo.tasks.procedural import FamilyReward, ProceduralTasks
from tfgrpo.types import (
    ChatRequest,
    Completion,
    Failure,
    Message,
    Prompt,
    RolloutGroup,
    SamplingParams,
    Score,
    Stage,
    Task,
)

PACK = load_pack("abacus")
PARAMS = SamplingParams(seed=5)
GRADER = gold_grader(make_reward("exact"))


def task(name: str, gold: str = "4") -> Task:
    return Task(name, f"question {name}", gold, "made-up", "train")


@dataclass(frozen=True)
class ChangingPolicy:
    """Shows another block to every `span` rollouts, as dropout does."""

    model: ChatModel
    span: int
    policy_id: str = "changing"

    def render(self, task: Task, index: int) -> Prompt:
        block = f"E{index // self.span % 2}"
        return Prompt((Message("system", block), Message("user", task.prompt)), (block,))


def draw(
    policy: Policy, grader: Grader = GRADER, sampling: Sampling | None = None, name: str = "a"
) -> RolloutGroup:
    return asyncio.run(sample_group(policy, task(name), grader, sampling or Sampling(4, PARAMS)))


def of_all(
    policy: Policy, tasks: Sequence[Task], n: int = 2, grader: Grader = GRADER
) -> list[RolloutGroup]:
    async def go() -> list[RolloutGroup]:
        return [g async for g in sample_groups(policy, tasks, grader, Sampling(n, PARAMS))]

    return asyncio.run(go())


# requests -----------------------------------------------------------------------------------------


def test_equal_prompts_share_one_request() -> None:
    model = ScriptedModel(lambda request, index: f"Answer: {index}")
    sampling = Sampling(6, PARAMS, "evaluate", detail=True)
    group = draw(BlockPolicy(model, PACK, "[E1] hint"), sampling=sampling)
    messages = PACK.render("solve", library="[E1] hint", question="question a")
    params = own_stream(PARAMS, "a")
    assert model.calls == [ChatRequest(messages, params, 6, 0, "evaluate", detail=True)]
    assert [r.index for r in group.rollouts] == list(range(6))
    assert group.c == 1


@pytest.mark.parametrize(
    ("span", "n", "requests"),
    [(2, 6, [(0, 2), (2, 2), (4, 2)]), (1, 3, [(0, 1), (1, 1), (2, 1)]), (4, 6, [(0, 4), (4, 2)])],
)
def test_neighbours_with_equal_prompts_share_a_request(
    span: int, n: int, requests: list[tuple[int, int]]
) -> None:
    """Equal prompts that are no neighbours do not: a request is for consecutive indices."""
    model = ScriptedModel(lambda request, index: f"{request.messages[0].content} at {index}")
    group = draw(ChangingPolicy(model, span), sampling=Sampling(n, PARAMS))
    assert [(call.first_index, call.n) for call in model.calls] == requests
    for i, rollout in enumerate(group.rollouts):
        block = f"E{i // span % 2}"
        assert (rollout.index, rollout.shown) == (i, (block,))
        assert rollout.completion.text == f"{block} at {i}"
        assert (rollout.task_id, rollout.policy_id) == ("a", "changing")


def test_indices_stand_in_order_whichever_request_is_first() -> None:
    model = ScriptedModel(
        lambda request, index: str(index), latency=lambda r: 0.1 if r.first_index == 0 else 0.0
    )
    group = draw(ChangingPolicy(model, 2), sampling=Sampling(4, PARAMS))
    assert [r.completion.text for r in group.rollouts] == list("0123")


# failures -----------------------------------------------------------------------------------------


def test_what_fails_is_counted_and_is_no_reward() -> None:
    def reply(request: ChatRequest, index: int) -> str | Failure:
        return Failure("refused", "no") if index % 3 == 1 else f"Answer: {4 if index else 5}"

    group = draw(BlockPolicy(ScriptedModel(reply), PACK), sampling=Sampling(5, PARAMS))
    assert [r.index for r in group.rollouts] == [0, 2, 3]
    assert group.rewards == (0.0, 1.0, 1.0)
    assert (group.n, group.c) == (3, 2)
    assert [(f.index, f.failure) for f in group.failures] == [
        (1, Failure("refused", "no")), (4, Failure("refused", "no")),
    ]  # fmt: skip
    assert {f.task_id for f in group.failures} == {"a"}


def test_a_broken_verifier_leaves_a_failure_in_the_replys_place() -> None:
    def grade(task: Task, texts: Sequence[str]) -> list[Score | Failure]:
        broken = Failure("grading", "the verifier broke")
        return [broken if text == "1" else Score(float(text), True, text) for text in texts]

    model = ScriptedModel(lambda request, index: str(index))
    group = draw(BlockPolicy(model, PACK), grade)
    assert [(r.index, r.score.reward) for r in group.rollouts] == [(0, 0.0), (2, 2.0), (3, 3.0)]
    assert [(f.index, f.failure.stage) for f in group.failures] == [(1, "grading")]


@pytest.mark.parametrize("stage", get_args(Stage))
def test_a_group_of_failures_has_no_rewards(stage: Stage) -> None:
    group = draw(BlockPolicy(ScriptedModel(lambda *_: Failure(stage, "x")), PACK))
    assert (group.n, group.rewards, len(group.failures)) == (0, (), 4)


def test_a_truncated_reply_is_a_sample_like_any_other() -> None:
    model = ScriptedModel(lambda *_: Completion("Answer: 4", "length"))
    assert draw(BlockPolicy(model, PACK)).rewards == (1.0,) * 4


# streaming ----------------------------------------------------------------------------------------


def by_question(delays: dict[str, float]) -> ScriptedModel:
    return ScriptedModel(
        lambda *_: "Answer: 4", latency=lambda r: delays[r.messages[-1].content.split()[-1]]
    )


def test_a_slow_problem_holds_back_no_other() -> None:
    tasks = [task(name) for name in "abcd"]
    model = by_question({"a": 0.4, "b": 0.2, "c": 0.0, "d": 0.0})
    arrived = [g.task.task_id for g in of_all(BlockPolicy(model, PACK), tasks)]
    assert set(arrived[:2]) == {"c", "d"}
    assert arrived[2:] == ["b", "a"]
    assert [call.messages[-1].content[-1] for call in model.calls] == list("abcd")


def test_every_problem_comes_back_once() -> None:
    tasks = [task(str(i)) for i in range(30)]
    model = ScriptedModel(
        lambda *_: "Answer: 4", latency=lambda r: len(r.messages[-1].content) / 1e4
    )
    groups = of_all(BlockPolicy(model, PACK), tasks, n=3)
    assert {g.task.task_id for g in groups} == {t.task_id for t in tasks}
    assert [g.n for g in groups] == [3] * 30
    assert all(r.task_id == g.task.task_id for g in groups for r in g.rollouts)


def test_whoever_stops_listening_stops_the_rest() -> None:
    async def go() -> set[str]:
        policy = BlockPolicy(by_question({"a": 30.0, "b": 0.0}), PACK)
        groups = sample_groups(policy, [task("a"), task("b")], GRADER, Sampling(2, PARAMS))
        first = await anext(groups)
        assert first.task.task_id == "b"
        await groups.aclose()  # type: ignore[attr-defined]
        for _ in range(10):  # a cancellation takes a turn of the loop for each nested await
            await asyncio.sleep(0)
        return {t.get_name() for t in asyncio.all_tasks() if t is not asyncio.current_task()}

    assert asyncio.run(go()) == set()


# grading ------------------------------------------------------------------------------------------


def test_rewards_of_a_family_are_exact() -> None:
    tasks = ProceduralTasks(["sum"]).tasks("train", 3, 0)
    golds = {t.prompt: t.answer for t in tasks}
    model = ScriptedModel(
        lambda r, i: f"Answer: {golds[r.messages[-1].content]}" if i else "Answer: 1"
    )
    groups = of_all(BlockPolicy(model, PACK), tasks, grader=gold_grader(FamilyReward()))
    assert [g.rewards for g in groups] == [(0.0, 1.0)] * 3


def vote(texts: Sequence[str], min_share: float) -> Sequence[Score | Failure]:
    read = make_reward("exact").read  # type: ignore[attr-defined]
    return vote_grader(lambda task, text: read(text), min_share)(
        replace(task("a"), answer=None), [f"Answer: {text}" if text else "" for text in texts]
    )


def test_the_majority_is_right() -> None:
    graded = vote(["7", "7.0", "8", ""], 0.5)
    assert graded == [
        Score(1.0, True, "7"),
        Score(1.0, True, "7"),
        Score(0.0, False, "8"),
        Score(0.0, False, None),
    ]


@pytest.mark.parametrize(
    ("texts", "min_share"),
    [("7788", 0.5), ("7789", 0.6), ("6789", 0.1), ([""] * 4, 0.0), ([], 0.5)],
)
def test_without_a_majority_nothing_is_scored(texts: Sequence[str], min_share: float) -> None:
    graded = vote(texts, min_share)
    assert graded == [Failure("grading", "the attempts agree on no answer")] * len(texts)


def test_undecided_groups_are_failures_not_zeros() -> None:
    grader = vote_grader(lambda task, text: text, 0.5)
    model = ScriptedModel(lambda request, index: str(index))
    group = draw(BlockPolicy(model, PACK), grader)
    assert (group.rewards, len(group.failures)) == ((), 4)
    decided = draw(BlockPolicy(ScriptedModel(lambda r, i: str(i // 3)), PACK), grader)
    assert decided.rewards == (1.0, 1.0, 1.0, 0.0)


def test_failed_replies_have_no_vote() -> None:
    model = ScriptedModel(lambda r, i: Failure("empty", "") if i < 3 else "7")
    group = draw(BlockPolicy(model, PACK), vote_grader(lambda task, text: text, 0.5))
    assert (group.rewards, len(group.failures)) == ((1.0,), 3)


# randomness ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeedRecorder:
    """Remembers the seed of every request."""

    seen: list[int | None]
    model_id: str = "recorder"

    async def complete(self, request: ChatRequest) -> tuple[Completion, ...]:
        self.seen.append(request.params.seed)
        return tuple(Completion("4", "stop") for _ in range(request.n))


def test_tasks_do_not_share_their_random_numbers() -> None:
    """Else the styles drawn for all tasks vary together, and intervals over tasks are too short."""
    model = SeedRecorder([])
    for name in ("a", "b", "a"):
        asyncio.run(sample_group(BlockPolicy(model, PACK), task(name), GRADER, Sampling(2, PARAMS)))
    first, second, again = model.seen
    assert first == again
    assert first != second


def test_no_seed_stays_no_seed() -> None:
    assert own_stream(SamplingParams(seed=None), 1) == SamplingParams(seed=None)
