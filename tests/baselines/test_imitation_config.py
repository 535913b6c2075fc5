"""What fine-tuning may be asked for, and what is refused before anything is loaded."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from baselines.imitation_config import (
    POCKET,
    Distil,
    Diverse,
    ExpertIteration,
    Gem,
    ImitateSpec,
    Rejection,
    check,
)
from tfgrpo.errors import ConfigError
from tfgrpo.settings import load, to_toml


def spec_of(*overrides: str) -> ImitateSpec:
    return load(ImitateSpec, None, overrides, POCKET)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("rejection:runs/a:b", Rejection(path=Path("runs/a:b"))),
        ("distil:lessons.txt", Distil(path=Path("lessons.txt"))),
        ("diverse", Diverse()),
        ("expert_iteration", ExpertIteration(rounds=2, samples=16)),
    ],
)
def test_a_source_can_be_written_as_a_string(text: str, source: object) -> None:
    """The pocket settings belong to one kind of source, and go when another is asked for."""
    spec = spec_of(f"source={text}")
    assert spec.source == source
    check(spec)
    assert load(ImitateSpec, None, (), tomllib.loads(to_toml(spec))) == spec


@pytest.mark.parametrize("text", ["rejection", "rejection:", "distil", "diverse:4", "sft"])
def test_a_string_that_names_no_source_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no source of demonstrations; write rejection:RUN"):
        spec_of(f"source={text}")


def test_the_loss_is_a_kind_with_its_published_default() -> None:
    assert spec_of("loss=gem").loss == Gem(beta=0.7)
    for beta in (0, 1.5):
        with pytest.raises(ConfigError, match=r"loss\.beta: "):
            spec_of("loss=gem", f"loss.beta={beta}")


def test_problems_are_needed_where_replies_are_sampled() -> None:
    bare = load(ImitateSpec, None, ["source=diverse"])
    with pytest.raises(ConfigError, match="tasks are missing"):
        check(bare)
    check(load(ImitateSpec, None, ["source=rejection:runs/a"]))


def test_all_that_does_not_go_together_is_told_at_once() -> None:
    spec = spec_of("source=diverse", "source.samples=3", "sampling.temperature=0.0")
    with pytest.raises(ConfigError) as told:
        check(spec)
    assert "Greedy replies" in str(told.value)
    assert "4 of 3 replies cannot be kept" in str(told.value)
    check(spec_of("source=distil:a", "source.samples=1", "sampling.temperature=0.0"))
