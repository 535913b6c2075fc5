"""The trainer on the pocket model: however a run is cut, stopped or shared, its result is one."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch

from baselines.config import TrainSpec
from baselines.methods import POCKET, method
from baselines.trainer import Trainer, World
from tfgrpo.errors import BackendError, BudgetStop, ConfigError, GradingError
from tfgrpo.llm.meter import Budget, Meter, MeteredModel
from tfgrpo.llm.transformers_local import TransformersChat
from tfgrpo.llm.transformers_local import load as load_model
from tfgrpo.prompts import load_pack
from tfgrpo.protocols import ChatModel
from tfgrpo.rollout import Grader, gold_grader
from tfgrpo.settings import load, merged
from tfgrpo.tasks.procedural import FamilyReward, ProceduralTasks
from tfgrpo.types import Failure, Score

WEIGHTS = Path(str(files("baselines.abacus") / "weights"))
SMALL: Mapping[str, Any] = {
    "tasks": {"kind": "procedural", "families": ["product", "sort"]},
    "steps": 2, "prompts": 4, "group_size": 4, "train_limit": 12, "sampling": {"max_tokens": 40},
    "optimiser": {"lr": 1e-3},
}  # fmt: skip

Weights = dict[str, torch.Tensor]


def spec_of(name: str, *overrides: str) -> TrainSpec:
    table = merged(merged(POCKET, SMALL), {**method(name).settings, "method": name})
    return load(TrainSpec, None, overrides, table)


def trainer_of(spec: TrainSpec, **changes: Any) -> Trainer:
    torch.set_num_threads(1)
    model, tokenizer = load_model(str(WEIGHTS), "cpu", "float32")
    tasks = ProceduralTasks(("product", "sort"))
    world = World(
        model=model,
        tokenizer=tokenizer,
        name="abacus",
        pack=load_pack("abacus"),
        tasks=tasks.tasks("train", spec.train_limit, 0),
        probe=tasks.tasks("dev", 2, 0),
        grader=gold_grader(FamilyReward()),
    )
    return Trainer(spec, replace(world, **changes))


def weights(trainer: Trainer) -> Weights:
    module = trainer.accelerator.unwrap_model(trainer.module)
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def distance(a: Weights, b: Weights) -> float:
    return max(float((a[name] - b[name]).detach().abs().max()) for name in a)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("grpo", ()),
        ("clip-cov", ("objective.dropping.share=0.05", "objective.dropping.low=0.1")),
        ("kl-cov", ("objective.surrogate.share=0.05",)),
        ("high-entropy", ()),
        ("entropy-shaped", ()),
        ("kl", ()),
        ("adaptive-entropy", ("objective.terms=[{kind='adaptive_entropy', low=0.01}]",)),
        ("gspo", ()),
        ("nft", ("keep='all'",)),
    ],
)
def test_how_a_minibatch_is_cut_changes_nothing(name: str, more: tuple[str, ...]) -> None:
    """Selections and divisors are of the whole mini-batch, whatever fits into one pass.

    Plain gradient descent, because Adam would turn rounding in a tiny gradient into a whole step.
    """
    found = []
    for tokens in (100_000, 200):
        spec = spec_of(name, "minibatches=2", "steps=1", f"micro_tokens={tokens}", *more)
        trainer = trainer_of(spec)
        rate = 0.1
        plain = torch.optim.SGD(trainer.module.parameters(), lr=rate)
        trainer.optimiser = trainer.accelerator.prepare(plain)
        trainer.spec = replace_lr(spec, rate)
        record = next(trainer.run())
        found.append((weights(trainer), record.metrics))
    assert distance(found[0][0], found[1][0]) < 1e-5
    for key in ("update_entropy", "dropped_tokens", "penalised_tokens"):
        assert found[0][1][key] == pytest.approx(found[1][1][key], rel=1e-4)
    assert distance(found[0][0], weights(trainer_of(spec))) > 1e-4


def replace_lr(spec: TrainSpec, rate: float) -> TrainSpec:
    return spec.model_copy(
        update={"optimiser": spec.optimiser.model_copy(update={"lr": rate, "max_grad_norm": 1e9})}
    )


@pytest.mark.parametrize("name", ["rloo", "repo-d"])
def test_a_resumed_run_has_the_parameters_of_one_that_never_stopped(
    name: str, tmp_path: Path
) -> None:
    spec = spec_of(name, "steps=3")
    whole = trainer_of(spec)
    rows = [record.metrics["entropy"] for record in whole.run()]

    first = trainer_of(spec)
    first.step()
    first.save(tmp_path / "state")
    second = trainer_of(spec)
    second.load(tmp_path / "state")
    assert second.position.step == 1
    again = [record.metrics["entropy"] for record in second.run()]
    assert again == rows[1:]
    assert distance(weights(whole), weights(second)) == 0
    assert second.controllers.state_dict() == whole.controllers.state_dict()


def test_with_one_update_the_samplers_log_probabilities_are_the_trainers() -> None:
    record = trainer_of(spec_of("rloo", "steps=1")).step()
    assert record.metrics["update_rollout_gap"] < 1e-5
    assert record.metrics["update_kl_old"] == 0
    assert record.metrics["update_entropy"] > 0


def test_groups_without_spread_cost_no_update() -> None:
    def all_right(task: Any, texts: Any) -> list[Score]:
        return [Score(1.0, True, "1") for _ in texts]

    trainer = trainer_of(spec_of("rloo", "steps=1"), grader=all_right)
    before = weights(trainer)
    record = trainer.step()
    assert distance(before, weights(trainer)) == 0
    assert record.usage["train"].prompt_tokens == 0
    assert record.groups == {"all_pass": 4}


def test_refilled_groups_are_informative_and_all_rollouts_are_paid() -> None:
    record = trainer_of(spec_of("dapo", "steps=1")).step()
    assert sum(record.groups.values()) > 4
    assert record.metrics["flops"] > 0
    sampled = 4 * sum(record.groups.values())
    plain = trainer_of(spec_of("grpo", "steps=1")).step()
    assert record.usage["rollout"].completion_tokens > plain.usage["rollout"].completion_tokens
    assert sampled > 16


def test_what_is_exported_is_an_ordinary_model(tmp_path: Path) -> None:
    trainer = trainer_of(spec_of("rloo", "steps=1"))
    trainer.step()
    trainer.export(tmp_path / "weights")
    model, tokenizer = load_model(str(tmp_path / "weights"), "cpu", "float32")
    own = trainer.accelerator.unwrap_model(trainer.module).model
    assert distance(dict(model.named_parameters()), dict(own.named_parameters())) == 0
    assert tokenizer.chat_template


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
def test_adapters_leave_the_base_alone_and_are_merged_on_export(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    trainer = trainer_of(spec_of("rloo", "steps=1", "lora={rank=4, alpha=8}"))
    before = weights(trainer)
    trainer.step()
    after = weights(trainer)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    trainer.export(tmp_path / "weights")
    merged_model, _ = load_model(str(tmp_path / "weights"), "cpu", "float32")
    base, _ = load_model(str(WEIGHTS), "cpu", "float32")
    assert distance(dict(merged_model.named_parameters()), dict(base.named_parameters())) > 0


def test_the_probe_is_the_same_problems_every_time() -> None:
    trainer = trainer_of(spec_of("rloo", "steps=1", "probe={every=1, limit=2, n=4}"))
    metrics = trainer.step().metrics
    assert 0 <= metrics["probe_pass@1"] <= metrics["probe_pass@4"] <= 1


def test_checkpointing_activations_changes_no_gradient() -> None:
    plain = trainer_of(spec_of("rloo", "steps=1"))
    saving = trainer_of(spec_of("rloo", "steps=1", "gradient_checkpointing=true"))
    plain.step()
    saving.step()
    assert distance(weights(plain), weights(saving)) < 1e-5


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_stops_with_a_sentence(reward: float) -> None:
    def broken(task: Any, texts: Any) -> list[Score]:
        return [Score(reward, False, None) for _ in texts]

    with pytest.raises(GradingError, match="return a finite number"):
        trainer_of(spec_of("rloo"), grader=broken).step()


def test_partial_rewards_are_refused_by_what_is_defined_on_0_and_1() -> None:
    def partly(task: Any, texts: Any) -> list[Score]:
        return [Score(0.5, False, None) for _ in texts]

    with pytest.raises(GradingError, match="MaxRl is not defined for; choose grpo"):
        trainer_of(spec_of("maxrl"), grader=partly).step()


def test_a_verifier_that_always_breaks_stops_the_step() -> None:
    def down(task: Any, texts: Any) -> list[Failure]:
        return [Failure("grading", "down") for _ in texts]

    with pytest.raises(BackendError, match="look at the failures"):
        trainer_of(spec_of("rloo"), grader=down).step()


def test_prompts_longer_than_the_context_are_refused_before_any_rollout() -> None:
    def never(task: Any, texts: Any) -> list[Score]:
        raise AssertionError("nothing may be sampled")

    grader: Grader = never
    with pytest.raises(ConfigError, match=r"exceeds the model's context of 2048; lower"):
        trainer_of(spec_of("rloo", "sampling.max_tokens=2040"), grader=grader)


def test_a_budget_stops_between_steps_and_the_step_can_be_made_again() -> None:
    meter = Meter(Budget(max_calls=4))
    trainer = trainer_of(spec_of("rloo"), wrap=lambda chat: MeteredModel(chat, meter))
    trainer.step()
    position = trainer.position.state_dict()
    with pytest.raises(BudgetStop):
        trainer.step()
    assert trainer.position.state_dict() == position


def test_the_sampler_and_its_caches_end_before_the_updates() -> None:
    ended: list[weakref.ref[Any]] = []

    def wrap(chat: ChatModel) -> ChatModel:
        assert isinstance(chat, TransformersChat)
        ended.extend([weakref.ref(chat), weakref.ref(chat._worker.engine)])
        return chat

    trainer = trainer_of(spec_of("rloo"), wrap=wrap)
    gc.disable()
    try:
        trainer._rollouts(0)
        assert [sampler() for sampler in ended] == [None, None]
    finally:
        gc.enable()
