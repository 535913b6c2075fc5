"""Attention in which all rows of a batch share one prefix, the trunk, and stand on shelves.

The rows of a rollout batch mostly begin alike: the system message, an experience library, the whole
prompt of a group. Their keys and values are then kept once instead of once per row, and one matrix
product scores them for all rows, where decoding would otherwise stream a copy per row through
memory (the idea of Hydragen, Juravsky et al., arXiv 2402.05099). Their own keys and values are read
shelf by shelf (`rows`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from tfgrpo.llm.inprocess.rows import RowCache

NAME = "tfgrpo_trunk"

Span = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values of consecutive tokens: per layer a pair `(rows, kv_heads, tokens, head_dim)`."""


def cut(span: Span, start: int, stop: int) -> Span:
    return tuple((k[:, :, start:stop], v[:, :, start:stop]) for k, v in span)


def join(left: Span, right: Span) -> Span:
    if not left:
        return right
    return tuple(
        (torch.cat((kl, kr), 2), torch.cat((vl, vr), 2))
        for (kl, vl), (kr, vr) in zip(left, right, strict=True)
    )


def span_of(cache: DynamicCache) -> Span:
    return tuple((layer.keys, layer.values) for layer in cache.layers)


def trunk_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """`sdpa`, plus the tokens of `kwargs["trunk"]`, which every query sees before its own row.

    `query` is `(B, heads, Q, D)`, `key` and `value` are `(B, kv_heads, K, D)`, the boolean mask is
    `(B, 1, Q, K)` and speaks of the own columns only. With `kwargs["rows"]`, a `RowCache`, a token
    is decoded in each row: trunk, keys, values and masks are then the cache's. Returns
    `(B, Q, heads, D)`.
    """
    rows: RowCache | None = kwargs.pop("rows", None)
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    if rows is not None:
        layer: int = module.layer_idx  # type: ignore[assignment]
        shared = tuple(states[0] for states in rows.trunk[layer]) if rows.trunk_length else None
        query = query * scale
        parts = [
            _decode(query[span], shared, keys, values, seen[:, None, None])
            for span, keys, values, seen in rows.read(layer)
        ]
        return torch.cat(parts), None
    trunk: Span | None = kwargs.pop("trunk", None)
    if not trunk:
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **kwargs
        )
        return attended
    shared_key, shared_value = trunk[module.layer_idx]  # type: ignore[index]
    count, _, queries, _ = query.shape
    if attention_mask is None:
        attention_mask = query.new_ones(1, 1, queries, key.shape[2], dtype=torch.bool)
        attention_mask = attention_mask.tril(key.shape[2] - queries)
    seen = attention_mask.new_ones(count, 1, queries, shared_key.shape[2])
    attention_mask = torch.cat((seen, attention_mask.expand(count, -1, -1, -1)), -1)
    key = torch.cat((shared_key.expand(count, -1, -1, -1), key), 2)
    value = torch.cat((shared_value.expand(count, -1, -1, -1), value), 2)
    attended = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return attended


def _decode(
    query: Tensor,
    shared: tuple[Tensor, ...] | None,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
) -> Tensor:
    """One softmax over trunk and own columns, one scaled query per row: `(B, 1, heads, D)`.

    B rows, H kv heads, G query heads per kv head, P trunk tokens, K own columns, D head width.
    """
    rows, heads, _, width = query.shape
    kv_heads = key.shape[1]
    group = heads // kv_heads
    query_BHGD = query.reshape(rows, kv_heads, group, width)
    on_own = (query_BHGD @ key.mT).masked_fill_(~mask, -torch.inf)
    if shared is None:
        own_BHGD = on_own.softmax(-1, dtype=torch.float32).to(value.dtype) @ value
        return own_BHGD.reshape(rows, 1, heads, width)
    shared_key_HPD, shared_value_HPD = shared
    trunk_length = shared_key_HPD.shape[1]
    query_HND = query_BHGD.transpose(0, 1).reshape(kv_heads, rows * group, width)
    on_trunk = (query_HND @ shared_key_HPD.mT).view(kv_heads, rows, group, trunk_length)
    scores = torch.cat((on_trunk.transpose(0, 1), on_own), -1)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    own_BHGD = weights[..., trunk_length:] @ value
    weights_HNP = weights[..., :trunk_length].transpose(0, 1).reshape(kv_heads, -1, trunk_length)
    trunk_BHGD = (weights_HNP @ shared_value_HPD).view(kv_heads, rows, group, width).transpose(0, 1)
    return (own_BHGD + trunk_BHGD).reshape(rows, 1, heads, width)


def adopt_trunk(model: PreTrainedModel) -> bool:
    """Let `model` attend to trunks; False, with the model as it was, where it would do so wrongly.

    A sliding window hides parts of a trunk, and some attentions add sinks or soft caps. So it is
    found by trial: split into trunk and rest, a text must get the logits that it gets whole.
    """
    before = model.config._attn_implementation
    if any(DynamicCache(config=model.config).is_sliding):
        return False
    AttentionInterface.register(NAME, trunk_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    try:
        model.set_attn_implementation(NAME)
        if _split_agrees(model):
            return True
    except (TypeError, ValueError, RuntimeError, AttributeError):
        pass
    model.set_attn_implementation(before)
    return False


@torch.inference_mode()
def _split_agrees(model: PreTrainedModel) -> bool:
    words = model.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(2 * 9, device=model.device).view(2, 9) * 37 + 11) % words
    ids[1, :4] = ids[0, :4]
    positions = torch.arange(9, device=model.device).expand(2, 9)
    whole = model(input_ids=ids, position_ids=positions, use_cache=False).logits.float()
    prefix = DynamicCache()
    model(input_ids=ids[:1, :4], past_key_values=prefix, use_cache=True)
    own = DynamicCache()
    for start, stop in ((4, 7), (7, 8), (8, 9)):
        part = model(
            input_ids=ids[:, start:stop],
            position_ids=positions[:, start:stop],
            past_key_values=own,
            use_cache=True,
            trunk=span_of(prefix),
        ).logits.float()
        limit = 0.02 * whole.std() if model.dtype == torch.float32 else 0.2 * whole.std()
        if not (part - whole[:, start:stop]).abs().max() <= limit:
            return False
    return True
