"""Log-probabilities and entropies of reply tokens, without ever holding all logits at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from baselines.batch import TokenBatch
from tfgrpo.errors import ConfigError

CHUNK = 512
"""Tokens whose logits exist at once: CHUNK * vocabulary * 4 bytes, twice while differentiating."""


class TokenStats(torch.autograd.Function):
    """lp = z_y - lse(z) and H = lse(z) - sum_v p_v z_v, both (N,), of logits z (N, V).

    d lp / dz_v = [v = y] - p_v and d H / dz_v = -p_v (log p_v + H), written out: the copies of z
    that autograd keeps and makes for the same would be the peak of a model with a large vocabulary.
    """

    @staticmethod
    def forward(
        ctx: Any, z_NV: Tensor, targets_N: Tensor, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        total_N = z_NV.logsumexp(-1)
        lp_N = z_NV.gather(-1, targets_N[:, None])[:, 0] - total_N
        p_NV = (z_NV - total_N[:, None]).exp_()
        H_N = total_N - p_NV.mul_(z_NV).sum(-1)
        ctx.save_for_backward(z_NV, targets_N, total_N, H_N)
        if not entropy_gradient:
            ctx.mark_non_differentiable(H_N)
        ctx.entropy_gradient = entropy_gradient
        return lp_N, H_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        z_NV, targets_N, total_N, H_N = ctx.saved_tensors
        by_lp_N1, by_H_N1 = (grad[:, None] for grad in grads)
        found_NV = (z_NV - total_N[:, None]).exp_()
        if ctx.entropy_gradient:
            weight_NV = (z_NV - (total_N - H_N)[:, None]).mul_(by_H_N1)
            found_NV.mul_(weight_NV.add_(by_lp_N1)).neg_()
        else:
            found_NV.mul_(-by_lp_N1)
        return found_NV.scatter_add_(-1, targets_N[:, None], by_lp_N1), None, None


def token_stats(
    logits_NV: Tensor, targets_N: Tensor, temperature: float, entropy_gradient: bool
) -> tuple[Tensor, Tensor]:
    """lp and H of z = logits / temperature, in float32 (`TokenStats`).

    Both (N,), in nats. H carries a gradient only if asked to.
    """
    z_NV = logits_NV.float()
    if temperature != 1:
        z_NV = z_NV / temperature
    lp_N, H_N = TokenStats.apply(z_NV, targets_N, entropy_gradient)  # type: ignore[no-untyped-call]
    return lp_N, H_N


class ReplyModel(nn.Module):
    """A causal language model, called for the reply tokens of a `TokenBatch` only.

    The decoder runs on whole rows; its head on the positions that predict reply tokens, `CHUNK`
    at a time, recomputed in the backward pass. A padded row needs no attention mask: padding
    stands to the right of all that is read.
    """

    def __init__(self, model: Any, temperature: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self._no_split_modules = getattr(model, "_no_split_modules", None)  # what FSDP shards by

    def forward(self, batch: TokenBatch, entropy_gradient: bool = False) -> tuple[Tensor, Tensor]:
        """(lp, H), both (B, T) float32 and 0 outside the mask."""
        hidden_BLD = decoder_of(self.model)(input_ids=batch.ids, use_cache=False).last_hidden_state
        rows, columns = batch.mask.nonzero(as_tuple=True)
        hidden_ND = hidden_BLD[rows, batch.prompt[rows] + columns - 1]
        targets_N = batch.targets[rows, columns]
        parts = [
            self._chunk(h, y, entropy_gradient)
            for h, y in zip(hidden_ND.split(CHUNK), targets_N.split(CHUNK), strict=True)
        ]
        empty = hidden_ND.new_zeros(batch.mask.shape, dtype=torch.float32)
        lp_N, H_N = (torch.cat(column) for column in zip(*parts, strict=True))
        return empty.index_put((rows, columns), lp_N), empty.index_put((rows, columns), H_N)

    def _chunk(self, hidden_ND: Tensor, targets_N: Tensor, grad: bool) -> tuple[Tensor, Tensor]:
        head = self.model.get_output_embeddings()

        def work(h: Tensor) -> tuple[Tensor, Tensor]:
            logits = linear(h, head.weight, head.bias)
            return token_stats(logits, targets_N, self.temperature, grad)

        if torch.is_grad_enabled():
            lp, H = checkpoint(work, hidden_ND, use_reentrant=False)
            return lp, H
        return work(hidden_ND)


def decoder_of(model: Any) -> Any:
    """The transformer below the head, of a plain model or of one with adapters."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.get_decoder()


@torch.no_grad()
def check_head(model: Any) -> None:
    """Raise ConfigError unless head(decoder(x)) gives the model's own logits.

    Some models scale or cap their logits after the head; training them through this door would
    train another distribution than the one that is sampled.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(12, device=model.device)[None] * 37 + 11) % vocabulary
    head = model.get_output_embeddings()
    ours = linear(decoder_of(model)(input_ids=ids, use_cache=False).last_hidden_state, head.weight)
    if head.bias is not None:
        ours = ours + head.bias
    own = model(input_ids=ids, use_cache=False).logits
    limit = 1e-3 if own.dtype == torch.float32 else 5e-2
    if not torch.allclose(ours.float(), own.float(), rtol=limit, atol=limit * float(own.std())):
        raise ConfigError(
            f"{type(model).__name__} changes its logits after its head, which the trainer does not "
            "do; train another model, or serve this one to the context arm only."
        )
