"""Fine-tuning on own replies: the losses against goldens, the choice of replies, the loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baselines.demonstrations import (
    Demonstration,
    demonstrations,
    end_token,
    select,
    spread,
    take_all,
)
from baselines.imitation import Watch, World, imitate
from baselines.imitation_config import (
    POCKET,
    Distil,
    Diverse,
    ExpertIteration,
    Gem,
    ImitateSpec,
    Nll,
    Rejection,
)
from baselines.sft import (
    Student,
    buckets,
    gem_loss,
    reply_losses,
    token_losses,
    token_weights,
)
from tfgrpo.errors import BackendError, BudgetStop, ConfigError
from tfgrpo.llm.meter import Budget, Meter, MeteredModel
from tfgrpo.llm.transformers_local import load as load_model
from tfgrpo.policy import BlockPolicy
from tfgrpo.prompts import load_pack
from tfgrpo.rollout import gold_grader
from tfgrpo.settings import load
from tfgrpo.tasks.procedural import FamilyReward, ProceduralTasks
from tfgrpo.types import (
    Completion,
    FailedRollout,
    Failure,
    Rollout,
    RolloutGroup,
    Score,
    StepRecord,
    Task,
    Usage,
)

WEIGHTS = Path(str(files("baselines.abacus") / "weights"))
PACK = load_pack("abacus")
NOWHERE = Path("nowhere")
Weights = dict[str, torch.Tensor]


# the losses ---------------------------------------------------------------------------------------

Z = torch.tensor([[2.0, 1.0, 0.0, -1.0]], dtype=torch.float64)
Y = torch.tensor([1])


@pytest.mark.parametrize(("beta", "golden"), [(1.0, 0.492653), (0.7, 0.698052)])
def test_gem_goldens(beta: float, golden: float) -> None:
    assert float(gem_loss(Z, Y, beta)) == pytest.approx(golden, abs=5e-7)


@given(
    st.lists(st.floats(-5, 5), min_size=2, max_size=6),
    st.integers(0, 5),
    st.floats(0.1, 1.0),
)
def test_the_gradient_of_gem_is_q_minus_the_target(
    values: list[float], target: int, beta: float
) -> None:
    z = torch.tensor([values], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([target % len(values)])
    (gradient,) = torch.autograd.grad(gem_loss(z, y, beta).sum(), z)
    expected = (z.detach() / beta).softmax(-1)
    expected[0, y] -= 1
    assert torch.allclose(gradient, expected, atol=1e-12)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.integers(0, 5))
def test_at_beta_one_gem_learns_as_maximum_likelihood(values: list[float], target: int) -> None:
    """Its value is lower by the entropy, which the constant q keeps out of the gradient."""
    z = torch.tensor([values], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([target % len(values)])
    gem, nll = gem_loss(z, y, 1.0), torch.nn.functional.cross_entropy(z, y)
    assert torch.allclose(*(torch.autograd.grad(f.sum(), z)[0] for f in (gem, nll)), atol=1e-12)
    entropy = torch.distributions.Categorical(logits=z.detach()).entropy()
    assert torch.allclose(gem, nll - entropy, atol=1e-9)


def test_gem_comes_to_rest_flatter_than_its_data() -> None:
    """Where q is the data, p is the data to the power of beta."""
    data, beta = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), 0.7
    z = (beta * data.log()).requires_grad_()
    loss = gem_loss(z.expand(3, 3), torch.arange(3), beta) @ data
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.allclose(gradient, torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert z.softmax(-1).tolist() == pytest.approx([0.449, 0.314, 0.237], abs=5e-4)


def test_only_the_loss_has_a_gradient() -> None:
    z = Z.float().requires_grad_()
    loss, nll, entropy = token_losses(z, Y, Gem())
    assert loss.item() == pytest.approx(0.698052, abs=1e-5)
    assert nll.item() == pytest.approx(1.440190, abs=1e-5)
    assert entropy.item() == pytest.approx(0.947537, abs=1e-5)
    (gradient,) = torch.autograd.grad(loss + 10 * nll + 100 * entropy, z)
    alone = torch.autograd.grad(token_losses(z, Y, Gem())[0].sum(), z)[0]
    assert torch.equal(gradient, alone)


def tiny(seed: int = 0) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
        pad_token_id=0, bos_token_id=None, eos_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def demonstration(prompt: Sequence[int], reply: Sequence[int], weight: float) -> Demonstration:
    task = Task(f"t{sum(reply)}", "?", "1", "d", "train")
    return Demonstration(task, tuple(prompt), tuple(reply), "", None, None, weight)


BATCH = (
    demonstration([5, 6, 7], [8, 9, 1], 0.5),
    demonstration([5], [30, 31, 32, 33, 34, 35, 1], 0.25),
    demonstration([11, 12], [13, 1], 1.0),
    demonstration([20, 21, 22, 23, 24, 25], [1], 0.25),
)


@pytest.mark.parametrize("loss", [Nll(), Gem()])
def test_losses_are_those_of_reply_tokens_alone(
    loss: Nll | Gem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row by itself, through the model's own logits, is the oracle; chunks do not matter."""
    monkeypatch.setattr("baselines.sft.CHUNK", 3)
    model = tiny()
    expected = []
    for d in BATCH:
        logits = model(input_ids=torch.tensor([[*d.prompt, *d.reply]])).logits[0]
        read = logits[len(d.prompt) - 1 : -1]
        expected.append(token_losses(read, torch.tensor(d.reply), loss))
    found = reply_losses(model, BATCH, loss)
    assert found.shape == (3, 13)
    assert torch.allclose(found, torch.cat(expected, dim=1), atol=1e-5)
    assert token_weights(BATCH).tolist() == [0.5] * 3 + [0.25] * 7 + [1.0] * 2 + [0.25]


def spec_of(*overrides: str) -> ImitateSpec:
    return load(ImitateSpec, None, overrides, POCKET)


@pytest.mark.parametrize("tokens", [1, 8, 15])
def test_how_an_update_is_cut_changes_nothing(tokens: int) -> None:
    found: list[Weights] = []
    for size in (1000, tokens):
        model = tiny()
        student = Student(model, spec_of(f"micro_tokens={size}", "optimiser.lr=0.1"))
        student.optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        student.learn(BATCH)
        found.append(weights(model))
    assert distance(*found) < 1e-6
    assert distance(found[0], weights(tiny())) > 1e-4


def test_an_update_is_the_gradient_of_the_weighted_mean_over_tokens() -> None:
    model, oracle = tiny(), tiny()
    rate = 0.01
    student = Student(model, spec_of(f"optimiser.lr={rate}", "optimiser.max_grad_norm=1e9"))
    student.optimiser = torch.optim.SGD(model.parameters(), lr=rate)
    told = student.learn(BATCH)
    loss = torch.zeros(())
    for d in BATCH:
        labels = torch.tensor([[-100] * len(d.prompt) + list(d.reply)])
        ids = torch.tensor([[*d.prompt, *d.reply]])
        loss = loss + d.weight * len(d.reply) * oracle(input_ids=ids, labels=labels).loss
    loss = loss / (0.5 * 3 + 0.25 * 7 + 1.0 * 2 + 0.25)
    loss.backward()
    assert told["loss"] == told["nll"] == pytest.approx(float(loss.detach()), rel=1e-5)
    for own, other in zip(model.parameters(), oracle.parameters(), strict=True):
        assert torch.allclose(own, other - rate * other.grad, atol=1e-6)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 60))
def test_buckets_share_out_all_and_stay_within_bounds(lengths: list[int], tokens: int) -> None:
    batch = [demonstration([2], [3] * n, 1.0) for n in lengths]
    parts = list(buckets(batch, tokens))
    assert sorted(d.size for part in parts for d in part) == sorted(n + 1 for n in lengths)
    assert all(len(p) == 1 or len(p) * max(d.size for d in p) <= tokens for p in parts)


def test_the_rate_warms_up() -> None:
    student = Student(tiny(), spec_of("optimiser.lr=0.1", "optimiser.warmup_steps=4"))
    rates = []
    for _ in range(6):
        student.learn(BATCH)
        rates.append(student.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_weights_that_diverge_stop_with_a_sentence() -> None:
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight[3] = torch.nan
    with pytest.raises(BackendError, match=r"no finite gradient; lower optimiser\.lr"):
        Student(model, spec_of()).learn(BATCH)


def test_half_precision_is_close_and_keeps_its_weights_whole() -> None:
    told = []
    for precision in ("float32", "bfloat16"):
        model = tiny()
        told.append(Student(model, spec_of(f"precision={precision}")).learn(BATCH)["nll"])
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert told[0] != told[1]
    assert told[0] == pytest.approx(told[1], rel=0.02)


# the choice of replies ----------------------------------------------------------------------------


def rollout(
    text: str,
    correct: bool = True,
    mode: str | None = None,
    answer: str | None = None,
    finish: Any = "stop",
    task_id: str = "a",
) -> Rollout:
    score = Score(float(correct), correct, answer, mode)
    return Rollout(task_id, 0, "p", Completion(text, finish), score)


def texts(chosen: Sequence[Rollout]) -> list[str]:
    return [r.completion.text for r in chosen]


def test_only_right_and_whole_replies_are_learned_and_none_twice() -> None:
    seen = [
        rollout("wrong", correct=False),
        rollout("x"),
        rollout("cut", finish="length"),
        rollout("y"),
        rollout("x"),
        rollout("blocked", finish="content_filter"),
        rollout("x"),
    ]
    for source in (Rejection(path=NOWHERE), ExpertIteration(), Diverse()):
        assert [(r.completion.text, n) for r, n in select(source, seen)] == [("x", 1), ("y", 1)]
    distilled = select(Distil(path=NOWHERE), seen)
    assert [(r.completion.text, n) for r, n in distilled] == [("x", 3), ("y", 1)]
    assert all(r is seen[i] for (r, _), i in zip(distilled, (1, 3), strict=True))


def test_new_strategies_come_first_then_new_answers_then_the_rarest_strategy() -> None:
    pool = [
        rollout("1", mode="a", answer="p"),
        rollout("2", mode="a", answer="p"),
        rollout("3", mode="a", answer="q"),
        rollout("4", mode="b", answer="p"),
        rollout("5", mode="b", answer="p"),
        rollout("6", mode=None, answer="p"),
        rollout("7", mode="a", answer="r"),
    ]
    order = ["1", "4", "6", "3", "7", "5", "2"]
    for keep in range(1, 9):
        assert texts(spread(pool, keep)) == order[:keep]


replies = st.builds(
    rollout,
    text=st.sampled_from("uvwxyz"),
    correct=st.booleans(),
    mode=st.sampled_from(["a", "b", "c", None]),
    answer=st.sampled_from(["1", "2", None]),
    finish=st.sampled_from(["stop", "stop", "length"]),
    task_id=st.sampled_from(["a", "b", "c"]),
)
sources = st.sampled_from(
    [Rejection(path=NOWHERE), ExpertIteration(), Diverse(keep=2), Distil(path=NOWHERE)]
)


@given(st.lists(replies, max_size=12), st.integers(1, 6))
def test_what_is_spread_shows_as_many_strategies_as_it_can(pool: list[Rollout], keep: int) -> None:
    chosen = spread(pool, keep)
    assert len(chosen) == min(keep, len(pool))
    assert all(sum(r is c for c in chosen) <= sum(r is p for p in pool) for r in pool)
    modes = {r.score.mode for r in pool}
    assert len({r.score.mode for r in chosen}) == min(keep, len(modes))
    if keep >= len(modes) + len({r.score.answer for r in pool}):
        assert {r.score.answer for r in chosen} == {r.score.answer for r in pool}


@given(st.lists(replies, max_size=20), sources, st.booleans())
def test_the_replies_to_one_problem_weigh_one_together(
    pool: list[Rollout], source: Any, balance: bool
) -> None:
    """Though its rollouts stand in several groups, as those of several epochs do."""
    groups = [
        RolloutGroup(Task(r.task_id, f"{r.task_id}?", None, "d", "train"), (r,)) for r in pool
    ]
    spec = spec_of().model_copy(update={"source": source, "balance": balance})
    found = demonstrations(
        spec, groups, lambda task: (ord(task.task_id),), lambda r: (ord(r.completion.text), 0)
    )
    assert all(d.prompt == (ord(d.task.prompt[0]),) for d in found)
    assert all(d.reply == (ord(d.text), 0) for d in found)
    right = {
        (r.task_id, r.completion.text)
        for r in pool
        if r.score.correct and r.completion.finish_reason == "stop"
    }
    keys = [(d.task.task_id, d.text) for d in found]
    assert len(keys) == len(set(keys))
    assert set(keys) <= right
    if not isinstance(source, Diverse):
        assert set(keys) == right
    totals = Counter[str]()
    for d in found:
        totals[d.task.task_id] += d.weight
    assert set(totals) == {task_id for task_id, _ in right}
    if balance:
        assert all(total == pytest.approx(1) for total in totals.values())
    elif not isinstance(source, Distil):
        assert {d.weight for d in found} <= {1.0}


class Ends:
    def __init__(self, *ids: int | None) -> None:
        self.eos_token_id = ids[0] if len(ids) == 1 else list(ids)


def test_a_reply_ends_as_the_tokenizer_ends_a_turn() -> None:
    def model(*ids: int | None) -> Any:
        made = Ends()
        made.generation_config = Ends(*ids)
        return made

    assert end_token(model(7, 8, 9), Ends(9)) == (9,)
    assert end_token(model(7), Ends(9)) == (7,)
    assert end_token(model(None), Ends(9)) == (9,)
    assert end_token(model(None), Ends(None)) == ()


# the loop -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pocket() -> tuple[Any, Any]:
    torch.set_num_threads(1)
    return load_model(str(WEIGHTS), "cpu", "float32")


@pytest.fixture
def world(pocket: tuple[Any, Any]) -> World:
    tasks = ProceduralTasks(("product", "sort"))
    return World(
        model=deepcopy(pocket[0]),
        tokenizer=pocket[1],
        name="abacus",
        pack=PACK,
        tasks=tasks.tasks("train", 4, 0),
        grader=gold_grader(FamilyReward()),
    )


SMALL = ("sampling.max_tokens=40", "optimiser.lr=1e-3", "epochs=1")


def small(*overrides: str) -> ImitateSpec:
    return spec_of(*SMALL, *overrides)


def weights(model: Any) -> Weights:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def distance(a: Weights, b: Weights) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def learned(world: World, *texts: str, correct: bool = True) -> World:
    """The world with one recorded group for each task, of these texts."""
    groups = [
        RolloutGroup(task, tuple(rollout(t, correct, task_id=task.task_id) for t in texts))
        for task in world.tasks
    ]
    return replace(world, groups=groups)


def test_recorded_rollouts_are_learned_without_sampling(world: World) -> None:
    """The bare prompt is what they are learned for, and the reply ends with the end token."""
    told: list[Demonstration] = []
    spec = small("source=rejection:nowhere", "epochs=3")
    prepared = replace(learned(world, "Answer: 1", "Answer: 2"), grader=never, wrap=never)
    watch = Watch(on_group=never, on_demonstrations=lambda number, found: told.extend(found))
    records = list(imitate(spec, prepared, watch))
    assert [r.metrics["nll"] for r in records] == sorted(
        (r.metrics["nll"] for r in records), reverse=True
    )
    assert [(r.step, r.epoch) for r in records] == [(0, 0), (1, 1), (2, 2)]
    assert all(set(r.usage) == {"train"} for r in records)
    assert [sum(r.groups.values()) for r in records] == [4, 0, 0]
    assert records[0].metrics["accuracy"] == 1
    decode = world.tokenizer.decode
    for d in told:
        asked = PACK.render("solve", library="", question=d.task.prompt)[-1].content
        assert decode(d.prompt) == f"<|user|>{asked}<|assistant|>"
        assert decode(d.reply) == f"{d.text}<|end|>"
    assert len(told) == 8
    assert sum(r.usage["train"].prompt_tokens for r in records) == 3 * sum(d.size for d in told)


def never(*_: Any) -> Any:
    raise AssertionError("this must not be asked")


def test_wrong_rollouts_change_no_weight(world: World, pocket: tuple[Any, Any]) -> None:
    spec = small("source=rejection:nowhere")
    good = learned(world, "Answer: 1", "Answer: 2")
    list(imitate(spec, good))
    more = [
        replace(g, rollouts=(*g.rollouts, rollout("bad", False, task_id=g.task.task_id)))
        for g in good.groups
    ]
    other = replace(good, model=deepcopy(pocket[0]), groups=more)
    list(imitate(spec, other))
    assert distance(weights(good.model), weights(other.model)) == 0
    assert distance(weights(good.model), weights(pocket[0])) > 1e-4


def test_every_round_of_expert_iteration_trains_from_the_base(world: World) -> None:
    """But samples from the policy of the round before."""
    spec = small("source.rounds=3", "source.samples=4")
    base = weights(world.model)
    sampled_from: list[float] = []
    trained_from: list[float] = []
    learned: list[list[str]] = []

    def on_demonstrations(number: int, found: Sequence[Demonstration]) -> None:
        trained_from.append(distance(base, weights(world.model)))
        learned.append([d.text for d in found])

    def on_group(number: int, group: RolloutGroup) -> None:
        sampled_from.append(distance(base, weights(world.model)))

    seen = Watch(on_group, on_demonstrations)
    records = list(imitate(spec, world, seen))
    assert trained_from == [0, 0, 0]
    assert sampled_from[:4] == [0] * 4
    assert min(sampled_from[4:]) > 1e-4
    assert len(sampled_from) == 12
    assert [r.metrics["round"] for r in records] == [0, 1, 2]
    assert learned[0] != learned[1]
    assert distance(base, weights(world.model)) > 1e-4


def test_a_round_learns_what_it_sampled_token_by_token(world: World) -> None:
    """The rollouts are paid once, in the first record; the demonstrations are among them."""
    groups: list[RolloutGroup] = []
    found: list[Demonstration] = []
    spec = small("source={kind='diverse', samples=8, keep=2}", "epochs=2")
    watch = Watch(lambda _, g: groups.append(g), lambda _, d: found.extend(d))
    first, second = imitate(spec, world, watch)
    rolled = sum((r.completion.usage for g in groups for r in g.rollouts), Usage())
    assert first.usage["rollout"] == replace(rolled, seconds=0.0)
    assert "rollout" not in second.usage
    assert first.usage["train"] == second.usage["train"]
    assert first.metrics["flops"] > second.metrics["flops"] > 0
    sampled = {(r.task_id, r.completion.token_ids) for g in groups for r in g.rollouts}
    assert {(d.task.task_id, d.reply) for d in found} <= sampled
    assert all(d.reply[-1] == world.tokenizer.eos_token_id for d in found)
    per_problem = Counter(d.task.task_id for d in found)
    assert max(per_problem.values()) <= 2
    assert first.metrics["problems"] == len(per_problem)
    accuracy = sum(g.c for g in groups) / sum(g.n for g in groups)
    assert first.metrics["accuracy"] == accuracy == first.reward_mean


def steps(records: Sequence[StepRecord]) -> list[StepRecord]:
    def timeless(r: StepRecord) -> StepRecord:
        return replace(r, metrics={k: v for k, v in r.metrics.items() if k != "seconds"})

    return [timeless(r) for r in records]


def test_a_run_is_a_function_of_its_seed(world: World, pocket: tuple[Any, Any]) -> None:
    runs = []
    for seed in (3, 3, 4):
        own = replace(world, model=deepcopy(pocket[0]))
        spec = small("source.rounds=1", "source.samples=4", "batch_size=3", f"seed={seed}")
        torch.manual_seed(len(runs))
        runs.append((steps(list(imitate(spec, own))), weights(own.model)))
    assert runs[0][0] == runs[1][0]
    assert distance(runs[0][1], runs[1][1]) == 0
    assert runs[0][0] != runs[2][0]


BLOCK = "Lessons:\n[E1] For multiplying, take one digit after another."


def teach(chat: Any) -> BlockPolicy:
    return BlockPolicy(chat, PACK, BLOCK)


def test_context_is_distilled_without_gold(world: World) -> None:
    """The teacher's prompt has the block and the target's has not; nobody is asked who is right."""
    groups: list[RolloutGroup] = []
    found: list[Demonstration] = []
    asked: list[str] = []

    class Overheard(MeteredModel):
        async def complete(self, request: Any) -> Any:
            asked.append("".join(message.content for message in request.messages))
            return await super().complete(request)

    spec = small("source=distil:nowhere", "source.samples=6", "loss=gem")
    taught = replace(world, teacher=teach, grader=never, wrap=Overheard)
    watch = Watch(lambda _, g: groups.append(g), lambda _, d: found.extend(d))
    (record,) = imitate(spec, taught, watch)
    assert len(asked) == 4
    assert all(BLOCK in text for text in asked)
    assert all("Lessons" not in world.tokenizer.decode(d.prompt) for d in found)
    assert all(g.task.answer is None and not g.task.metadata for g in groups)
    assert "accuracy" not in record.metrics
    assert record.groups == {"unscored": 4}
    drawn = Counter(
        (r.task_id, r.completion.text)
        for g in groups
        for r in g.rollouts
        if r.completion.finish_reason == "stop"
    )
    totals = Counter(task_id for (task_id, _), n in drawn.items() for _ in range(n))
    expected = {key: n / totals[key[0]] for key, n in drawn.items()}
    assert {(d.task.task_id, d.text): d.weight for d in found} == pytest.approx(expected)
    assert max(drawn.values()) > 1


def test_distillation_of_right_replies_asks_the_grader(world: World) -> None:
    found: list[Demonstration] = []
    spec = small("source=distil:nowhere", "source.samples=6", "source.correct_only=true")
    watch = Watch(on_demonstrations=lambda _, d: found.extend(d))
    (record,) = imitate(spec, replace(world, teacher=teach), watch)
    assert 0 < record.metrics["accuracy"] < 1
    reward = FamilyReward()
    graded = [reward.score(d.task, d.text) for d in found]
    assert graded
    assert all(isinstance(score, Score) and score.correct for score in graded)


def test_nobody_graded_means_nothing_is_called_right() -> None:
    task = Task("t", "?", "1", "d", "train")
    assert take_all(task, ["a", "b"]) == [Score(0.0, True, None)] * 2


# what cannot be learned ---------------------------------------------------------------------------


def test_without_a_correct_reply_there_is_one_sentence(world: World) -> None:
    def wrong(task: Task, texts: Sequence[str]) -> list[Score]:
        return [Score(0.0, False, None) for _ in texts]

    with pytest.raises(ConfigError) as told:
        list(imitate(small("source.samples=2"), replace(world, grader=wrong)))
    assert str(told.value) == (
        "None of 8 replies is correct and complete, so there is nothing to learn; give easier "
        "problems, more samples or a larger sampling.max_tokens."
    )


def test_a_learning_run_that_solved_nothing_is_told(world: World) -> None:
    spec = small("source=rejection:nowhere")
    with pytest.raises(ConfigError, match="give a learning run that solved some problems"):
        list(imitate(spec, learned(world, "Answer: 1", correct=False)))


def test_the_first_failure_is_told(world: World) -> None:
    failed = FailedRollout("t", 0, "p", Failure("grading", "the verifier is down"))
    group = RolloutGroup(world.tasks[0], (), (failed,))
    with pytest.raises(ConfigError, match=r"\(1 failed, the first because: the verifier is down\)"):
        list(imitate(small("source=rejection:nowhere"), replace(world, groups=[group])))


def test_a_demonstration_longer_than_the_context_is_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="and the model's context 2048; choose another model"):
        list(imitate(small("source=rejection:nowhere"), learned(world, "1 " * 1100)))


def test_a_budget_stops_before_anything_is_trained(world: World) -> None:
    base = weights(world.model)
    meter = Meter(Budget(max_calls=2))
    metered = replace(world, wrap=lambda chat: MeteredModel(chat, meter))
    with pytest.raises(BudgetStop):
        list(imitate(small("source.samples=2"), metered))
    assert distance(base, weights(world.model)) == 0
