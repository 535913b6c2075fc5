"""What a run consumed, by phase: tokens, calls, seconds, FLOPs and dollars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from tfgrpo.types import PHASES, Usage

_NOTHING: Mapping[str, Usage] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens of one model. None is unknown, and is never guessed.

    `cached` is what a prompt token costs that a prefix cache served. `completion` also pays for
    reasoning tokens, which every endpoint counts among the completion tokens.
    """

    prompt: float | None = None
    cached: float | None = None
    completion: float | None = None

    def cost(self, usage: Usage) -> float | None:
        """US dollars for `usage`, or None if a price is unknown for tokens that it holds."""
        lines = (
            (usage.prompt_tokens - usage.cached_tokens, self.prompt),
            (usage.cached_tokens, self.cached),
            (usage.completion_tokens, self.completion),
        )
        total = 0.0
        for tokens, price in lines:
            if tokens and price is None:
                return None
            total += tokens * (price or 0.0)
        return total / 1e6


def flops(usage: Usage, parameters: int) -> int:
    """FLOPs of generating or scoring: 2 N (prompt - cached + completion), N = `parameters`.

    One multiply and one add per weight and token (arXiv 2001.08361, section 2.1). Assumes that
    contexts are short beside the model's width, so that attention's own products do not count.
    """
    return 2 * parameters * (usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens)


def update_flops(tokens: int, parameters: int) -> int:
    """FLOPs of one gradient pass over `tokens`: 6 N tokens; the backward pass costs two forwards.

    Source and assumption as for `flops`. Tokens seen in several epochs count once per epoch.
    """
    return 6 * parameters * tokens


def phase_flops(phase: str, usage: Usage, parameters: int) -> int:
    """`update_flops` of what a phase `train` was fed, `flops` of every other phase."""
    if phase == "train":
        return update_flops(usage.prompt_tokens, parameters)
    return flops(usage, parameters)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Usage by phase; immutable, so a ledger that was handed out never changes."""

    by_phase: Mapping[str, Usage] = field(default_factory=lambda: _NOTHING)

    def plus(self, phase: str, usage: Usage) -> Ledger:
        """This ledger with `usage` added to one line."""
        return self + Ledger({phase: usage})

    def __add__(self, other: Ledger) -> Ledger:
        lines = dict(self.by_phase)
        for phase, usage in other.by_phase.items():
            lines[phase] = lines.get(phase, Usage()) + usage
        return Ledger(MappingProxyType(lines))

    @property
    def total(self) -> Usage:
        return sum(self.by_phase.values(), Usage())

    def cost(self, prices: Mapping[str, Price]) -> float | None:
        """US dollars over all phases, or None if any line that was used has no known price.

        `prices` maps a phase to the price of the model that served it.
        """
        costs = [prices.get(p, Price()).cost(usage) for p, usage in self.by_phase.items()]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

    def rows(self) -> tuple[tuple[str, Usage], ...]:
        """The lines of a table: used phases in the order of `PHASES`, others, then the total."""
        named = [phase for phase in PHASES if phase in self.by_phase]
        others = sorted(self.by_phase.keys() - set(PHASES))
        return (*((p, self.by_phase[p]) for p in named + others), ("total", self.total))

    def to_json(self) -> dict[str, Any]:
        """Plain values, one entry per phase; `from_json` reads them back."""
        return {phase: asdict(usage) for phase, usage in self.by_phase.items()}

    @staticmethod
    def from_json(data: Mapping[str, Mapping[str, Any]]) -> Ledger:
        return Ledger(MappingProxyType({phase: Usage(**row) for phase, row in data.items()}))
