"""What the engine knows of a request, and of each row that decodes one of its samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tfgrpo.llm.inprocess.draw import Drawn, Wanted
from tfgrpo.llm.inprocess.prefill import Prefilled, Tokens
from tfgrpo.types import Completion, SamplingParams


@dataclass(slots=True, eq=False)
class Job:
    """One prompt and its samples, one per seed. `abandoned` tells that nobody waits any longer."""

    tokens: Tokens
    params: SamplingParams
    seeds: Sequence[int]
    detail: bool = False
    abandoned: Callable[[], bool] = lambda: False
    issued: int = 0
    past: Prefilled | None = None
    outcomes: dict[int, Completion] = field(default_factory=dict)

    @property
    def wanted(self) -> Wanted:
        sampled = self.params.temperature > 0
        return Wanted(not sampled, sampled, sampled and self.params.top_p < 1, self.detail)

    @property
    def prefilled(self) -> Prefilled:
        assert self.past is not None
        return self.past

    @property
    def complete(self) -> bool:
        return len(self.outcomes) == len(self.seeds)


class RowState:
    """Per row, `(R,)`: the next input and the sampling settings; `(R, T)`: what was drawn."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.device = device
        self.token = self._zeros(rows)
        self.position = self._zeros(rows)
        self.seed = self._zeros(rows)
        self.drawn = self._zeros(rows)
        self.limit = self._zeros(rows)
        self.stops = self._zeros(rows)
        self.temperature = self._zeros(rows, dtype=torch.float32)
        self.top_p = self._zeros(rows, dtype=torch.float64)
        self.ids = self._zeros(rows, 0)
        self.logprobs = self._zeros(rows, 0, dtype=torch.float32)
        self.entropies = self._zeros(rows, 0, dtype=torch.float32)

    def _zeros(self, *shape: int, dtype: torch.dtype = torch.long) -> Tensor:
        return torch.zeros(*shape, dtype=dtype, device=self.device)

    def fill(self, rows: slice, samples: Sequence[tuple[Job, int]], stops: Sequence[int]) -> None:
        """Begin these samples, `(job, index)`, in `rows`: each feeds its prompt's last token."""
        jobs = [job for job, _ in samples]
        columns: list[tuple[Tensor, Sequence[float]]] = [
            (self.token, [job.tokens[-1] for job in jobs]),
            (self.position, [len(job.tokens) - 1 for job in jobs]),
            (self.seed, [job.seeds[index] for job, index in samples]),
            (self.limit, [job.params.max_tokens for job in jobs]),
            (self.temperature, [job.params.temperature for job in jobs]),
            (self.top_p, [job.params.top_p for job in jobs]),
            (self.stops, stops),
        ]
        for column, values in columns:
            column[rows] = torch.tensor(values, dtype=column.dtype, device=self.device)
        self.drawn[rows] = 0
        self._widen(max(job.params.max_tokens for job in jobs))

    def _widen(self, width: int) -> None:
        missing = width - self.ids.shape[1]
        if missing > 0:
            self.ids = torch.nn.functional.pad(self.ids, (0, missing))
            self.logprobs = torch.nn.functional.pad(self.logprobs, (0, missing))
            self.entropies = torch.nn.functional.pad(self.entropies, (0, missing))

    def record(self, count: int, drawn: Drawn) -> None:
        """Store what the first `count` rows drew and make it their next input."""
        at = self.drawn[:count, None]
        self.ids[:count].scatter_(1, at, drawn.tokens[:, None])
        if drawn.logprobs is not None and drawn.entropies is not None:
            self.logprobs[:count].scatter_(1, at, drawn.logprobs[:, None])
            self.entropies[:count].scatter_(1, at, drawn.entropies[:, None])
        self.token[:count] = drawn.tokens
        self.position[:count] += 1
        self.drawn[:count] += 1

    def arrange(self, order: Sequence[int]) -> None:
        """Put the row that was `order[i]` in place i."""
        rows = torch.tensor(order, dtype=torch.long, device=self.device)
        for name, column in vars(self).items():
            if name != "device":
                column[: len(order)] = column[rows]
