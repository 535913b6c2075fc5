"""What the arms cost, to make and to serve, and how far their budgets are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tfgrpo.types import Usage
from tfgrpo.verdict.arms import Arm, Cost

UNMATCHED = 1.25
"""Ratio of two budgets from which on they are told to differ."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One arm's making: what a matching would make equal."""

    rollouts: int | None
    generated: int
    flops: int | None
    usd: float | None


def budget(cost: Cost) -> Budget:
    """Rollouts, generated tokens, FLOPs and dollars of the making."""
    made = sum(cost.making.values(), Usage())
    return Budget(cost.rollouts, made.completion_tokens, cost.flops, cost.usd)


def mean_cost(arm: Arm) -> Cost | None:
    """The average over the arm's seeds, in whole tokens; None if one seed kept no ledger."""
    costs = [run.cost for run in arm.runs]
    known = [cost for cost in costs if cost is not None]
    if not known or len(known) < len(costs):
        return None
    n = len(known)
    phases = dict.fromkeys(phase for cost in known for phase in cost.making)
    return Cost(
        making={
            phase: _share([cost.making.get(phase, Usage()) for cost in known], n)
            for phase in phases
        },
        serving=_share([cost.serving for cost in known], n),
        queries=sum(cost.queries for cost in known) // n,
        samples=sum(cost.samples for cost in known) // n,
        rollouts=_mean([cost.rollouts for cost in known]),
        flops=_mean([cost.flops for cost in known]),
        serving_flops=_mean([cost.serving_flops for cost in known]),
        usd=_mean_usd([cost.usd for cost in known]),
    )


def break_even(a: Cost, b: Cost) -> float | None:
    """Queries from which on b is cheaper than a in all, in FLOPs; None if that never comes.

    M* = (making_b - making_a) / (serving_a - serving_b), serving for each query (samples of one
    problem). 0 if b is cheaper to make and no dearer to serve.
    """
    if None in (a.flops, b.flops, a.serving_flops, b.serving_flops) or not (
        a.queries and b.queries
    ):
        return None
    extra = (b.flops or 0) - (a.flops or 0)
    saved = (a.serving_flops or 0) / a.queries - (b.serving_flops or 0) / b.queries
    if extra <= 0 and saved >= 0:
        return 0.0
    if extra <= 0 or saved <= 0:
        return None
    return extra / saved


def unmatched(arms: Sequence[Arm], pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """A sentence for each pair of made arms whose budgets differ by more than `UNMATCHED`.

    It also says from how many queries on the dearer one to make is the cheaper one in all.
    """
    costs = {arm.name: mean_cost(arm) for arm in arms}
    found = []
    for a, b in pairs:
        x, y = costs.get(a), costs.get(b)
        if x is None or y is None or not x.making or not y.making:
            continue
        told = _ratios(budget(x), budget(y))
        if told:
            found.append(
                f"The budgets of {a} and {b} are not matched: {b} took {told}."
                f"{_from_when((a, x), (b, y))}"
            )
    return tuple(found)


def _ratios(x: Budget, y: Budget) -> str:
    pairs = (
        ("the rollouts", x.rollouts, y.rollouts),
        ("the generated tokens", x.generated, y.generated),
        ("the FLOPs of making", x.flops, y.flops),
    )
    parts = []
    for name, first, second in pairs:
        if first and second:
            ratio = second / first
            if not 1 / UNMATCHED <= ratio <= UNMATCHED:
                parts.append(f"{ratio:.2g} times {name}")
    return ", ".join(parts)


def _from_when(first: tuple[str, Cost], second: tuple[str, Cost]) -> str:
    for (_, cheap), (name, dear) in ((first, second), (second, first)):
        queries = break_even(cheap, dear)
        if queries:
            return f" {name} costs fewer FLOPs in all from {queries:,.0f} queries on."
    return ""


def _per_query(cost: Cost) -> float | None:
    if cost.serving_flops is None or not cost.queries:
        return None
    return cost.serving_flops / cost.queries


def _share(usages: Sequence[Usage], n: int) -> Usage:
    total = sum(usages, Usage())
    return replace(
        total,
        calls=total.calls // n,
        prompt_tokens=total.prompt_tokens // n,
        cached_tokens=total.cached_tokens // n,
        completion_tokens=total.completion_tokens // n,
        reasoning_tokens=total.reasoning_tokens // n,
        seconds=total.seconds / n,
    )


def _mean(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) // len(known) if len(known) == len(values) else None


def _mean_usd(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
