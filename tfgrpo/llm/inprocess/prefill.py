"""Prompts in, keys and values out: one padded forward for many, and shared prefixes only once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from tfgrpo.llm.inprocess.trunk import Span, cut, join, span_of

Tokens = tuple[int, ...]

WORTH_SHARING = 16
"""Tokens below which a prefill of its own costs more than computing them again in every row."""


@dataclass(frozen=True, slots=True)
class Prefilled:
    """The keys and values of `tokens[:-1]`; the last token is each row's first decoding step.

    The first `base_length` tokens are in `base` (one row), the other `length` are the last columns
    of row `row` of `bank`. `cached` counts the tokens that earlier work had already paid for.
    """

    tokens: Tokens
    base: Span
    base_length: int
    bank: Span
    row: int
    length: int
    cached: int

    def span(self, start: int, stop: int) -> Span:
        """Positions `start` up to `stop`, as one row."""
        past = cut(self.base, min(start, self.base_length), min(stop, self.base_length))
        if stop <= self.base_length:
            return past
        own = tuple((k[self.row, None], v[self.row, None]) for k, v in self.bank)
        shift = own[0][0].shape[2] - self.length - self.base_length
        return join(past, cut(own, max(start, self.base_length) + shift, stop + shift))


def common_prefix(texts: Iterable[Tokens]) -> int:
    """Length of the longest prefix that all share, which is that of the least and the greatest."""
    listed = list(texts)
    least, greatest = min(listed), max(listed)
    for at, (a, b) in enumerate(zip(least, greatest, strict=False)):
        if a != b:
            return at
    return min(len(least), len(greatest))


def companions(prompts: Sequence[Tokens], most: int) -> list[Tokens]:
    """The first of distinct `prompts` and up to `most - 1` others to prefill along with it.

    They are its kin, sharing at least half of the longest prefix that it shares with any; a prompt
    without kin goes with others of its sort, so that no shared prefix is computed row by row.
    """
    head, ordered = prompts[0], sorted(prompts)
    beside = [0, *(common_prefix(pair) for pair in pairwise(ordered)), 0]
    nearest = {tokens: max(beside[at], beside[at + 1]) for at, tokens in enumerate(ordered)}
    if nearest[head] < WORTH_SHARING:
        chosen = [tokens for tokens in prompts if nearest[tokens] < WORTH_SHARING]
    else:
        need = nearest[head] / 2
        chosen = [tokens for tokens in prompts if common_prefix((head, tokens)) >= need]
    return chosen[:most]


def padded_tokens(prompts: Sequence[Tokens], shared: bool) -> int:
    """Tokens of one padded forward over `prompts`, without what they begin with if `shared`."""
    width = max(map(len, prompts)) - (common_prefix(prompts) if shared else 0)
    return len(prompts) * width


class PrefixCache:
    """The most recently used prefixes, up to `max_tokens` in all; any part of one serves."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.kept: OrderedDict[Tokens, Span] = OrderedDict()

    def find(self, tokens: Tokens) -> tuple[int, Span]:
        """The longest kept beginning of `tokens`: its length and its keys and values."""
        best, length = None, 0
        for kept in self.kept:
            shared = common_prefix((kept, tokens))
            if shared > length:
                best, length = kept, shared
        if best is None:
            return 0, ()
        self.kept.move_to_end(best)
        return length, cut(self.kept[best], 0, length)

    def keep(self, tokens: Tokens, span: Span) -> None:
        for kept in [kept for kept in self.kept if kept == tokens[: len(kept)]]:
            del self.kept[kept]
        self.kept[tokens] = span
        while len(self.kept) > 1 and sum(map(len, self.kept)) > self.max_tokens:
            self.kept.popitem(last=False)


class Prefiller:
    """Computes prompts in groups that share what they begin with."""

    def __init__(self, model: PreTrainedModel, trunks: bool, cached_tokens: int = 8192) -> None:
        self.model = model
        self.trunks = trunks
        self.cache = PrefixCache(cached_tokens)

    def __call__(self, prompts: Sequence[Tokens]) -> list[Prefilled]:
        """Prefill distinct prompts in one padded forward, after one for what they share."""
        pasts = [prompt[:-1] for prompt in prompts]
        base_length, base, hit = self._base(pasts) if self.trunks else (0, (), 0)
        owns = [past[base_length:] for past in pasts]
        bank = self._forward(owns, base, base_length)
        return [
            Prefilled(
                tokens=prompt,
                base=base,
                base_length=base_length,
                bank=bank,
                row=row,
                length=len(own),
                cached=base_length if row else hit,
            )
            for row, (prompt, own) in enumerate(zip(prompts, owns, strict=True))
        ]

    def _base(self, pasts: Sequence[Tokens]) -> tuple[int, Span, int]:
        """What all `pasts` begin with, as far as it pays: length, states, and length cached."""
        shared = pasts[0][: common_prefix(pasts)]
        hit, span = self.cache.find(shared)
        if len(shared) - hit >= (WORTH_SHARING if len(pasts) > 1 else 1):
            span = join(span, self._forward([shared[hit:]], span, hit))
            self.cache.keep(shared, span)
            return len(shared), span, hit
        return hit, span, hit

    def _forward(self, texts: Sequence[Tokens], past: Span, past_length: int) -> Span:
        """States of `texts` after `past`, padded on the left to `(N, kv_heads, L, head_dim)`."""
        width = max(len(text) for text in texts)
        if width == 0:
            return cut(past, 0, 0)
        device = self.model.device
        ids = torch.tensor([(0,) * (width - len(t)) + t for t in texts], device=device)
        lengths = torch.tensor([len(text) for text in texts], device=device)
        offsets = torch.arange(width, device=device) - (width - lengths[:, None])
        cache = DynamicCache()
        self.model(
            input_ids=ids,
            attention_mask=_or_none(offsets >= 0),
            position_ids=past_length + offsets.clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **({"trunk": past} if past_length else {}),
        )
        return span_of(cache)


def _or_none(mask: Tensor) -> Tensor | None:
    return None if bool(mask.all()) else mask
