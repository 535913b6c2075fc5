"""Named sets of arms for `tfgrpo bench`: what is made for them, what is measured and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cli.options import POCKET_CASES
from tfgrpo.errors import ConfigError
from tfgrpo.types import EMPTY
from tfgrpo.verdict.arms import Family

Table = Mapping[str, Any]
Kind = Literal["learn", "train", "imitate", "match"]

HOT = 1.5
"""The temperature of the control that only samples the base model hotter."""

SHOTS = 8
"""Solved problems of the few-shot control: about as many tokens as a pocket library may have."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A run that arms are made of, once for each seed.

    `settings` are a table over those of its kind, in whose texts {NAME} stands for the folder of
    the stage NAME of the same seed, and {bank} for that seed's bank of cases. `needs` names the
    stages that must be over before.
    """

    name: str
    kind: Kind
    settings: Table = field(default_factory=lambda: EMPTY)
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """An evaluation, in terms of an EvalSpec; `settings` and `needs` are as those of a stage.

    With `once` it is made of the first seed's stages alone. `matched` names the stage whose
    temperature it is sampled at.
    """

    name: str
    family: Family
    settings: Table
    needs: tuple[str, ...] = ()
    once: bool = False
    matched: str | None = None

    @property
    def seeded(self) -> bool:
        """Whether there is one for each seed."""
        return bool(self.needs) and not self.once


@dataclass(frozen=True, slots=True)
class Square:
    """The arms of the 2x2 of context and weights."""

    base: str
    context: str
    weights: str
    both: str


@dataclass(frozen=True, slots=True)
class Suite:
    """`pairs` are (a, b) of the differences b - a.

    With `by_seed` the table has a row for each seed, otherwise one for their average.
    """

    stages: tuple[Stage, ...]
    arms: tuple[ArmPlan, ...]
    pairs: tuple[tuple[str, str], ...]
    by_seed: bool = False
    square: Square | None = None

    @property
    def base(self) -> str:
        return self.arms[0].name

    @property
    def duels(self) -> tuple[tuple[str, str], ...]:
        """The pairs in which nobody is the base."""
        return tuple(pair for pair in self.pairs if self.base not in pair)


BANK: Table = {"path": "{bank}", **{k.removeprefix("memory."): v for k, v in POCKET_CASES.items()}}
BASE = ArmPlan("base", "base", {"policy": "base"})
LEARN = Stage("learn", "learn")


def _library(name: str, stage: str) -> ArmPlan:
    return ArmPlan(name, "context", {"policy": f"library:{{{stage}}}"}, (stage,))


def _placebo(stage: str) -> ArmPlan:
    """One for all seeds, whose libraries are about equally long: its text depends on no more."""
    return ArmPlan("placebo", "control", {"policy": f"placebo:{{{stage}}}"}, (stage,), once=True)


def _cases(name: str, needs: tuple[str, ...], policy: str = "base", **memory: str) -> ArmPlan:
    return ArmPlan(name, "context", {"policy": policy, "memory": {**BANK, **memory}}, needs)


def _weights(name: str, stage: str, family: Family = "weights") -> ArmPlan:
    return ArmPlan(name, family, {"policy": "base", "model": _trained(stage)}, (stage,))


def _entropy_matched(arm: ArmPlan, search: str) -> ArmPlan:
    """`arm` at the temperature that the stage `search` finds."""
    name = f"{arm.name}, base's entropy"
    return ArmPlan(name, "control", arm.settings, (*arm.needs, search), matched=search)


def _trained(stage: str) -> Table:
    return {"kind": "transformers", "path": f"{{{stage}}}/weights"}


CONTEXT = Suite(
    (LEARN,),
    (BASE, _placebo("learn"), _library("learned", "learn")),
    (("base", "learned"), ("placebo", "learned")),
    by_seed=True,
)

MEMORY = Suite(
    (Stage("learn", "learn", {"memory": BANK}),),
    (
        BASE,
        _library("library", "learn"),
        _cases("similarity", ("learn",), read="similarity"),
        _cases("value", ("learn",), read="value"),
        _cases("value, drawn", ("learn",), read="value", draw="softmax"),
        _cases("neural", ("learn",), read="neural"),
        _cases("both", ("learn",), "library:{learn}", read="value"),
    ),
    (
        ("base", "library"),
        ("base", "similarity"),
        ("base", "value"),
        ("similarity", "value"),
        ("value", "value, drawn"),
        ("base", "neural"),
        ("similarity", "neural"),
        ("library", "both"),
    ),
)

GRPO = _weights("grpo", "train-grpo")

FULL = Suite(
    (
        LEARN,
        Stage("practice", "learn", {"memory": BANK}),
        Stage("train-grpo", "train", {"method": "grpo"}),
        Stage("train-w-reinforce", "train", {"method": "w-reinforce"}),
        Stage("train-random", "train", {"method": "grpo", "rewards": [{"kind": "random"}]}),
        Stage("match-grpo", "match", {"arm": GRPO.settings, "like": BASE.settings}, GRPO.needs),
        Stage("imitate-rejection", "imitate", {"source": "rejection:{learn}"}, ("learn",)),
        Stage("imitate-distil", "imitate", {"source": "distil:{learn}"}, ("learn",)),
    ),
    (
        BASE,
        ArmPlan(f"base, T={HOT}", "control", {"policy": "base", "sampling": {"temperature": HOT}}),
        ArmPlan("empty", "control", {"policy": "empty"}),
        ArmPlan("few-shot", "control", {"policy": f"fewshot:{SHOTS}"}),
        ArmPlan("direct", "control", {"policy": "direct"}),
        _placebo("learn"),
        _library("library", "learn"),
        _cases("cases", ("practice",), read="value"),
        _cases("library + cases", ("learn", "practice"), "library:{learn}", read="value"),
        GRPO,
        _entropy_matched(GRPO, "match-grpo"),
        _weights("w-reinforce", "train-w-reinforce"),
        _weights("random reward", "train-random", "control"),
        _weights("rejection", "imitate-rejection"),
        _weights("distilled", "imitate-distil"),
        ArmPlan(
            "grpo + library",
            "both",
            {"policy": "library:{learn}", "model": _trained("train-grpo")},
            ("learn", "train-grpo"),
        ),
    ),
    (
        ("library", "grpo"),
        ("placebo", "library"),
        ("direct", "library"),
        ("few-shot", "library"),
        ("library", "cases"),
        ("library", "library + cases"),
        ("library", "distilled"),
        ("rejection", "library"),
        ("rejection", "grpo"),
        ("random reward", "grpo"),
        ("grpo", "grpo, base's entropy"),
        ("grpo", "w-reinforce"),
        ("grpo", "grpo + library"),
        ("library", "grpo + library"),
    ),
    square=Square("base", "library", "grpo", "grpo + library"),
)

SUITES: Mapping[str, Suite] = {"context": CONTEXT, "memory": MEMORY, "full": FULL}


def suite(name: str) -> Suite:
    """Raises ConfigError if there is no such suite."""
    if name not in SUITES:
        raise ConfigError(f"There is no suite {name!r}; use one of these: {', '.join(SUITES)}.")
    return SUITES[name]
