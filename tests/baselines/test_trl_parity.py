"""Losses and gradients against TRL's `GRPOTrainer`, where TRL is installed (`trl>=1.10,<2`).

Weights are float64; both sides take the head's log-probabilities in float32, which is what bounds
the agreement. TRL pads prompts on the left and we do not, so the alignment is tested as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.batch import TokenBatch, padded
from baselines.logprobs import ReplyModel
from baselines.objective.controllers import Controllers
from baselines.objective.loss import objective_loss
from baselines.objective.plan import Scan, make_plan
from baselines.objective.spec import ObjectiveSpec

pytest.importorskip("trl")

# TRL warns of its dependencies' deprecations, which are not ours to mend.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

WEIGHTS = Path(str(files("baselines.abacus") / "weights"))
VOCABULARY, MAX_TOKENS, TEMPERATURE = 24, 11, 0.8
TOLERANCE = 1e-6
Table = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """TRL's settings and ours for one objective."""

    theirs: Table
    ours: Table


def clip(**bounds: float) -> Table:
    return {"surrogate": {"kind": "ppo_clip", **bounds}}


SEQUENCE: Table = {"aggregation": {"kind": "sequence_mean"}}
HIGHER: Table = {"epsilon": 0.2, "epsilon_high": 0.28}
CASES: Mapping[str, Case] = {
    "grpo": Case({"loss_type": "grpo"}, SEQUENCE),
    "bnpo": Case({"loss_type": "bnpo"}, {}),
    "dapo": Case({"loss_type": "dapo"}, {}),
    "dr-grpo": Case({"loss_type": "dr_grpo"}, {"aggregation": {"kind": "constant"}}),
    "clip-higher": Case({"loss_type": "dapo", **HIGHER}, clip(low=0.2, high=0.28)),
    "two-sided": Case(
        {"loss_type": "dapo", **HIGHER, "delta": 1.5}, clip(low=0.2, high=0.28, dual=1.5)
    ),
    "gspo": Case(
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon": 0.05,
            "epsilon_high": 0.07,
        },
        {"ratio": "sequence", **clip(low=0.05, high=0.07), **SEQUENCE},
    ),
    "cispo": Case(
        {"loss_type": "cispo", "epsilon_high": 1.28}, {"surrogate": {"kind": "cispo", "cap": 1.28}}
    ),
    "kl": Case(
        {"loss_type": "bnpo", "beta": 0.3, "use_bias_correction_kl": False},
        {"terms": [{"kind": "kl", "estimator": "k3", "coefficient": 0.3}]},
    ),
    "kl-corrected": Case(
        {"loss_type": "grpo", "beta": 0.3, "use_bias_correction_kl": True},
        {"terms": [{"kind": "kl", "estimator": "k3_is", "coefficient": 0.3}], **SEQUENCE},
    ),
    "entropy-bonus": Case(
        {"loss_type": "dapo", "entropy_coef": 0.2},
        {"terms": [{"kind": "entropy_bonus", "coefficient": 0.2}]},
    ),
    "high-entropy": Case(
        {"loss_type": "dapo", "top_entropy_quantile": 0.4},
        {"masks": [{"kind": "high_entropy", "share": 0.4, "norm": "all"}]},
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama in a folder, because TRL loads its reference model from there."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    path = tmp_path_factory.mktemp("parity")
    LlamaForCausalLM(config).double().save_pretrained(path / "model")
    AutoTokenizer.from_pretrained(WEIGHTS).save_pretrained(path / "model")
    return path


def trainer_of(folder: Path, settings: Table) -> Any:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float64)
    config = GRPOConfig(
        str(folder / "run"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=6,
        num_generations=3,
        max_completion_length=MAX_TOKENS,
        temperature=TEMPERATURE,
        report_to="none",
        **settings,
    )
    trainer = GRPOTrainer(
        model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["1+1", "2+2"]}),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
    )
    trainer.current_gradient_accumulation_steps = 1  # what `train` would set
    return trainer


def batch_of(module: ReplyModel) -> TokenBatch:
    """Two groups of three, unequal prompts and replies, one reply masked as a whole.

    The old policy and the reference are the current one with noise.
    """
    generator = torch.Generator().manual_seed(1)

    def tokens(count: int) -> list[int]:
        return torch.randint(VOCABULARY, (count,), generator=generator).tolist()

    prompts = [tokens(4)] * 3 + [tokens(7)] * 3
    replies = [tokens(count) for count in (5, 8, 11, 3, 11, 6)]
    learned = [True, True, True, True, False, True]
    empty = torch.zeros(len(replies), MAX_TOKENS)
    batch = TokenBatch(
        ids=padded([p + r for p, r in zip(prompts, replies, strict=True)], torch.int64),
        prompt=torch.tensor([len(p) for p in prompts]),
        targets=padded(replies, torch.int64),
        mask=padded([[on] * len(r) for r, on in zip(replies, learned, strict=True)], torch.bool),
        group=torch.tensor([0, 0, 0, 1, 1, 1]),
        rewards=torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64),
        correct=torch.tensor([True, False, False, True, True, False]),
        advantages=torch.tensor([1.3, -0.6, -0.7, 0.4, 0.5, -0.9]),
        logp_rollout=empty,
        entropy_rollout=empty,
    )
    with torch.no_grad():
        lp, _ = module(batch)
    noise = torch.randn(2, *lp.shape, generator=generator)
    return replace(batch, logp_old=lp + 0.4 * noise[0], logp_ref=lp + 0.4 * noise[1])


def inputs_of(batch: TokenBatch) -> dict[str, Tensor]:
    """The batch as TRL has it: prompts padded on the left, replies on the right."""
    assert batch.logp_old is not None
    assert batch.logp_ref is not None
    wide = int(batch.prompt.max())
    prompt_ids = torch.zeros(len(batch), wide, dtype=torch.int64)
    prompt_mask = torch.zeros_like(prompt_ids)
    for row, length in enumerate(batch.prompt.tolist()):
        prompt_ids[row, wide - length :] = batch.ids[row, :length]
        prompt_mask[row, wide - length :] = 1
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": batch.targets,
        "completion_mask": batch.mask.long(),
        "advantages": batch.advantages,
        "old_per_token_logps": batch.logp_old,
        "ref_per_token_logps": batch.logp_ref,
        "num_items_in_batch": batch.mask.sum(),
    }


def gradient_of(model: Any, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def our_loss(spec: ObjectiveSpec, module: ReplyModel, batch: TokenBatch) -> Tensor:
    with torch.no_grad():
        scan = Scan(*module(batch))
    plan = make_plan(spec, batch, scan, Controllers(spec), torch.Generator(), MAX_TOKENS)
    lp, H = module(batch, entropy_gradient=bool(plan.bonus))
    return objective_loss(spec, batch, plan, lp, H)[0]


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_those_of_trl(name: str, folder: Path) -> None:
    case = CASES[name]
    trainer = trainer_of(folder, case.theirs)
    model = trainer.model.train()
    module = ReplyModel(model, TEMPERATURE)
    batch = batch_of(module)

    theirs = trainer._compute_loss(model, inputs_of(batch))
    expected = gradient_of(model, theirs)
    ours = our_loss(ObjectiveSpec.model_validate(case.ours), module, batch)
    found = gradient_of(model, ours)
    assert ours.item() == pytest.approx(theirs.item(), rel=TOLERANCE)
    assert float((found - expected).norm()) < TOLERANCE * float(expected.norm())


def test_the_batch_tells_the_objectives_apart(folder: Path) -> None:
    """Every clip, bound and term acts on it; only bnpo and dapo are one on a single micro-batch."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float64)
    module = ReplyModel(model, TEMPERATURE)
    batch = batch_of(module)
    specs = (ObjectiveSpec.model_validate(case.ours) for case in CASES.values())
    losses = sorted(our_loss(spec, module, batch).item() for spec in specs)
    gaps = [b - a for a, b in pairwise(losses)]
    assert sorted(gap > 1e-4 for gap in gaps) == [False] + [True] * (len(gaps) - 1)
