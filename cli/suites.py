"""Named sets of arms for `tfgrpo bench`: what is learned, what is evaluated, what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.options import POCKET_CASES, overrides
from tfgrpo.errors import ConfigError

Settings = tuple[str, ...]
CASES = ("memory.path='{bank}'", *overrides(POCKET_CASES, None))


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """An arm and its settings, in which {run} and {bank} stand for a seed's own folders."""

    name: str
    settings: Settings

    @property
    def seeded(self) -> bool:
        """Whether there is one for each learning run."""
        return any("{" in setting for setting in self.settings)

    def at(self, run: Path, bank: Path) -> list[str]:
        return [setting.format(run=run, bank=bank) for setting in self.settings]


@dataclass(frozen=True, slots=True)
class Suite:
    """`pairs` are (a, b) of the differences b - a; `practice` goes to every learning run.

    With `by_seed` the table has a row for each seed, otherwise one for their average.
    """

    arms: tuple[ArmPlan, ...]
    pairs: tuple[tuple[str, str], ...]
    practice: Settings = ()
    by_seed: bool = False

    def learning(self, run: Path, bank: Path) -> list[str]:
        return ArmPlan("learn", self.practice).at(run, bank)


def _cases(name: str, *settings: str, policy: str = "policy='base'") -> ArmPlan:
    return ArmPlan(name, (policy, *CASES, *settings))


SUITES: Mapping[str, Suite] = {
    "context": Suite(
        (
            ArmPlan("base", ("policy='base'",)),
            ArmPlan("placebo", ("policy='placebo:{run}'",)),
            ArmPlan("learned", ("policy='{run}'",)),
        ),
        (("base", "learned"), ("placebo", "learned")),
        by_seed=True,
    ),
    "memory": Suite(
        (
            ArmPlan("base", ("policy='base'",)),
            ArmPlan("library", ("policy='{run}'",)),
            _cases("similarity", "memory.read='similarity'"),
            _cases("value", "memory.read='value'"),
            _cases("value, drawn", "memory.read='value'", "memory.draw='softmax'"),
            _cases("both", "memory.read='value'", policy="policy='{run}'"),
        ),
        (
            ("base", "library"),
            ("base", "similarity"),
            ("base", "value"),
            ("similarity", "value"),
            ("value", "value, drawn"),
            ("library", "both"),
        ),
        practice=CASES,
    ),
}


def suite(name: str) -> Suite:
    """Raises ConfigError if there is no such suite."""
    if name not in SUITES:
        raise ConfigError(f"There is no suite {name!r}; use one of these: {', '.join(SUITES)}.")
    return SUITES[name]
