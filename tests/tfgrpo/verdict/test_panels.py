"""Panels of arms are averaged over seeds within each problem, on equal numbers of samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tfgrpo.verdict.folders import evaluated
from tests.tfgrpo.verdict.outcomes import outcome
from tfgrpo.metrics.diversity import rarefied_entropy
from tfgrpo.verdict.arms import arms_of
from tfgrpo.verdict.judge import judge
from tfgrpo.verdict.own import read_own
from tfgrpo.verdict.panels import with_panels
from tfgrpo.verdict.record import Question

N = 20


def test_each_seed_weighs_the_same(tmp_path: Path) -> None:
    evaluated(tmp_path / "base", [outcome("p", N, 5), outcome("q", N, 0)])
    for seed, right in enumerate((N, 10)):
        evaluated(tmp_path / f"arm-{seed}", [outcome("p", N, right), outcome("q", N, right)])
    arms = arms_of(read_own(tmp_path))
    verdict = with_panels(judge(arms, Question("base", N, 8)), arms)
    # Right answers are one class and wrong ones all differ; 16 of 20 samples are looked at.
    entropies = [rarefied_entropy(counts, 16) for counts in ([N], [10, *[1] * 10])]
    found = verdict.arm("arm").panel["answer_entropy"]
    assert found.value == pytest.approx(sum(entropies) / 2)
    assert found.n == 2
    assert verdict.arm("base").panel_correct["distinct_correct"].n == 1  # q has no right sample
    assert "ead" not in verdict.arm("arm").panel  # no token ids were kept


def test_without_texts_nothing_is_claimed(tmp_path: Path) -> None:
    evaluated(tmp_path / "base", [outcome("p", N, 5)])
    arms = arms_of([replace(e, source="") for e in read_own(tmp_path)])
    verdict = judge(arms, Question("base", N, 8))
    assert with_panels(verdict, arms) == verdict
