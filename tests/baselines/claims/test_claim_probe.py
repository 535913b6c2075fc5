"""The probe on the pocket model: its numbers are the model's own."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
import torch

from baselines.claims.probe import _drawn, _logits, measure
from baselines.claims.tokens import PASSES, covariance_identity
from baselines.config import TrainSpec
from baselines.logprobs import ReplyModel
from baselines.methods import pocket
from baselines.trainer import World
from tfgrpo.errors import ConfigError
from tfgrpo.llm.transformers_local import load as load_model
from tfgrpo.prompts import load_pack
from tfgrpo.rollout import gold_grader
from tfgrpo.settings import load
from tfgrpo.tasks.procedural import FamilyReward, ProceduralTasks

SMALL = (
    "prompts=2", "group_size=4", "minibatches=2", "sampling.max_tokens=30", "train_limit=2",
    "micro_tokens=300",
)  # fmt: skip


def spec_of(name: str, *more: str) -> TrainSpec:
    return load(TrainSpec, None, [*SMALL, *more], {**pocket(name), "method": name})


def world() -> World:
    torch.set_num_threads(1)
    model, tokenizer = load_model(str(files("baselines.abacus") / "weights"), "cpu", "float32")
    return World(
        model=model,
        tokenizer=tokenizer,
        name="abacus",
        pack=load_pack("abacus"),
        tasks=ProceduralTasks(("product", "sort")).tasks("train", 2, 0),
        probe=(),
        grader=gold_grader(FamilyReward()),
    )


def test_a_probe_of_the_pocket_model() -> None:
    spec = spec_of("grpo", "optimiser.lr=3e-4")
    probe = measure(spec, world())
    tokens = len(probe.group)
    assert set(probe.group.tolist()) == {0, 1}
    assert probe.passed == PASSES * tokens
    assert probe.at.tolist() == list(range(tokens))  # few enough to take all
    gaps = [np.abs(lp - probe.sampled) for lp in (probe.bfloat16, probe.float16)]
    assert 0 < gaps[1].mean() < gaps[0].mean() < 0.05
    assert covariance_identity([probe]).value == pytest.approx(1, abs=0.25)
    assert set(probe.clip_upper.tolist()) == {0, 1}
    upper = probe.clip_probability[probe.clip_upper == 1]
    assert (upper < 1 / 1.2 + 1e-6).all()  # a ratio above 1.2 leaves room for no more
    again = measure(spec, world())
    assert np.array_equal(again.measured, probe.measured)
    assert np.array_equal(again.clip_probability, probe.clip_probability)


def test_logits_at_chosen_tokens_are_those_of_whole_rows() -> None:
    spec, own = spec_of("grpo"), world()
    batch = _drawn(spec, own)
    module = ReplyModel(own.model, 2.0)
    rows, columns = batch.mask.nonzero(as_tuple=True)
    at = torch.arange(1, len(rows), 7)
    found = _logits(module, batch, spec, at)
    with torch.no_grad():
        whole = own.model(input_ids=batch.ids).logits
    expected = whole[rows[at], batch.prompt[rows[at]] + columns[at] - 1] / 2.0
    assert found == pytest.approx(expected.numpy(), abs=1e-3)


def test_a_method_without_a_clip_is_refused() -> None:
    with pytest.raises(ConfigError, match="use grpo"):
        measure(spec_of("rloo"), world())
