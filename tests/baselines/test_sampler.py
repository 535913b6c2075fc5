"""vLLM beside the trainer: it samples from the very weights that are trained, step by step."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from baselines.sampler import VllmSampler
from tests.baselines.test_trainer import WEIGHTS, spec_of, trainer_of
from tests.tfgrpo.llm.test_vllm_session import VLLM
from tfgrpo.errors import ConfigError

ROOT = Path(__file__).parents[2]


class Recorded:
    """The engine's side of a sampler: what checkpoint it is given."""

    def __init__(self, folder: str, dtype: str, options: dict[str, Any], name: str) -> None:
        self.made = (dtype, options, name)
        self.names: list[str] = []
        self.slept = self.closed = 0
        self.reload(folder, name)

    def reload(self, folder: str, name: str) -> None:
        self.names.append(name)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def sleep(self) -> None:
        self.slept += 1

    def close(self) -> None:
        self.closed += 1


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
@pytest.mark.parametrize("more", [(), ("lora={rank=4}",)], ids=["whole", "lora"])
def test_the_engine_gets_the_weights_that_are_trained(
    more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baselines.sampler.VllmChat", Recorded)
    trainer = trainer_of(spec_of("rloo", "vllm.options={max_model_len=512}", *more))
    sampler = trainer.sampler
    assert isinstance(sampler, VllmSampler)
    model = trainer.accelerator.unwrap_model(trainer.module).model
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    ids = torch.tensor([tokenizer("7*8=")["input_ids"]])
    before = model(ids).logits
    for step in range(2):
        drawn = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter += 0.02 * torch.randn(parameter.shape, generator=drawn)
            expected = model(ids).logits
        assert not torch.allclose(expected, before, atol=0.1)
        with sampler.serving(model, f"abacus@{step}") as chat:
            assert isinstance(chat, Recorded)
            assert torch.allclose(chat.model(ids).logits, expected, atol=1e-3)
            assert chat.tokenizer("7*8=")["input_ids"] == ids[0].tolist()
    assert chat.names == ["abacus@0", "abacus@1"]
    assert chat.made == ("float32", {"max_model_len": 512}, "abacus@0")
    folder = Path(sampler._folder.name)
    assert folder.is_dir()
    trainer.close()
    assert (chat.slept, chat.closed, folder.exists()) == (2, 1, False)


def test_weights_are_sent_in_the_precision_of_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baselines.sampler.VllmChat", Recorded)
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
    with torch.no_grad():
        model.model.norm.weight += 1e-4  # what bfloat16 cannot hold
    spec = spec_of("rloo", "precision='bfloat16'", "vllm={}")
    sampler = VllmSampler(spec, AutoTokenizer.from_pretrained(WEIGHTS))
    with sampler.serving(model, "abacus") as chat:
        assert isinstance(chat, Recorded)
        sent = chat.model.model.norm.weight
        assert torch.equal(sent, model.model.norm.weight.bfloat16().to(sent.dtype))
    sampler.close()


def test_without_vllm_the_extra_is_named() -> None:
    trainer = trainer_of(spec_of("rloo", "vllm={}"))
    with pytest.raises(ConfigError, match=r"pip install 'tfgrpo\[vllm\]'"):
        trainer.step()
    trainer.close()


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(VLLM), reason=f"set {VLLM} to the python of vLLM")
def test_real_vllm_samples_from_the_weights_of_each_step(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [os.environ[VLLM], "-m", "tests.baselines.vllm_training"],
        env=env | {"VLLM_CPU_KVCACHE_SPACE": "1"},
        cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    first, stale, told = (step["update_rollout_gap"] for step in json.loads(done.stdout))
    assert max(abs(first), abs(told)) < 1e-5
    assert abs(stale) > 1e-3
    assert all(math.isfinite(step["entropy"]) for step in json.loads(done.stdout))
