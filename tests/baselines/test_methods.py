"""The named methods: complete, sane, and each other than GRPO where it says so."""

from __future__ import annotations

import pytest

from baselines.config import TrainSpec, check
from baselines.methods import METHODS, POCKET, Method, method, pocket
from baselines.objective.selection import selected_count
from baselines.objective.spec import ObjectiveSpec
from tfgrpo.errors import ConfigError
from tfgrpo.settings import load, merged


def spec_of(name: str, *overrides: str) -> TrainSpec:
    planning = ["planning=['then']"] if name == "hicra" else []
    table = merged(POCKET, {**METHODS[name].settings, "method": name})
    return load(TrainSpec, None, [*planning, *overrides], table)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_run_as_it_stands(name: str) -> None:
    spec = spec_of(name)
    check(spec)
    assert spec.objective == METHODS[name].objective or name == "rlcr"


@pytest.mark.parametrize("name", METHODS)
def test_the_pocket_changes_only_sizes_rates_and_the_share_of_clip_cov(name: str) -> None:
    planning = ["planning=['then']"] if name == "hicra" else []
    spec = load(TrainSpec, None, planning, {**pocket(name), "method": name})
    check(spec)
    assert (spec.updates_per_rollout > 1) == (METHODS[name].settings.get("minibatches", 1) > 1)
    if name == "clip-cov":
        assert spec.objective.dropping is not None
        tokens = 13_000 // spec.minibatches
        assert selected_count(spec.objective.dropping.share, tokens, at_least_one=False) > 0
        assert selected_count(2e-4, tokens, at_least_one=False) == 0
    else:
        assert spec.objective == METHODS[name].objective


@pytest.mark.parametrize("found", METHODS.values(), ids=METHODS)
def test_every_method_cites_its_source_and_equations(found: Method) -> None:
    assert found.source.startswith("arXiv ") or found.source == "Williams 1992"
    for part in found.parts:
        assert part.equation
        assert part.source


def test_no_two_methods_are_the_same() -> None:
    settings = [repr(sorted(found.settings.items())) for found in METHODS.values()]
    assert len(set(settings)) == len(settings)


def test_objectives_survive_a_round_trip_through_json() -> None:
    for found in METHODS.values():
        objective = found.objective
        assert ObjectiveSpec.model_validate_json(objective.model_dump_json()) == objective


def test_an_unknown_method_is_told_with_its_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean clip-cov"):
        method("clipcov")
    with pytest.raises(ConfigError, match="tfgrpo methods"):
        method("zzzzzz")


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("kl-cov", "minibatches=1", "kl_cov is inert"),
        ("gspo", "minibatches=1", "sequence ratio is inert"),
        ("rloo", "group_size=1", "set group_size to 2 or more"),
        ("pass-at-k", "group_size=2", "needs at least 4 replies"),
        ("maxrl", "rewards=[{kind='signed'}]", "rewards of 0 and 1 only"),
        ("grpo", "sampling.top_p=0.9", "set sampling.top_p to 1"),
        ("grpo", "sampling.temperature=0.0", "set sampling.temperature above 0"),
        ("grpo", "minibatches=64", "lower minibatches or raise prompts"),
        ("grpo", "refill=2", "set keep to informative"),
    ],
)
def test_nonsense_is_refused_before_any_compute(name: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(spec_of(name, override))


def test_planning_methods_need_patterns() -> None:
    with pytest.raises(ConfigError, match="list their patterns"):
        check(load(TrainSpec, None, [], merged(POCKET, dict(METHODS["hicra"].settings))))
