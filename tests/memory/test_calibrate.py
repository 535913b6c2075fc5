from __future__ import annotations

import numpy as np
import pytest

from memory.search.calibrate import (
    PROBES,
    calibrate,
    chance_level,
    probe,
    random_pair_cosines,
    require_same_space,
)
from memory.search.embed import FingerprintMismatch, HashingEmbedder, unit_rows


def test_chance_level_is_the_quantile_of_random_pairs() -> None:
    rows = unit_rows(np.random.default_rng(1).normal(size=(300, 64)))
    every = (rows @ rows.T)[np.triu_indices(300, k=1)]
    drawn = random_pair_cosines(rows, pairs=20_000, seed=3)
    assert len(drawn) == 20_000
    assert chance_level(drawn) == pytest.approx(np.quantile(every, 0.995), abs=0.02)
    # Independent directions in d dimensions: cosine ~ N(0, 1/d).
    assert chance_level(drawn) == pytest.approx(2.576 / 8, abs=0.03)
    all_pairs = random_pair_cosines(rows[:20], pairs=190, seed=0)
    np.testing.assert_allclose(all_pairs, (rows[:20] @ rows[:20].T)[np.triu_indices(20, k=1)],
                               atol=1e-6)  # fmt: skip


def test_no_pair_is_a_row_with_itself() -> None:
    rows = np.eye(300, dtype=np.float32)
    assert random_pair_cosines(rows, pairs=5_000, seed=0).max() == 0


def test_calibration_ignores_copies() -> None:
    embedder = HashingEmbedder(dim=256)
    words = ["alpha", "Beta two", "gamma?", "1234", "delta x"]
    once = calibrate(embedder, words)
    assert calibrate(embedder, words * 5 + [w.upper() for w in words]).texts == 5
    assert once.pairs == 10
    assert calibrate(embedder, words * 5).floor == once.floor < 0.9
    with pytest.raises(ValueError, match="two different texts"):
        calibrate(embedder, ["same", "SAME "])


def test_probes_detect_a_moved_space() -> None:
    kept = probe(HashingEmbedder(dim=64))
    assert kept.shape == (len(PROBES), 64)
    require_same_space(kept, probe(HashingEmbedder(dim=64)))
    with pytest.raises(FingerprintMismatch, match="probe cosine"):
        require_same_space(kept, probe(HashingEmbedder(dim=64, sizes=(2, 3))))
    with pytest.raises(FingerprintMismatch, match="re-embed"):
        require_same_space(kept, probe(HashingEmbedder(dim=32)))
