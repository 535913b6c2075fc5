"""Continuous batching: rows of many requests decode together; a free row is refilled at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from tfgrpo.errors import ConfigError
from tfgrpo.llm.inprocess.draw import Wanted, draw, uniforms
from tfgrpo.llm.inprocess.heap import keep_few_kernels
from tfgrpo.llm.inprocess.prefill import (
    Prefilled,
    Prefiller,
    common_prefix,
    companions,
    padded_tokens,
)
from tfgrpo.llm.inprocess.rows import RowCache
from tfgrpo.llm.inprocess.state import Job, RowState
from tfgrpo.llm.inprocess.stops import Decode, StopTables, cut_at_stop
from tfgrpo.llm.inprocess.trunk import adopt_trunk, cut
from tfgrpo.types import Completion, FinishReason, Usage

LOOK_AHEAD = 64
"""How many waiting prompts one prefill may take."""
PREFILL_TOKENS = 8192
"""How many tokens, padding included, one prefill may take; a longer prompt goes alone."""
REGROW_TRUNK = 32
"""By how many tokens the shared prefix must lengthen before it is moved into the trunk."""

SHELVES = 4
"""Into how many parts rows are sorted by their length, so that few read columns they lack."""

Sample = tuple[Job, int]


def count_layers(model: PreTrainedModel) -> int:
    """Layers of a decoder that keeps keys and values and nothing else.

    Raises `ConfigError` for recurrent and other states, which cannot be laid out in rows.
    """
    layers = DynamicCache(config=model.config).layers
    if not all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        raise ConfigError(
            f"The in-process sampler cannot serve {type(model).__name__}, which keeps other state "
            "than keys and values; serve it with vLLM or another OpenAI-compatible server."
        )
    return len(layers)


class Engine:
    """Serves jobs, a step at a time, from one thread. After an exception, call `reset`."""

    def __init__(
        self, model: PreTrainedModel, decode: Decode, ends: Sequence[int], max_rows: int
    ) -> None:
        keep_few_kernels()
        self.model = model.eval()
        self.decode = decode
        self.trunks = adopt_trunk(model)
        self.prefill = Prefiller(model, self.trunks)
        # On a GPU what bounds a step is how many kernels it starts.
        shelves = SHELVES if self.trunks and model.device.type == "cpu" else 1
        self.cache = RowCache(count_layers(model), max_rows, model.device, shelves)
        self.state = RowState(max_rows, model.device)
        vocabulary = model.get_output_embeddings().weight.shape[0]
        self.stops = StopTables(decode, vocabulary, model.device)
        self.ends = frozenset(ends)
        self.is_end = torch.zeros(vocabulary, dtype=torch.bool, device=model.device)
        self.is_end[[end for end in ends if end < vocabulary]] = True
        self.waiting: deque[Job] = deque()
        self.alive: list[Sample] = []
        self.wanted = Wanted()

    @property
    def idle(self) -> bool:
        return not self.alive and not self.waiting

    def submit(self, job: Job) -> None:
        self.waiting.append(job)

    def reset(self) -> None:
        """Drop every job and all memory of prompts."""
        self.waiting.clear()
        self.alive.clear()
        self.cache.clear()
        self.prefill = Prefiller(self.model, self.trunks)
        self.wanted = Wanted()

    @torch.inference_mode()
    def step(self) -> list[Job]:
        """Refill free rows and draw a token in every row; returns the jobs that are done with."""
        done = self._admit()
        if self.alive:
            done += self._finish(self._decode())
        if self.idle:
            self.cache.clear()
            self.wanted = Wanted()
        return done

    def _admit(self) -> list[Job]:
        samples: list[Sample] = []
        dropped: list[Job] = []
        free = self.cache.max_rows - self.cache.count
        while free > len(samples) and self.waiting:
            job = self.waiting[0]
            if job.abandoned():
                dropped.append(self.waiting.popleft())
                continue
            if job.past is None:
                self._prefill_with(job)
            upto = min(len(job.seeds), job.issued + free - len(samples))
            samples += [(job, index) for index in range(job.issued, upto)]
            job.issued = upto
            if upto == len(job.seeds):
                self.waiting.popleft()
        if samples:
            self._join(samples)
        return dropped

    def _prefill_with(self, head: Job) -> None:
        """Prefill the prompt of `head` and those waiting behind it that go well with it."""
        jobs: dict[tuple[int, ...], list[Job]] = {head.tokens: [head]}
        for job in islice(self.waiting, 1, 4 * LOOK_AHEAD):
            if job.past is None:
                jobs.setdefault(job.tokens, []).append(job)
        group = companions(list(jobs), LOOK_AHEAD) if self.trunks else list(jobs)[:LOOK_AHEAD]
        while len(group) > 1 and padded_tokens(group, self.trunks) > PREFILL_TOKENS:
            group = group[: len(group) // 2]
        for past in self.prefill(group):
            for job in jobs[past.tokens]:
                job.past = past

    def _join(self, samples: list[Sample]) -> None:
        """Give each sample a row with its prompt's past."""
        self._fit_trunk([job.prefilled for job, _ in samples])
        cache, trunk = self.cache, self.cache.trunk_length
        self._make_room(len(samples), max(len(job.tokens) - 1 - trunk for job, _ in samples))
        banks: dict[int, list[Sample]] = {}
        for job, index in samples:
            banks.setdefault(id(job.prefilled.bank), []).append((job, index))
            self.wanted |= job.wanted
        for group in banks.values():
            pasts = [job.prefilled for job, _ in group]
            base = pasts[0].base_length
            rows = cache.append(
                pasts[0].bank,
                [past.row for past in pasts],
                [past.length - max(0, trunk - base) for past in pasts],
            )
            if trunk < base:
                cache.prepend(rows, cut(pasts[0].base, trunk, base))
            self.state.fill(rows, group, [self.stops.index(job.params.stop) for job, _ in group])
            self.alive += group

    def _make_room(self, coming: int = 0, left: int = 0, more: int = 0) -> None:
        order = self.cache.make_room(coming, left, more)
        if order is not None:
            self._arrange(order)

    def _arrange(self, order: list[int]) -> None:
        self.state.arrange(order)
        self.alive = [self.alive[row] for row in order]

    def _fit_trunk(self, coming: list[Prefilled]) -> None:
        """Make the trunk what all living, coming and already prefilled prompts share."""
        if not self.trunks:
            return
        soon = [job.past for job in islice(self.waiting, LOOK_AHEAD) if job.past is not None]
        living = [job.prefilled for job, _ in self.alive]
        prompts = {id(past): past.tokens for past in (*coming, *soon, *living)}.values()
        shared = min(common_prefix(prompts), min(map(len, prompts)) - 1)
        cache = self.cache
        if not living:
            cache.trunk, cache.trunk_length = (), 0
        now = cache.trunk_length
        if shared < now:
            self._make_room(more=now - shared)
            cache.shrink_trunk(shared)
        elif shared >= now + REGROW_TRUNK or (not living and shared):
            cache.grow_trunk(coming[0].span(now, shared), shared)

    def _decode(self) -> Tensor:
        """Draw one token in each row; returns the tokens `(count,)`."""
        self._make_room()
        cache, state, count = self.cache, self.state, self.cache.count
        if self.trunks:
            cache.look()
        logits = self.model(
            input_ids=state.token[:count, None],
            position_ids=state.position[:count, None],
            past_key_values=cache,
            use_cache=True,
            **({"rows": cache} if self.trunks else {"attention_mask": cache.mask()}),
        ).logits[:, -1]
        drawn = draw(
            logits.float(),
            uniforms(state.seed[:count], state.drawn[:count]),
            state.temperature[:count],
            state.top_p[:count],
            self.wanted,
        )
        state.record(count, drawn)
        cache.advance()
        return drawn.tokens

    def _finish(self, tokens: Tensor) -> list[Job]:
        """Complete the rows that ended with `tokens`, and close the ranks of the others."""
        count, state = self.cache.count, self.state
        ended = self.is_end[tokens] | (state.drawn[:count] >= state.limit[:count])
        to_read = ended | self.stops.table[state.stops[:count], tokens]
        rows: list[int] = to_read.nonzero()[:, 0].tolist()
        if not rows:
            return []
        over = set(ended.nonzero()[:, 0].tolist())
        gone, done = [], []
        for row, completion in zip(rows, self._read(rows), strict=True):
            if row in over or completion.finish_reason == "stop":
                job, index = self.alive[row]
                job.outcomes[index] = completion
                gone.append(row)
                if job.complete:
                    done.append(job)
        if gone:
            self._arrange(self.cache.drop(gone))
        return done

    def _read(self, rows: list[int]) -> list[Completion]:
        """What these rows have written so far."""
        state = self.state
        lengths = state.drawn[rows].tolist()
        upto = max(lengths)
        ids = state.ids[rows, :upto].tolist()
        detailed = self.wanted.detail
        logprobs = state.logprobs[rows, :upto].tolist() if detailed else ids
        entropies = state.entropies[rows, :upto].tolist() if detailed else ids
        completions = []
        for at, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            job, _ = self.alive[row]
            text, reason = self._text(ids[at][:length], job.params.stop)
            completions.append(
                Completion(
                    text=text,
                    finish_reason=reason,
                    usage=Usage(completion_tokens=length),
                    token_ids=tuple(ids[at][:length]) if job.detail else None,
                    logprobs=tuple(logprobs[at][:length]) if job.detail else None,
                    entropies=tuple(entropies[at][:length]) if job.detail else None,
                )
            )
        return completions

    def _text(self, ids: list[int], stops: tuple[str, ...]) -> tuple[str, FinishReason]:
        ended = ids[-1] in self.ends
        text = self.decode(ids[:-1] if ended else ids)
        trimmed = cut_at_stop(text, stops)
        if trimmed is not None:
            return trimmed, "stop"
        return text, "stop" if ended else "length"
