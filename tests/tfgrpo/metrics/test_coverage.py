"""How often nominal 95% intervals hold the truth, on synthetic evaluations of known skill."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tfgrpo.metrics.calibration import ece, ece_floor
from tfgrpo.metrics.claims import detectable
from tfgrpo.metrics.clusters import cluster_bootstrap, clustered_t, macro_mean
from tfgrpo.metrics.columns import simultaneous_band
from tfgrpo.metrics.estimate import bootstrap_mean, sign_flip_p, t_interval
from tfgrpo.metrics.pass_at_k import pass_at_k
from tfgrpo.metrics.seeds import crossed_mean
from tfgrpo.types import Estimate

pytestmark = pytest.mark.slow

SETS, DRAWS, N, K = 600, 1000, 64, 8
Experiment = Callable[[np.random.Generator, int], tuple[Estimate, float]]
TABLE = np.array([pass_at_k(N, c, K) for c in range(N + 1)])
TRUE = 1 - np.prod([(1 + i) / (1.3 + i) for i in range(K)])  # 1 - E(1-p)^K, p ~ Beta(.3, 1)


def evaluated(rng: np.random.Generator, size: int) -> np.ndarray:
    return TABLE[rng.binomial(N, rng.beta(0.3, 1, size))]


def sets() -> Iterator[tuple[np.random.Generator, int]]:
    return ((np.random.default_rng([7, i]), i) for i in range(SETS))


def bca(size: int) -> Experiment:
    def run(rng: np.random.Generator, seed: int) -> tuple[Estimate, float]:
        return bootstrap_mean(evaluated(rng, size), seed, resamples=DRAWS), float(TRUE)

    return run


def student(rng: np.random.Generator, seed: int) -> tuple[Estimate, float]:
    return t_interval(evaluated(rng, 30)), float(TRUE)


def clustered(robust: bool) -> Experiment:
    """60 sources of 1 to 6 problems each that share most of their difficulty."""

    def run(rng: np.random.Generator, seed: int) -> tuple[Estimate, float]:
        sizes = rng.integers(1, 7, 60)
        names = [f"{c:02}" for c in np.repeat(np.arange(60), sizes)]
        x = np.repeat(rng.gamma(2, 1, 60), sizes) + rng.normal(0, 0.5, len(names))
        if robust:
            return clustered_t(x, names), 2.0
        return cluster_bootstrap(x, names, seed, resamples=DRAWS), 2.0

    return run


def macro(rng: np.random.Generator, seed: int) -> tuple[Estimate, float]:
    x = [*evaluated(rng, 40), *rng.beta(2, 2, 160)]
    strata = ["a"] * 40 + ["b"] * 160
    return macro_mean(x, strata, seed, resamples=DRAWS), float(TRUE + 0.5) / 2


def crossed(seed_spread: float) -> Experiment:
    def run(rng: np.random.Generator, seed: int) -> tuple[Estimate, float]:
        effects = rng.normal(0, seed_spread, (5, 1)) + rng.normal(0, 0.3, (1, 60))
        return crossed_mean(0.1 + effects + rng.normal(0, 0.2, (5, 60))), 0.1

    return run


@pytest.mark.parametrize(
    "experiment",
    [bca(30), bca(100), bca(300), student, clustered(False), clustered(True), macro, crossed(0.1)],
    ids=["bca-30", "bca-100", "bca-300", "t", "cluster-bca", "cluster-t", "macro", "crossed"],
)
def test_coverage_of_the_nominal_95_percent(experiment: Experiment) -> None:
    covered = 0
    for rng, seed in sets():
        interval, truth = experiment(rng, seed)
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / SETS <= 0.98


def test_ignoring_clusters_or_seeds_would_not_cover() -> None:
    naive_clusters = naive_seeds = 0
    for rng, _ in sets():
        sizes = rng.integers(1, 7, 60)
        x = np.repeat(rng.gamma(2, 1, 60), sizes) + rng.normal(0, 0.5, int(sizes.sum()))
        interval = t_interval(x)
        naive_clusters += interval.low <= 2.0 <= interval.high
        table = rng.normal(0, 0.1, (5, 1)) + rng.normal(0, 0.3, (1, 60))
        averaged = t_interval((table + rng.normal(0, 0.2, (5, 60))).mean(axis=0))
        naive_seeds += averaged.low <= 0.0 <= averaged.high
    assert naive_clusters / SETS < 0.85
    assert naive_seeds / SETS < 0.9


def test_seeds_without_an_effect_cost_no_more_than_caution() -> None:
    covered = 0
    for rng, seed in sets():
        interval, truth = crossed(0.0)(rng, seed)
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / SETS <= 0.995


def test_a_simultaneous_band_holds_the_whole_curve() -> None:
    ks = (1, 2, 4, 8, 16)
    tables = np.array([[pass_at_k(N, c, k) for k in ks] for c in range(N + 1)])
    truth = [1 - np.prod([(1 + i) / (1.3 + i) for i in range(k)]) for k in ks]
    covered = 0
    for rng, seed in sets():
        columns = tables[rng.binomial(N, rng.beta(0.3, 1, 100))]
        band = simultaneous_band(columns, seed, resamples=DRAWS)
        covered += all(b.low <= t <= b.high for b, t in zip(band, truth, strict=True))
    assert 0.92 <= covered / SETS <= 0.98


def test_equal_arms_are_told_apart_in_5_percent_and_the_detectable_in_80() -> None:
    null = found = 0
    for rng, seed in sets():
        d = rng.normal(0, 0.25, 100)
        null += sign_flip_p(d, seed, draws=999) <= 0.05
        shifted = t_interval(d + 2.8016 * 0.25 / 10)
        found += shifted.low > 0
        assert detectable(shifted) == pytest.approx(0.07, rel=0.35)
    assert 0.02 <= null / SETS <= 0.08
    assert 0.75 <= found / SETS <= 0.85


def test_calibrated_answers_lie_around_their_floor() -> None:
    gaps = []
    for rng, seed in sets():
        q = rng.beta(2, 1, 100)
        gaps.append(ece(q.tolist(), (rng.random(100) < q).tolist()))
        if seed == 0:
            floor = ece_floor(q.tolist(), seed, draws=2000)
    assert np.mean(gaps) == pytest.approx(floor, rel=0.1)
