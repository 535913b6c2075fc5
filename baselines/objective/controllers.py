"""Coefficients that follow the entropy; each moves once per update and lives in the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from baselines.objective import spec as s


@dataclass(slots=True)
class AdaptiveBonus:
    """c += delta if H <= target, else c -= delta, within [low, high] (arXiv 2505.22312).

    The bonus acts only while H <= target.
    """

    target: float
    delta: float
    low: float
    high: float
    value: float = 0.0

    def update(self, entropy: float) -> None:
        step = self.delta if entropy <= self.target else -self.delta
        self.value = min(self.high, max(self.low, self.value + step))

    def active(self, entropy: float) -> float:
        return self.value if entropy <= self.target else 0.0


@dataclass(slots=True)
class RepoZeta:
    """Doubles or halves zeta towards a target entropy, crossing zero at +-low (arXiv 2603.11682).

    Below the target zeta grows: doubled if positive (at most `high`), halved if negative, and
    -low turns into +low; above the target the same with signs exchanged.
    """

    value: float
    low: float
    high: float
    target: float | None = None

    def update(self, entropy: float) -> None:
        if self.target is None:
            self.target = entropy
            return
        if entropy == self.target:
            return
        sign = 1.0 if entropy < self.target else -1.0
        zeta = sign * self.value
        if zeta > 0:
            zeta = min(2 * zeta, self.high)
        elif zeta < 0:
            zeta = zeta / 2 if -zeta / 2 >= self.low else self.low
        else:
            zeta = self.low
        self.value = sign * zeta


@dataclass(slots=True)
class AdaptiveClip:
    """Moves the upper clip by `step` against the entropy's distance from its target."""

    value: float
    step: float
    least: float
    most: float
    target: float | None = None

    def update(self, entropy: float) -> None:
        if self.target is None:
            self.target = entropy
            return
        step = self.step if entropy < self.target else -self.step
        self.value = min(self.most, max(self.least, self.value + step))


Controller = AdaptiveBonus | RepoZeta | AdaptiveClip


class Controllers:
    """All controllers of an objective, by the kind of the part that they steer."""

    def __init__(self, objective: s.ObjectiveSpec) -> None:
        self._by_kind: dict[str, Controller] = {}
        for part in objective.parts:
            match part:
                case s.AdaptiveEntropy():
                    self._by_kind[part.kind] = AdaptiveBonus(
                        part.target, part.delta, part.low, part.high, part.low
                    )
                case s.RepoR() | s.RepoD():
                    self._by_kind[part.kind] = RepoZeta(part.zeta, part.low, part.high, part.target)
                case s.Adapo():
                    self._by_kind[part.kind] = AdaptiveClip(
                        part.high, part.step, part.least, part.most, part.target
                    )

    def value(self, kind: str) -> float:
        return self._by_kind[kind].value

    def bonus(self, entropy: float) -> float:
        """The coefficient of the adaptive entropy bonus at this entropy; 0 if there is none."""
        found = self._by_kind.get("adaptive_entropy")
        return found.active(entropy) if isinstance(found, AdaptiveBonus) else 0.0

    def update(self, entropy: float) -> None:
        """Once per optimiser step, with the mini-batch's mean token entropy in nats."""
        for controller in self._by_kind.values():
            controller.update(entropy)

    def values(self) -> dict[str, float]:
        return {kind: controller.value for kind, controller in self._by_kind.items()}

    def state_dict(self) -> dict[str, Any]:
        return {kind: {"value": c.value, "target": c.target} for kind, c in self._by_kind.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for kind, saved in state.items():
            self._by_kind[kind].value = saved["value"]
            self._by_kind[kind].target = saved["target"]
