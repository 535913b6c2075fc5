"""Log-probabilities and entropies of reply tokens, without ever holding all logits at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from baselines.batch import TokenBatch
from tfgrpo.errors import ConfigError

CHUNK = 2048
"""Tokens whose logits exist at once: CHUNK * vocabulary * 4 bytes, twice while differentiating."""


def token_stats(
    logits_NV: Tensor, targets_N: Tensor, temperature: float, entropy_gradient: bool
) -> tuple[Tensor, Tensor]:
    """lp = z_y - lse(z) and H = lse(z) - sum_v p_v z_v of z = logits / temperature, in float32.

    Both (N,), in nats. H carries a gradient only if asked to.
    """
    z = logits_NV.float() / temperature
    total = z.logsumexp(-1)
    lp = z.gather(-1, targets_N[:, None])[:, 0] - total
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        H = total - ((z - total[:, None]).exp() * z).sum(-1)
    return lp, H


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
