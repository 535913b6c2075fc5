"""Evaluations are gathered by name; a seed twice, or with and without, is refused."""

from __future__ import annotations

import pytest

from tests.tfgrpo.verdict.outcomes import evaluation
from tfgrpo.errors import ConfigError
from tfgrpo.verdict.arms import arms_of


def test_seeds_are_gathered_in_order() -> None:
    late, early = evaluation("b", [1], seed=2), evaluation("b", [1], seed=0)
    found = arms_of([late, evaluation("a", [1]), early])
    assert [(arm.name, arm.seeds) for arm in found] == [("b", (0, 2)), ("a", (None,))]


@pytest.mark.parametrize("seeds", [(1, 1), (None, 0), (None, None)])
def test_what_cannot_be_one_arm_is_refused(seeds: tuple[int | None, int | None]) -> None:
    with pytest.raises(ConfigError, match="NAME=PATH"):
        arms_of([evaluation("a", [1], seed=seed) for seed in seeds])


def test_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to compare"):
        arms_of([])
