"""The law R = -a exp(H) + b as a prediction, and as a curve beside which a library stands."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.claims.law import Trajectory, entropy_law, library_on_curve
from tests.baselines.claims.arms import outcome
from tfgrpo.types import TaskOutcome

A, B = 0.2, 0.8
NATS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.3, 0.2)


def on_the_law(nats: float) -> float:
    return B - A * float(np.exp(nats))


EXACT = Trajectory(tuple(map(on_the_law, NATS)), NATS)
BENT = Trajectory((*EXACT.accuracy[:3], *(0.4 for _ in NATS[3:])), NATS)


def test_the_fixture_lies_on_its_law() -> None:
    points = [EXACT.accuracy[NATS.index(h)] for h in (1.0, 0.5, 0.2)]
    assert points == pytest.approx([0.256344, 0.470256, 0.555719], abs=5e-7)


def test_a_run_on_the_law_is_predicted_by_its_first_fifth() -> None:
    found = entropy_law([EXACT, EXACT])
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.verdict == "supported"
    assert "R^2 of all 1.00, a 0.20, b 0.80" in found.detail
    assert "law of the first 3 errs by 0.0 points" in found.detail


def test_a_run_that_leaves_the_law_is_not() -> None:
    """Oracle: the line through the first three steps, and the least squares line of all."""
    found = entropy_law([BENT])
    x, y = np.exp(NATS), np.array(BENT.accuracy)
    early = np.array([on_the_law(h) for h in NATS])
    table = np.stack([x, np.ones_like(x)], axis=1)
    whole = table @ np.linalg.lstsq(table, y, rcond=None)[0]
    errors = [float(np.sqrt(np.mean((line - y)[3:] ** 2))) for line in (early, whole)]
    assert found.value == pytest.approx(errors[0] - errors[1])
    assert found.verdict == "not supported"


def test_short_and_still_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 steps"):
        entropy_law([Trajectory((0.1,) * 5, NATS[:5])])
    with pytest.raises(ValueError, match="same in all steps"):
        entropy_law([Trajectory((0.1,) * 9, (0.3,) * 9)])


def policy(right: int, nats: float, problems: int = 80) -> list[TaskOutcome]:
    """Every problem `right` times of 100 right; half of the problems a little easier."""
    return [outcome(f"p{i}", right + (1 if i % 2 else -1), 100, nats=nats) for i in range(problems)]


@pytest.mark.parametrize(
    ("right", "nats", "excess", "said"),
    [
        # From 1 nat to 0.2 the law buys .2 (e - e^.2) = .299.
        (60, 0.2, 0.0006, "supported"),
        (70, 0.2, 0.1006, "supported"),
        (50, 0.2, -0.0994, "not supported"),
        (30, 1.0, 0.0, "supported"),
        (40, 1.3, 0.290, "supported"),  # more right and more entropy
    ],
)
def test_a_library_is_measured_against_what_its_entropy_buys(
    right: int, nats: float, excess: float, said: str
) -> None:
    found = library_on_curve([policy(30, 1.0)], [policy(right, nats)], [EXACT])
    assert found.value == pytest.approx(excess, abs=6e-4)
    assert found.verdict == said


def test_a_curve_that_explains_nothing_is_no_ground_to_stand_on() -> None:
    rng = np.random.default_rng(0)
    noise = Trajectory(tuple(rng.uniform(0.2, 0.6, len(NATS)).tolist()), NATS)
    found = library_on_curve([policy(30, 1.0)], [policy(90, 1.0)], [noise])
    assert found.verdict == "inconclusive"


def test_seeds_of_library_and_curve_go_together() -> None:
    found = library_on_curve([policy(30, 1.0)], [policy(60, 0.2), policy(70, 0.2)], [EXACT] * 2)
    assert found.value == pytest.approx(0.0506, abs=6e-4)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        library_on_curve([policy(30, 1.0)], [policy(60, 0.2)] * 2, [EXACT])
