"""What the samples and the folders of the runs tell besides a comparison, as frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tfgrpo.llm.faults import FaultCount, FaultKind
from tfgrpo.metrics.panel import Of
from tfgrpo.types import Estimate


@dataclass(frozen=True, slots=True)
class PanelDifference:
    """One view of diversity of arm `b` against arm `a`, paired by problem and seed: b - a.

    It rests on the problems with enough samples in both arms, or with enough correct ones; `of_a`
    and `of_b` are the arms' means over these. Exploratory: an interval, and no test.
    """

    a: str
    b: str
    name: str
    of: Of
    of_a: float
    of_b: float
    difference: Estimate


@dataclass(frozen=True, slots=True)
class ProblemShares:
    """One problem with each arm's share of right samples, averaged over its seeds."""

    task_id: str
    dataset: str
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of all samples that were asked of one arm, over its seeds and all its problems.

    They are `right`, `wrong`, `unread` (graded, but without an answer that could be right) or, by
    stage, `failures`: never graded, and so neither right nor wrong. `faults` are what its endpoint
    met while it was sampled, by class, whether or not another try helped.
    """

    arm: str
    right: int
    wrong: int
    unread: int
    failures: Mapping[str, int]
    faults: Mapping[FaultKind, FaultCount]

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def troubled(self) -> bool:
        """Whether there is anything to tell but right and wrong."""
        return bool(self.failures or self.faults)
