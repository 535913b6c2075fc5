"""The view of diversity by meaning: asked for, frozen on the base, told in the settings."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cli.commands import tfgrpo
from tests.tfgrpo.verdict.folders import evaluated
from tests.tfgrpo.verdict.outcomes import outcome
from tfgrpo.errors import ConfigError
from tfgrpo.metrics.diversity import rarefied_entropy
from tfgrpo.verdict.arms import arms_of
from tfgrpo.verdict.judge import judge
from tfgrpo.verdict.meanings import Meanings
from tfgrpo.verdict.own import read_own
from tfgrpo.verdict.panels import with_panels
from tfgrpo.verdict.record import Question

N = 20


def by_number(texts: Sequence[str]) -> NDArray[np.float32]:
    """Replies mean what their number leaves over when divided: by 2 for the base, by 4 else."""
    rows = np.zeros((len(texts), 8), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        name, _, number = text.split()
        row[int(number) % (2 if name == "base" else 4)] = 1.0
    return rows


def test_meanings_are_counted_in_classes_on_equal_numbers_of_samples(tmp_path: Path) -> None:
    evaluated(tmp_path / "base", [outcome("p", N, 8), outcome("q", N, 8)])
    evaluated(tmp_path / "arm", [outcome("p", N, 8), outcome("q", N, 8)])
    arms = arms_of(read_own(tmp_path))
    bare = judge(arms, Question("base", N, 8))
    verdict = with_panels(bare, arms, Meanings("numbers", by_number))
    expected = {
        "base": math.exp(rarefied_entropy([10, 10], 16)),
        "arm": math.exp(rarefied_entropy([5] * 4, 16)),
    }
    for name, value in expected.items():
        assert verdict.arm(name).panel["meanings"].value == pytest.approx(value)
    right = math.exp(rarefied_entropy([4, 4], 4))
    assert verdict.arm("base").panel_correct["meanings"].value == pytest.approx(right)
    (gain,) = (d for d in verdict.diversity if (d.name, d.of) == ("meanings", "all"))
    assert gain.difference.value == pytest.approx(expected["arm"] - expected["base"])
    assert verdict.settings["meanings"] == {"embedder": "numbers", "cosine": 1.0}
    # All else is as it was without them.
    plain = with_panels(bare, arms)
    assert "meanings" not in plain.arm("base").panel
    assert plain.diversity == tuple(d for d in verdict.diversity if d.name != "meanings")


def test_one_reply_a_problem_has_no_threshold_and_a_cosine_has_bounds(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="draw two or more"):
        Meanings("numbers", by_number).frozen_on([])
    with pytest.raises(ConfigError, match=r"not 1\.5; use 0\.9"):
        Meanings("numbers", by_number, 1.5)
    assert Meanings("numbers", by_number, 0.7).frozen_on([]) == 0.7


@pytest.mark.slow
def test_a_real_encoder_in_the_report(tmp_path: Path) -> None:
    for name in ("base", "arm"):
        evaluated(tmp_path / name, [outcome(p, 4, 2) for p in "pqrst"])
    report = tmp_path / "report"
    tfgrpo(
        "compare", tmp_path / "base", tmp_path / "arm", "--base", "base",
        "--report", report, "--meanings", "minilm",
    )  # fmt: skip
    found = json.loads((report / "verdict.json").read_bytes())
    assert 0 < found["settings"]["meanings"]["cosine"] <= 1
    assert len(found["arms"]) == 2
    assert all(1 <= arm["panel"]["meanings"]["value"] <= 4 for arm in found["arms"])
    assert "meanings of replies" in (report / "report.html").read_text()


def test_meanings_need_a_report(tmp_path: Path) -> None:
    evaluated(tmp_path / "base", [outcome("p", 4, 2)])
    refused = tfgrpo("compare", tmp_path / "base", "--meanings", "minilm", code=2)
    assert "add --report" in refused.stderr
    refused = tfgrpo("compare", tmp_path / "base", "--same-meaning", "0.9", code=2)
    assert "add --meanings minilm" in refused.stderr
