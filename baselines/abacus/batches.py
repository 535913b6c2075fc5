"""From documents to padded token batches, as a pure function of (seed, pool index)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from baselines.abacus.corpus import Document, draw_document, mixture_at
from baselines.abacus.tokenizer import ASSISTANT, END, SYSTEM, USER
from tfgrpo.seeding import derive_rng

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_ROLE = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
POOL = 2048  # documents drawn, sorted by length and cut into batches together
STRIDE = 16  # widths of batches are multiples of this


@dataclass(frozen=True, slots=True)
class Batch:
    """`ids` (B, T), right-padded with 0; `targets` (B, T), -100 where nothing is learned."""

    ids: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    tokens: int


def encode_all(
    documents: list[Document], tokenizer: PreTrainedTokenizerFast
) -> list[tuple[list[int], int]]:
    """Token ids of each chat and the length of its prompt. Only the reply is learned from."""
    prompts = [
        "".join(_ROLE[m.role] + m.content for m in d.messages) + ASSISTANT for d in documents
    ]
    heads = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    tails = tokenizer([d.reply + END for d in documents], add_special_tokens=False)["input_ids"]
    return [(h + t, len(h)) for h, t in zip(heads, tails, strict=True)]


def _pad(rows: list[tuple[list[int], int]], height: int, width: int) -> Batch:
    ids = np.zeros((height, width), np.int64)
    targets = np.full((height, width), -100, np.int64)
    for i, (row, prompt) in enumerate(rows):
        ids[i, : len(row)] = row
        targets[i, prompt - 1 : len(row) - 1] = row[prompt:]
    return Batch(ids, targets, sum(len(row) for row, _ in rows))


def pool_batches(
    seed: int, pool: int, progress: float, tokenizer: PreTrainedTokenizerFast, batch_tokens: int
) -> list[Batch]:
    """Batches of pool number `pool`: similar lengths together, in shuffled order.

    Shapes come from a short list, widths by `STRIDE` and heights by width, because a memory
    allocator that sees a new shape in every step never stops growing.
    """
    rng = derive_rng(seed, "pool", pool)
    mixture = mixture_at(progress)
    documents = [draw_document(rng, mixture) for _ in range(POOL)]
    rows = sorted(encode_all(documents, tokenizer), key=lambda row: -len(row[0]))
    batches, start = [], 0
    while start < len(rows):
        width = -(-len(rows[start][0]) // STRIDE) * STRIDE
        height = max(1, batch_tokens // width)
        batches.append(_pad(rows[start : start + height], height, width))
        start += height
    rng.shuffle(batches)
    return batches
