from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.objective import spec as s
from baselines.objective.controllers import AdaptiveBonus, AdaptiveClip, Controllers, RepoZeta
from tests.baselines.objective.cases import current, of, plan_of, random_batch

entropies = st.lists(st.floats(0, 3), max_size=40)
STEERED = {
    "adaptive_entropy": of(terms=(s.AdaptiveEntropy(target=0.5, low=0.01),)),
    "repo_r": of(transforms=(s.RepoR(),)),
    "repo_d": of(transforms=(s.RepoD(target=0.5),)),
    "adapo": of(surrogate=s.Adapo()),
}


def trace(controller: AdaptiveBonus | RepoZeta | AdaptiveClip, *entropies: float) -> list[float]:
    values = []
    for entropy in entropies:
        controller.update(entropy)
        values.append(controller.value)
    return values


# golden traces --------------------------------------------------------------------------------


def test_the_adaptive_bonus_follows_the_entropy() -> None:
    bonus = AdaptiveBonus(target=0.2, delta=0.005, low=0.0, high=1.0)
    found = trace(bonus, 0.5, 0.3, 0.15, 0.1, 0.15, 0.25, 0.3)
    assert found == pytest.approx([0, 0, 0.005, 0.01, 0.015, 0.01, 0.005])


def test_the_adaptive_bonus_acts_at_or_below_its_target_only() -> None:
    bonus = AdaptiveBonus(target=0.2, delta=0.005, low=0.0, high=1.0, value=0.3)
    assert [bonus.active(H) for H in (0.1, 0.2, 0.2001)] == [0.3, 0.3, 0.0]


def test_zeta_halves_turns_and_doubles() -> None:
    zeta = RepoZeta(value=1e-3, low=1e-4, high=0.05, target=1.0)
    down = trace(zeta, *[2.0] * 5)
    up = trace(zeta, *[0.5] * 8)
    assert down == pytest.approx([5e-4, 2.5e-4, 1.25e-4, -1e-4, -2e-4])
    assert up == pytest.approx([-1e-4, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3, 6.4e-3])


def test_zeta_starts_from_nought_and_stops_at_its_bounds() -> None:
    assert trace(RepoZeta(0.0, 1e-4, 3e-4, 1.0), *[0.5] * 4) == [1e-4, 2e-4, 3e-4, 3e-4]
    assert trace(RepoZeta(0.0, 1e-4, 3e-4, 1.0), *[2.0] * 4) == [-1e-4, -2e-4, -3e-4, -3e-4]


def test_zeta_rests_on_its_target() -> None:
    assert trace(RepoZeta(1e-3, 1e-4, 0.05, 1.0), 1.0, 1.0) == [1e-3, 1e-3]


def test_the_upper_clip_widens_below_its_target() -> None:
    clip = AdaptiveClip(value=0.28, step=0.02, least=0.24, most=0.32, target=1.0)
    assert trace(clip, *[0.5] * 3) == pytest.approx([0.30, 0.32, 0.32])
    assert trace(clip, *[1.5] * 5) == pytest.approx([0.30, 0.28, 0.26, 0.24, 0.24])


@pytest.mark.parametrize(
    "controller", [RepoZeta(1e-3, 1e-4, 0.05), AdaptiveClip(0.28, 0.02, 0.2, 1.0)]
)
def test_without_a_target_the_first_entropy_becomes_it(controller: RepoZeta | AdaptiveClip) -> None:
    before = controller.value
    assert trace(controller, 0.7) == [before]
    assert controller.target == 0.7
    assert trace(controller, 0.6)[0] > before
    assert controller.target == 0.7


# bounds ---------------------------------------------------------------------------------------


@given(entropies)
def test_values_stay_within_their_bounds(entropies: list[float]) -> None:
    bonus = AdaptiveBonus(target=1.0, delta=0.3, low=0.0, high=1.0)
    zeta = RepoZeta(value=1e-3, low=1e-4, high=0.05)
    clip = AdaptiveClip(value=0.28, step=0.1, least=0.2, most=0.6)
    assert all(0 <= value <= 1 for value in trace(bonus, *entropies))
    assert all(1e-4 <= abs(value) <= 0.05 for value in trace(zeta, *entropies))
    assert all(0.2 <= value <= 0.6 for value in trace(clip, *entropies))


@given(entropies, st.floats(0, 3), st.floats(0, 3))
def test_a_lower_entropy_never_leads_to_a_lower_coefficient(
    entropies: list[float], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    for make in (
        lambda: AdaptiveBonus(target=1.0, delta=0.3, low=0.0, high=1.0),
        lambda: RepoZeta(value=1e-3, low=1e-4, high=0.05, target=1.0),
        lambda: AdaptiveClip(value=0.28, step=0.1, least=0.2, most=0.6, target=1.0),
    ):
        assert trace(make(), *entropies, low)[-1] >= trace(make(), *entropies, high)[-1]


# all controllers of an objective --------------------------------------------------------------


def test_an_objective_without_steered_parts_has_no_controllers() -> None:
    controllers = Controllers(of())
    controllers.update(0.3)
    assert controllers.values() == {}
    assert controllers.bonus(0.0) == 0.0
    assert controllers.state_dict() == {}


@pytest.mark.parametrize(
    ("kind", "start"),
    [("adaptive_entropy", 0.01), ("repo_r", 1e-3), ("repo_d", 1e-3), ("adapo", 0.28)],
)
def test_each_starts_as_its_part_says(kind: str, start: float) -> None:
    controllers = Controllers(STEERED[kind])
    assert controllers.values() == {kind: start}
    assert controllers.value(kind) == start


@pytest.mark.parametrize("kind", STEERED)
@given(before=entropies, after=entropies)
def test_a_restored_controller_goes_on_as_if_nothing_had_happened(
    kind: str, before: list[float], after: list[float]
) -> None:
    whole, first, second = (Controllers(STEERED[kind]) for _ in range(3))
    for entropy in before:
        whole.update(entropy)
        first.update(entropy)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for entropy in after:
        whole.update(entropy)
        second.update(entropy)
    assert second.state_dict() == whole.state_dict()
    assert second.bonus(0.4) == whole.bonus(0.4)


@pytest.mark.parametrize("kind", STEERED)
def test_settling_a_plan_moves_no_controller(kind: str) -> None:
    controllers = Controllers(STEERED[kind])
    controllers.update(0.7)
    before = controllers.state_dict()
    batch = random_batch()
    plan_of(STEERED[kind], batch, current(batch), controllers)
    assert controllers.state_dict() == before


def test_plans_use_the_controllers_values() -> None:
    batch = random_batch()
    scan = current(batch)
    moved = {}
    for kind in ("repo_r", "repo_d", "adapo"):
        objective = STEERED[kind]
        controllers = Controllers(objective)
        before = plan_of(objective, batch, scan, controllers)
        for _ in range(3):
            controllers.update(5.0)
            controllers.update(0.0)
            controllers.update(0.0)
        after = plan_of(objective, batch, scan, controllers)
        moved[kind] = (before, after)
    assert not moved["repo_r"][0].A.equal(moved["repo_r"][1].A)
    assert not moved["repo_d"][0].A.equal(moved["repo_d"][1].A)
    assert moved["adapo"][0].upper_clip == 0.28
    assert moved["adapo"][1].upper_clip > 0.28


@pytest.mark.parametrize(("target", "bonus"), [(9.0, 0.015), (0.0, 0.0)])
def test_the_bonus_enters_the_plan_below_its_target(target: float, bonus: float) -> None:
    objective = of(terms=(s.AdaptiveEntropy(target=target, low=0.0),))
    controllers = Controllers(objective)
    for _ in range(3):
        controllers.update(0.0)
    batch = random_batch()
    found = plan_of(objective, batch, current(batch), controllers).bonus
    assert found == pytest.approx(bonus)
