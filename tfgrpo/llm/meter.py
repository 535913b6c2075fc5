"""Count what calls consume, by phase, and stop when a declared budget is spent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tfgrpo.errors import BudgetStop, ConfigError
from tfgrpo.ledger import Price
from tfgrpo.llm.faults import Fault
from tfgrpo.llm.limiter import shares
from tfgrpo.protocols import ChatModel
from tfgrpo.types import ChatRequest, Completion, Failure, Phase, Stage, Usage


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper bounds; None is unbounded. Tokens are prompt plus completion, seconds wall time."""

    max_tokens: int | None = None
    max_calls: int | None = None
    max_seconds: float | None = None
    max_usd: float | None = None


class Meter:
    """The running account of one or several models, and their common budget.

    No call starts once a bound is reached. Calls in flight count towards `max_calls`; the tokens
    and dollars of those already in flight are known only at their end, and may pass the bound.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self.usage: dict[Phase, Usage] = {}
        self.failures: Counter[Stage] = Counter()
        self._usd = 0.0
        self._in_flight = 0
        self._stopped = False
        self._started = time.monotonic()

    @property
    def total(self) -> Usage:
        return sum(self.usage.values(), Usage())

    @property
    def usd(self) -> float:
        """US dollars spent at known prices; calls without a price count as nothing."""
        return self._usd

    def stop(self) -> None:
        """Admit no further call; those in flight may end."""
        self._stopped = True

    def enter(self) -> None:
        """Admit one call, or raise BudgetStop."""
        if self._stopped:
            raise BudgetStop("The run is being stopped; resume it to go on.")
        total, limit = self.total, self.budget
        for name, spent, bound in (
            ("tokens", total.prompt_tokens + total.completion_tokens, limit.max_tokens),
            ("calls", total.calls + self._in_flight, limit.max_calls),
            ("seconds", time.monotonic() - self._started, limit.max_seconds),
            ("US dollars", self._usd, limit.max_usd),
        ):
            if bound is not None and spent >= bound:
                raise BudgetStop(
                    f"The budget of {bound:g} {name} is spent; raise it, then resume the run."
                )
        self._in_flight += 1

    def leave(self) -> None:
        self._in_flight -= 1

    def lose(self, fault: Fault, price: Price) -> None:
        """Charge what an endpoint billed for a reply that could not be used.

        The call of one that became a Failure is counted where that Failure arrives.
        """
        if fault.usage.calls:
            calls = 0 if fault.failed else fault.usage.calls
            self.charge(fault.phase, replace(fault.usage, calls=calls), price)

    def charge(self, phase: Phase, usage: Usage, price: Price) -> None:
        self.usage[phase] = self.usage.get(phase, Usage()) + usage
        self._usd += price.cost(usage) or 0.0


class MeteredModel:
    """Charges every call of `inner` to `meter`, which several models and tasks may share.

    `usage.seconds` is the time from call to reply, measured here. Put this inside a cache to
    count what is paid, outside to count what was used. A call of which nothing came back still
    counts as a call. Raises BudgetStop before a call that the budget no longer admits, and
    ConfigError if the budget is in dollars and the price is unknown.
    """

    def __init__(
        self, inner: ChatModel, meter: Meter | None = None, price: Price | None = None
    ) -> None:
        self.meter = meter or Meter()
        self._inner = inner
        self._price = price or Price()
        known = None not in (self._price.prompt, self._price.cached, self._price.completion)
        if self.meter.budget.max_usd is not None and not known:
            raise ConfigError(
                f"A budget in dollars needs the prices of {inner.model_id} for prompt, cached and "
                "completion tokens; give all three, or a budget in tokens."
            )

    @property
    def model_id(self) -> str:
        return self._inner.model_id

    @property
    def usage(self) -> dict[Phase, Usage]:
        return self.meter.usage

    def shares(self, request: ChatRequest) -> bool:
        return shares(self._inner, request)

    async def complete(self, request: ChatRequest) -> tuple[Completion | Failure, ...]:
        self.meter.enter()
        start = time.monotonic()
        try:
            outcomes = await self._inner.complete(request)
        finally:
            self.meter.leave()
        used = _used(outcomes, time.monotonic() - start)
        self.meter.charge(request.phase, used, self._price)
        self.meter.failures.update(o.stage for o in outcomes if isinstance(o, Failure))
        return outcomes


def _used(outcomes: Sequence[Completion | Failure], seconds: float) -> Usage:
    total = sum((o.usage for o in outcomes if isinstance(o, Completion)), Usage())
    return replace(total, calls=max(1, total.calls), seconds=seconds)
