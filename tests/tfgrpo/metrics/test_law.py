"""The fitted law R = -a exp(H) + b."""

from __future__ import annotations

import numpy as np
import pytest

from tfgrpo.metrics.law import fit_law


def test_the_golden_fit() -> None:
    """a = 0.18, b = 0.52, 36 entropies from 1.2 to 0.05, noise 0.002."""
    entropies = np.linspace(1.2, 0.05, 36)
    noise = 0.002 * np.random.default_rng(0).standard_normal(36)
    law = fit_law(list(-0.18 * np.exp(entropies) + 0.52 + noise), list(entropies), 0)
    assert law.a.value == pytest.approx(0.17996, abs=1e-5)
    assert law.b.value == pytest.approx(0.51970, abs=1e-5)
    assert law.a.low < 0.18 < law.a.high
    assert law.b.low < 0.52 < law.b.high
    assert law.ceiling.value == pytest.approx(law.b.value - law.a.value)
    assert law.r_squared > 0.99
    assert law.rmse < 0.003


def test_without_noise_the_fit_is_exact_and_its_intervals_are_points() -> None:
    entropies = [1.0 - 0.05 * i for i in range(12)]
    law = fit_law([0.9 - 0.2 * float(np.exp(h)) for h in entropies], entropies, 1)
    assert law.a.low == pytest.approx(0.2)
    assert law.a.high == pytest.approx(0.2)
    assert law.rmse == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("rewards", "entropies", "message"),
    [([0.1] * 7, [0.1] * 7, "at least 8"), ([0.1] * 9, [0.5] * 9, "same in all steps")],
)
def test_what_cannot_be_fitted_is_said(
    rewards: list[float], entropies: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_law(rewards, entropies, 0)
