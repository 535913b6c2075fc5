"""Log-probabilities and entropies of reply tokens are those of the model's full logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    PhiConfig,
    PretrainedConfig,
)

from baselines import logprobs
from baselines.batch import TokenBatch
from baselines.logprobs import ReplyModel, TokenStats, check_head, decoder_of, token_stats
from tests.baselines.objective.cases import f64, random_batch
from tfgrpo.errors import ConfigError

VOCABULARY = 11
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "initializer_range": 0.5, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


def tiny(config: PretrainedConfig | None = None) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config or LlamaConfig(**SIZES)).eval()


def full(model: Any, batch: TokenBatch, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """(lp, H) of the reply tokens from log_softmax over all of the model's own logits."""
    logp = (model(input_ids=batch.ids, use_cache=False).logits / temperature).log_softmax(-1)
    lp, H = torch.zeros(batch.mask.shape), torch.zeros(batch.mask.shape)
    for row, column in batch.mask.nonzero().tolist():
        at = logp[row, int(batch.prompt[row]) + column - 1]
        lp[row, column] = at[batch.targets[row, column]]
        H[row, column] = -(at.exp() * at).sum()
    return lp, H


def gradients(model: Any, of: Callable[[], tuple[Tensor, Tensor]], entropy: float) -> list[Tensor]:
    """The gradient by every weight of some mixture of lp and `entropy` times H."""
    model.zero_grad()
    lp, H = of()
    mix = torch.linspace(-1, 1, lp.numel()).view_as(lp)
    ((lp * mix).sum() + entropy * (H * mix.flip(0)).sum()).backward()
    return [p.grad.clone() for p in model.parameters()]


@pytest.fixture
def model() -> Any:
    return tiny()


@pytest.fixture
def batch() -> TokenBatch:
    return random_batch()


# the reply model ------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [2048, 5, 1])
def test_reply_statistics_are_those_of_the_full_logits(
    model: Any, batch: TokenBatch, chunk: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs, "CHUNK", chunk)
    lp, H = ReplyModel(model, temperature)(batch)
    expected = full(model, batch, temperature)
    assert lp.dtype == H.dtype == torch.float32
    assert torch.allclose(lp, expected[0], atol=1e-5)
    assert torch.allclose(H, expected[1], atol=1e-5)
    assert (lp[~batch.mask] == 0).all()
    assert (H[~batch.mask] == 0).all()
    assert (lp[batch.mask] < 0).all()


@pytest.mark.parametrize("entropy", [0.0, 0.5])
@pytest.mark.parametrize("chunk", [2048, 5])
def test_gradients_are_those_of_the_full_logits(
    model: Any, batch: TokenBatch, chunk: int, entropy: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs, "CHUNK", chunk)
    module = ReplyModel(model, 0.8)
    found = gradients(model, lambda: module(batch, entropy_gradient=True), entropy)
    expected = gradients(model, lambda: full(model, batch, 0.8), entropy)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
    assert any((gradient != 0).any() for gradient in found)


def test_the_entropy_has_a_gradient_only_where_it_is_asked_for(
    model: Any, batch: TokenBatch
) -> None:
    module = ReplyModel(model)
    silent = gradients(model, lambda: module(batch), 1e3)
    plain = gradients(model, lambda: module(batch, entropy_gradient=True), 0.0)
    loud = gradients(model, lambda: module(batch, entropy_gradient=True), 1e3)
    for without, reference, with_ in zip(silent, plain, loud, strict=True):
        assert torch.allclose(without, reference, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(with_, reference, rtol=1e-2)
    with torch.no_grad():
        lp, H = module(batch, entropy_gradient=True)
    assert not lp.requires_grad
    assert not H.requires_grad


def test_what_padding_holds_does_not_matter_to_the_model(model: Any, batch: TokenBatch) -> None:
    module = ReplyModel(model)
    behind = torch.arange(batch.ids.shape[1]) >= batch.sizes[:, None]
    dirty = replace(
        batch,
        ids=torch.where(behind, VOCABULARY - 1, batch.ids),
        targets=torch.where(batch.mask, batch.targets, VOCABULARY - 1),
    )
    assert behind.any()
    for ours, theirs in zip(module(batch), module(dirty), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_rows_alone_are_rows_together(model: Any, batch: TokenBatch) -> None:
    module = ReplyModel(model)
    together = module(batch)
    for i in range(len(batch)):
        part = batch.rows(torch.tensor([i]))
        width = part.mask.shape[1]
        for one, all_ in zip(module(part), together, strict=True):
            assert torch.allclose(one[0], all_[i, :width], atol=1e-5)


def test_replies_without_tokens_are_no_trouble(model: Any, batch: TokenBatch) -> None:
    empty = replace(batch, mask=torch.zeros_like(batch.mask))
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            for found in ReplyModel(model)(empty):
                assert torch.equal(found, torch.zeros(batch.mask.shape))


def test_a_head_with_a_bias_counts(batch: TokenBatch) -> None:
    model = tiny(PhiConfig(**SIZES))
    torch.nn.init.normal_(model.lm_head.bias)
    lp, H = ReplyModel(model)(batch)
    expected = full(model, batch)
    assert torch.allclose(lp, expected[0], atol=1e-5)
    assert torch.allclose(H, expected[1], atol=1e-5)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_adapters_are_seen_through(batch: TokenBatch) -> None:
    peft = pytest.importorskip("peft")
    settings = {"r": 2, "target_modules": ["q_proj"], "init_lora_weights": False}
    adapted = peft.get_peft_model(tiny(), peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    lp, _ = ReplyModel(adapted)(batch)
    assert torch.allclose(lp, full(adapted, batch)[0], atol=1e-5)
    assert not torch.allclose(lp, full(tiny(), batch)[0], atol=1e-2)
    assert decoder_of(adapted) is adapted.get_base_model().model


def test_the_decoder_is_what_lies_below_the_head(model: Any) -> None:
    assert decoder_of(model) is model.model


# one chunk ------------------------------------------------------------------------------------

Z = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0], [300.0, -300.0, 0.0]])
Y = torch.tensor([0, 1, 0])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_token_statistics(temperature: float) -> None:
    lp, H = token_stats(Z, Y, temperature, False)
    expected = (Z.double() / temperature).log_softmax(-1)
    p = expected.exp()
    assert lp.tolist() == pytest.approx(expected[torch.arange(3), Y].tolist(), abs=1e-5)
    assert H.tolist() == pytest.approx((-(p * expected)).sum(-1).tolist(), abs=1e-4)
    assert float(H[1]) == pytest.approx(float(f64(3.0).log()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_of_half_precision_are_lifted_first(dtype: torch.dtype) -> None:
    half = (Z[:2] + 0.123).to(dtype)
    lp, H = token_stats(half, Y[:2], 0.7, False)
    exact = token_stats(half.float(), Y[:2], 0.7, False)
    assert lp.dtype == H.dtype == torch.float32
    assert torch.equal(lp, exact[0])
    assert torch.equal(H, exact[1])


def test_the_gradient_of_the_entropy() -> None:
    """dH/dz_a = -p_a (log p_a + H)."""
    z = Z[:2].clone().requires_grad_()
    H = token_stats(z, Y[:2], 1.0, True)[1]
    found = torch.autograd.grad(H.sum(), z)[0]
    logp = Z[:2].log_softmax(-1)
    assert torch.allclose(found, -logp.exp() * (logp + H.detach()[:, None]), atol=1e-6)


def test_the_gradient_of_the_log_probability() -> None:
    z = Z.clone().requires_grad_()
    lp, H = token_stats(z, Y, 1.0, False)
    assert not H.requires_grad
    found = torch.autograd.grad(lp.sum(), z)[0]
    assert torch.allclose(found, torch.eye(3)[Y] - Z.softmax(-1), atol=1e-6)


@pytest.mark.parametrize("entropy_gradient", [True, False])
def test_the_written_gradients_are_those_of_finite_differences(entropy_gradient: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(5, 7, generator=generator, dtype=torch.float64) * 3
    targets = torch.tensor([0, 6, 3, 3, 1])

    def stats(z: Tensor) -> tuple[Tensor, ...]:
        lp, H = TokenStats.apply(z, targets, entropy_gradient)  # type: ignore[no-untyped-call]
        return (lp, H) if entropy_gradient else (lp,)

    assert torch.autograd.gradcheck(stats, z.requires_grad_())


@pytest.mark.parametrize("entropy_gradient", [True, False])
def test_no_copy_of_the_logits_waits_for_the_backward_pass(entropy_gradient: bool) -> None:
    z = torch.randn(50, 400, requires_grad=True)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_stats(z, torch.arange(50), 1.0, entropy_gradient)
    assert z.data_ptr() in kept
    assert sum(kept.values()) < z.nbytes + 50 * 100


# models whose head is not the end -------------------------------------------------------------


def scaled(**more: Any) -> dict[str, Any]:
    return {**SIZES, **more}


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES),
        PhiConfig(**SIZES),
        GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2, initializer_range=0.5),
        GraniteConfig(**scaled(logits_scaling=1.0)),
    ],
    ids=lambda config: config.model_type,
)
def test_models_that_end_in_their_head_are_taken(config: PretrainedConfig) -> None:
    model = tiny(config)
    if getattr(model.lm_head, "bias", None) is not None:
        torch.nn.init.normal_(model.lm_head.bias)
    check_head(model)


@pytest.mark.parametrize(
    "config",
    [
        GraniteConfig(**scaled(logits_scaling=2.0)),
        CohereConfig(**scaled(logit_scale=0.25)),
        Gemma2Config(**scaled(final_logit_softcapping=1.0, head_dim=8)),
    ],
    ids=lambda config: config.model_type,
)
def test_models_that_change_their_logits_are_refused(config: PretrainedConfig) -> None:
    with pytest.raises(ConfigError, match="changes its logits after its head"):
        check_head(tiny(config))
