"""Simulated arms: how often each is right on each problem, by seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tfgrpo.verdict.arms import Family

Values = NDArray[np.float64]
SAMPLES = 64
KS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Sort:
    """A simulated arm: log-odds gained on every problem, and how far problems are pulled apart."""

    name: str
    family: Family
    gain: float = 0.0
    sharper: float = 1.0
    entropy: float = 0.62
    seeds: int = 1


SORTS = (
    Sort("base", "base"),
    Sort("base T=1.2", "base", -0.25, 0.9, 0.81),
    Sort("empty", "control", 0.0),
    Sort("placebo", "control", -0.05, entropy=0.6),
    Sort("library", "context", 0.45, 1.05, 0.58, 3),
    Sort("case memory", "context", 0.7, 1.1, 0.55, 3),
    Sort("drawn", "context", 0.15, 1.0, 0.61, 3),
    Sort("grpo", "weights", 1.1, 1.8, 0.22, 3),
    Sort("grpo kl-cov", "weights", 1.15, 1.5, 0.38, 3),
    Sort("drgrpo clip-higher", "weights", 1.0, 1.4, 0.41, 3),
    Sort("dapo", "weights", 1.05, 1.6, 0.3, 3),
    Sort("rft", "weights", 0.8, 1.5, 0.33, 3),
    Sort("grpo + library", "both", 1.3, 1.7, 0.24, 3),
)
FEW = (SORTS[0], SORTS[4], SORTS[7])


@dataclass(frozen=True, slots=True)
class Sampled:
    """Rates and counts of shape (S, P), and pass@k of the counts, (S, P, K)."""

    sort: Sort
    counts: NDArray[np.int64]
    curve: Values


def sampled(sort: Sort, problems: int, seed: int = 7) -> Sampled:
    base = np.random.default_rng(seed).normal(-1.0, 2.2, problems)
    rng = np.random.default_rng([seed, sum(map(ord, sort.name))])
    logits = sort.sharper * base + sort.gain
    noise = rng.normal(0.0, 0.35, (sort.seeds, problems)) + rng.normal(0, 0.08, (sort.seeds, 1))
    counts = rng.binomial(SAMPLES, 1 / (1 + np.exp(-(logits + noise))))
    curve = np.stack([_passes(counts, k) for k in range(1, SAMPLES + 1)], axis=-1)
    return Sampled(sort, counts, curve)


def _passes(counts: NDArray[np.int64], k: int) -> Values:
    """1 - C(n-c, k) / C(n, k)."""
    wrong = np.array([math.comb(SAMPLES - c, k) for c in range(SAMPLES + 1)], dtype=np.float64)
    return np.asarray(1.0 - wrong[counts] / math.comb(SAMPLES, k))
