"""What went wrong with an endpoint: counted by kind, whether or not trying again has mended it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from tfgrpo.types import Phase, Usage

FaultKind = Literal[
    "rate limit",  # 429
    "overload",  # 503, 529
    "server error",  # every other 5xx, 408, 409
    "timeout",
    "connection",  # refused, broken, or cut before the end of the reply
    "rejected",  # every other 4xx
    "unreadable",  # a 200 that is no chat completion
    "no choices",
    "too few choices",
    "too long",  # far longer than the tokens that were asked for
    "other model",
    "broken off",  # the endpoint says that it could not finish the reply
    "empty",
    "refusal",  # by the model
    "content filter",  # by the endpoint
    "cut short",  # at the token limit: a reply, and no Failure
]

FAULTS = "faults.json"
"""The file of a run that counts them."""

NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `failed` counts the rollouts that were lost to it: 0 where trying again helped.

    `usage` is what the endpoint says it billed for replies that could not be used.
    """

    kind: FaultKind
    phase: Phase
    failed: int = 0
    usage: Usage = NOTHING


@dataclass(frozen=True, slots=True)
class FaultCount:
    """How often a fault was met, how many rollouts it cost, and what was billed in vain."""

    seen: int = 0
    failed: int = 0
    lost: Usage = NOTHING

    def __add__(self, other: FaultCount) -> FaultCount:
        return FaultCount(
            self.seen + other.seen, self.failed + other.failed, self.lost + other.lost
        )


_NONE: Mapping[FaultKind, FaultCount] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Faults:
    """Counts by kind; immutable, so that a record that was handed out never changes."""

    by_kind: Mapping[FaultKind, FaultCount] = field(default_factory=lambda: _NONE)

    def plus(self, kind: FaultKind, more: FaultCount) -> Faults:
        total = self.by_kind.get(kind, FaultCount()) + more
        return Faults(MappingProxyType({**self.by_kind, kind: total}))

    def to_json(self) -> dict[str, Any]:
        """Plain values, one entry per kind; `from_json` reads them back."""
        return {kind: asdict(count) for kind, count in self.by_kind.items()}

    @staticmethod
    def from_json(data: Mapping[str, Mapping[str, Any]]) -> Faults:
        return Faults(
            MappingProxyType(
                {
                    kind: FaultCount(row["seen"], row["failed"], Usage(**row["lost"]))  # type: ignore[misc]
                    for kind, row in data.items()
                }
            )
        )


class FaultLog:
    """The running record of one model; `listen` hears of each fault as it happens."""

    def __init__(self) -> None:
        self.record = Faults()
        self._listeners: list[Callable[[Fault], None]] = []

    def listen(self, listener: Callable[[Fault], None]) -> None:
        self._listeners.append(listener)

    def note(self, fault: Fault) -> None:
        self.record = self.record.plus(fault.kind, FaultCount(1, fault.failed, fault.usage))
        for listener in self._listeners:
            listener(fault)
