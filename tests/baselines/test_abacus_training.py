"""Pretraining, small: batches, interruption, export."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from baselines.abacus.batches import POOL, STRIDE, Batch, encode_all, pool_batches
from baselines.abacus.corpus import Document, draw_document, mixture_at
from baselines.abacus.train import Recipe, Trainer, learning_scale, train

RECIPE = Recipe(
    tokens=60_000, vocab_size=400, hidden=32, layers=1, heads=1, intermediate=64, replicas=1
)
STOPS = (5, 12)  # a checkpoint in the first pool and one in the second
LEFT = 8  # batches of the first pool that are left when the run begins


@dataclass
class Run:
    """An uninterrupted run, which left a checkpoint after each of `STOPS`."""

    trainer: Trainer
    start: int
    losses: list[float]
    weights: dict[str, torch.Tensor]
    checkpoints: dict[int, Path]


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("abacus")
    trainer = Trainer(RECIPE)
    pool = pool_batches(RECIPE.seed, 0, 0.0, trainer.tokenizer, RECIPE.batch_tokens)
    trainer.offset = start = len(pool) - LEFT
    losses, checkpoints = [], {}
    for progress in trainer.run(every=1):
        losses.append(progress.loss)
        if progress.step in STOPS:
            checkpoints[progress.step] = folder / f"{progress.step}.pt"
            trainer.save_checkpoint(checkpoints[progress.step])
    assert trainer.pool == 1
    return Run(trainer, start, losses, weights(trainer), checkpoints)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    rng = Random(0)
    return [draw_document(rng, mixture_at(0.1)) for _ in range(200)]


@pytest.fixture(scope="module")
def pool(run: Run) -> list[Batch]:
    return pool_batches(0, 3, 1.0, run.trainer.tokenizer, 3072)


# batches ------------------------------------------------------------------------------------------


def test_only_replies_are_learned_from(run: Run, pool: list[Batch]) -> None:
    """A row's targets are its reply, shifted by one, and nothing of the prompt."""
    tokenizer = run.trainer.tokenizer
    assert sum(len(batch.ids) for batch in pool) >= POOL
    for batch in pool:
        assert batch.ids.shape == batch.targets.shape
        assert batch.ids.shape[1] % STRIDE == 0
        for ids, targets in zip(batch.ids, batch.targets, strict=True):
            learned = (targets >= 0).nonzero()[0]
            if not len(learned):
                assert not ids.any()  # a row that only fills the shape
                continue
            first, last = learned[0], learned[-1]
            assert len(learned) == last - first + 1
            assert (targets[first : last + 1] == ids[first + 1 : last + 2]).all()
            assert ids[first] == tokenizer.convert_tokens_to_ids("<|assistant|>")
            assert targets[last] == tokenizer.eos_token_id
            assert not ids[last + 2 :].any()


def test_pools_are_a_pure_function_of_seed_and_number(run: Run, pool: list[Batch]) -> None:
    same, other = (pool_batches(0, n, 1.0, run.trainer.tokenizer, 3072) for n in (3, 4))
    assert [b.ids.tolist() for b in same] == [b.ids.tolist() for b in pool]
    assert [b.targets.tolist() for b in same] == [b.targets.tolist() for b in pool]
    assert [b.ids.tolist() for b in other] != [b.ids.tolist() for b in pool]


def test_every_digit_is_a_token(run: Run) -> None:
    tokens = run.trainer.tokenizer.tokenize("12345+678=13023")
    assert tokens == list("12345+678=13023")


def test_texts_survive_the_tokenizer(run: Run, documents: list[Document]) -> None:
    tokenizer = run.trainer.tokenizer
    for text in [*(d.reply for d in documents), "\u00e9\u4e2d \U0001f600\n  x"]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


# training -----------------------------------------------------------------------------------------


def test_the_loss_falls(run: Run) -> None:
    assert all(map(math.isfinite, run.losses))
    assert sum(run.losses[-3:]) < 0.9 * sum(run.losses[:3])
    assert run.trainer.progress == 1.0


@pytest.fixture(scope="module")
def other() -> Trainer:
    return Trainer(RECIPE)


@pytest.mark.parametrize("stop", STOPS)
def test_a_resumed_run_ends_in_the_same_weights(run: Run, other: Trainer, stop: int) -> None:
    """What was done after the last checkpoint is lost, and is done again alike."""
    other.load_checkpoint(run.checkpoints[stop])
    losses = [progress.loss for progress in other.run(every=1)]
    assert losses == run.losses[stop:]
    for name, tensor in weights(other).items():
        assert torch.equal(tensor, run.weights[name]), name


def test_a_checkpoint_is_written_whole_or_not_at_all(run: Run) -> None:
    for path in run.checkpoints.values():
        assert path.exists()
        assert not path.with_suffix(".partial").exists()


def test_the_learning_rate_warms_up_holds_and_decays() -> None:
    recipe = Recipe(warmup=0.1, decay=0.4)
    scales = [learning_scale(p, recipe) for p in (0.0, 0.05, 0.1, 0.3, 0.6, 0.8, 1.0)]
    assert scales == pytest.approx([0, 0.5, 1, 1, 1, 0.5, 0])


# export -------------------------------------------------------------------------------------------


def test_the_export_loads_and_its_template_is_the_one_trained_on(
    run: Run, documents: list[Document], tmp_path: Path
) -> None:
    run.trainer.export(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.float(), run.weights[name].bfloat16().float()), name
    assert model.dtype == torch.bfloat16
    assert tokenizer.eos_token_id == model.generation_config.eos_token_id

    for document, (row, head) in zip(
        documents, encode_all(documents, run.trainer.tokenizer), strict=True
    ):
        chat = [{"role": m.role, "content": m.content} for m in document.messages]
        answered = [*chat, {"role": "assistant", "content": document.reply}]
        assert ids_of(tokenizer, chat, add_generation_prompt=True) == row[:head]
        assert ids_of(tokenizer, answered) == row


def ids_of(tokenizer: Any, chat: list[dict[str, str]], **options: Any) -> list[int]:
    encoded = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True, **options)
    return list(encoded["input_ids"])


def test_exported_weights_give_the_logits_of_the_trained_ones(run: Run, tmp_path: Path) -> None:
    """Up to rounding to bfloat16."""
    run.trainer.export(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.tensor([run.trainer.tokenizer("12+34=46")["input_ids"]])
    with torch.no_grad():
        gap = model(ids).logits - run.trainer.model(ids).logits
    assert float(gap.abs().max()) < 0.1


def test_a_run_can_go_on_from_weights_in_the_later_curriculum(run: Run, tmp_path: Path) -> None:
    run.trainer.export(tmp_path)
    recipe = replace(RECIPE, seed=5, begin=0.5)
    again = Trainer(recipe, tokenizer=run.trainer.tokenizer, weights=tmp_path)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(w, exported[n].float()) for n, w in weights(again).items())
    assert again.progress_at_pool() == 0.5
    again.pool = 10**6
    assert again.progress_at_pool() == 1.0


@pytest.mark.slow
def test_processes_that_share_a_batch_leave_weights_and_a_log(tmp_path: Path) -> None:
    recipe = Recipe(
        tokens=20_000, vocab_size=400, hidden=32, layers=1, heads=1, intermediate=64, replicas=2
    )
    found = list(train(recipe, tmp_path))
    assert found[-1].tokens >= recipe.tokens
    assert math.isfinite(found[-1].loss)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(found)
    assert (tmp_path / "checkpoint.pt").exists()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "weights").num_parameters() > 0
