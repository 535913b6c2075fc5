"""Sparsity on planted weights, and replies scored by a model as it scores them itself."""

from __future__ import annotations

import math
from importlib.resources import files

import pytest
import torch

from baselines.claims.likelihood import score, within_base
from baselines.claims.stating import LEVELS, form_demonstrations, stating, teach
from baselines.claims.weights import sparse_updates, unmoved
from baselines.demonstrations import Demonstration
from baselines.imitation import World
from baselines.imitation_config import POCKET, ImitateSpec
from baselines.rewards import read_confidence
from tfgrpo.errors import ConfigError
from tfgrpo.llm.transformers_local import load as load_model
from tfgrpo.prompts import load_pack
from tfgrpo.rollout import gold_grader
from tfgrpo.seeding import derive_rng
from tfgrpo.settings import load
from tfgrpo.tasks.procedural import FamilyReward, ProceduralTasks

Weights = dict[str, torch.Tensor]


def planted() -> tuple[Weights, Weights]:
    """Of 60 weights of size 1 the first 10 move by 0.1, the next 5 by 1e-3, 5 by 1e-6."""
    before = {"a": torch.ones(4, 10), "b": torch.ones(20)}
    after = {name: value.clone() for name, value in before.items()}
    flat = after["a"].view(-1)
    flat[:10] += 0.1
    flat[10:15] += 1e-3
    flat[15:20] += 1e-6
    return before, after


def test_weights_that_moved_are_counted_in_the_stored_precision() -> None:
    before, after = planted()
    assert unmoved(before, after, torch.float32) == {"a": (25, 40), "b": (20, 20)}
    # bfloat16 has steps of 1/128 above 1, in which a thousandth is lost.
    assert unmoved(before, after, torch.bfloat16) == {"a": (30, 40), "b": (20, 20)}


def test_the_share_is_of_weights_and_not_of_tensors() -> None:
    before, after = planted()
    found = sparse_updates(before, [after, before], torch.bfloat16)
    assert found.value == pytest.approx((50 / 60 + 1) / 2)
    assert "of 60 weights in 2 tensors: 91.7% in bfloat16, 87.5% in float32" in found.detail
    assert found.detail.endswith("By seed: 0.8333, 1.")
    dense = {name: value + 1 for name, value in before.items()}
    assert sparse_updates(before, [dense], torch.float32).verdict == "not supported"


def test_weights_of_another_model_are_refused() -> None:
    before, after = planted()
    for other in ({"a": after["a"]}, {**after, "b": torch.ones(21)}):
        with pytest.raises(ConfigError, match="give the base's own"):
            sparse_updates(before, [other], torch.float32)


# likelihood ---------------------------------------------------------------------------------------


def test_replies_that_the_base_finds_likelier_lie_within_its_set() -> None:
    own = {f"p{i}": [(2.0, 10), (4.0 + i % 2, 10)] for i in range(40)}
    likely = {f"p{i}": [(1.0 + 0.1 * (i % 2), 10)] * 2 for i in range(40)}
    found = within_base(own, [likely, likely])
    assert found.value == pytest.approx(0.105 - (0.2 + 0.45) / 2)
    assert found.verdict == "supported"
    assert "100.0% of the tuned" in found.detail
    assert f"Perplexity under the base {math.exp(0.325):.3f}" in found.detail
    strange = {f"p{i}": [(9.0 + i % 2, 10)] for i in range(40)}
    far = within_base(own, [strange])
    assert far.verdict == "not supported"
    assert "; 0.0% of the tuned" in far.detail


@pytest.fixture(scope="module")
def world() -> World:
    torch.set_num_threads(1)
    model, tokenizer = load_model(str(files("baselines.abacus") / "weights"), "cpu", "float32")
    return World(
        model=model,
        tokenizer=tokenizer,
        name="abacus",
        pack=load_pack("abacus"),
        tasks=ProceduralTasks(("sum", "countdown")).tasks("train", 4, 0),
        grader=gold_grader(FamilyReward()),
    )


def test_scores_are_the_models_own_and_stand_in_the_given_order(world: World) -> None:
    replies = [
        Demonstration(world.tasks[0], prompt, reply, "", None, None, 1.0)
        for prompt, reply in (((7, 8), (20, 21, 22)), ((9,), (30,)), ((7, 8, 9, 10), (5, 6)))
    ]
    found = score(world.model, replies, micro_tokens=6)
    for (nats, tokens), given in zip(found, replies, strict=True):
        ids = torch.tensor([[*given.prompt, *given.reply]])
        with torch.no_grad():
            lp = world.model(input_ids=ids).logits[0].log_softmax(-1)
        at = range(len(given.prompt), given.size)
        assert nats == pytest.approx(-sum(float(lp[i - 1, ids[0, i]]) for i in at), rel=1e-4)
        assert tokens == len(given.reply)


# stating a confidence -----------------------------------------------------------------------------


def test_what_is_stated_is_read_and_the_answer_stays() -> None:
    reader, rng = FamilyReward(), derive_rng(0, "test")
    (task,) = ProceduralTasks(("sum",)).tasks("train", 1, 0)
    said = [stating("12+7=19\nAnswer: 19", rng) for _ in range(300)]
    stated = [read_confidence(text) for text in said]
    assert set(stated) == {level / 10 for level in LEVELS}
    assert {reader.read(task, text) for text in said} == {"19"}


def test_the_form_is_learned(world: World) -> None:
    spec = load(ImitateSpec, None, ["epochs=2", "optimiser.lr=1e-3", "batch_size=4"], POCKET)
    replies = [(task, ["Answer: 1", "Answer: 2"]) for task in world.tasks]
    learned = form_demonstrations(world, replies, seed=0)
    assert [d.text for d in form_demonstrations(world, replies, 0)] == [d.text for d in learned]
    assert len(learned) == 8
    assert all(d.reply[-1] == world.tokenizer.eos_token_id for d in learned)
    first, second = teach(spec, world, learned)
    assert second["nll"] < first["nll"]
