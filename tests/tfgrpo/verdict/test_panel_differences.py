"""Views of diversity against the base: paired by problem and seed, with intervals and no tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tfgrpo.verdict.folders import evaluated
from tests.tfgrpo.verdict.outcomes import outcome
from tfgrpo.metrics.diversity import rarefied_entropy
from tfgrpo.metrics.panel import PANEL, Matching
from tfgrpo.types import TaskOutcome
from tfgrpo.verdict.arms import arms_of
from tfgrpo.verdict.details import PanelDifference
from tfgrpo.verdict.judge import judge
from tfgrpo.verdict.own import read_own
from tfgrpo.verdict.panel_differences import Panels, panel_differences
from tfgrpo.verdict.panels import with_panels
from tfgrpo.verdict.record import Question, Verdict

N = 20
MATCHING = Matching(vocabulary=9, fork_above=0.5)


def completed(folder: Path, base: str = "base") -> Verdict:
    arms = arms_of(read_own(folder))
    return with_panels(judge(arms, Question(base, N, 8, resamples=200), allow_missing=True), arms)


def counts(*right: int) -> list[TaskOutcome]:
    return [outcome(f"p{i}", N, c) for i, c in enumerate(right)]


def entropy(right: int) -> float:
    """Of 16 of 20 samples: the right ones are one class, the wrong ones all differ."""
    return rarefied_entropy([right, *[1] * (N - right)], 16)


def found(verdict: Verdict, arm: str, name: str, of: str = "all") -> PanelDifference:
    (one,) = (d for d in verdict.diversity if (d.b, d.name, d.of) == (arm, name, of))
    return one


def test_a_difference_is_the_mean_of_what_each_problem_changes(tmp_path: Path) -> None:
    base, arm = (0, 5, 10), (N, 10, 10)
    evaluated(tmp_path / "base", counts(*base))
    evaluated(tmp_path / "arm", counts(*arm))
    d = found(completed(tmp_path), "arm", "answer_entropy")
    assert (d.a, d.difference.n) == ("base", 3)
    assert d.of_a == pytest.approx(fmean(map(entropy, base)))
    assert d.of_b == pytest.approx(fmean(map(entropy, arm)))
    assert d.difference.value == pytest.approx(d.of_b - d.of_a)
    assert not {"p", "p_value", "holm_p"} & {f.name for f in fields(d)}


def test_correct_samples_compare_on_the_problems_that_both_have_enough_of(tmp_path: Path) -> None:
    evaluated(tmp_path / "base", counts(3, 4, N, N))
    evaluated(tmp_path / "arm", counts(N, N, N, 3))
    verdict = completed(tmp_path)
    assert found(verdict, "arm", "vendi", "correct").difference.n == 2
    assert found(verdict, "arm", "vendi", "all").difference.n == 4
    assert verdict.arm("base").panel_correct["vendi"].n == 3  # levels rest on other problems


def test_arms_that_were_trained_are_paired_by_the_seeds_that_they_share(tmp_path: Path) -> None:
    for seed, right in ((0, 5), (1, 10)):
        evaluated(tmp_path / f"base-{seed}", counts(right, right))
    for seed, right in ((1, N), (2, 0)):
        evaluated(tmp_path / f"arm-{seed}", counts(right, right))
    evaluated(tmp_path / "frozen", counts(0, N))
    verdict = completed(tmp_path)
    both = found(verdict, "arm", "answer_entropy")
    assert (both.of_a, both.of_b) == (pytest.approx(entropy(10)), pytest.approx(0.0))
    frozen = found(verdict, "frozen", "answer_entropy")
    assert frozen.of_a == pytest.approx((entropy(5) + entropy(10)) / 2)
    assert frozen.of_b == pytest.approx((entropy(0) + entropy(N)) / 2)


def test_a_few_problems_that_differ_get_an_exact_interval(tmp_path: Path) -> None:
    """With none that differs a bootstrap has no width; 1 - 0.025^(1/30) of problems may yet."""
    evaluated(tmp_path / "base", counts(*[10] * 30))
    evaluated(tmp_path / "arm", counts(*[10] * 30))
    d = found(completed(tmp_path), "arm", "distinct_correct").difference
    reach = 16 * (1 - 0.025 ** (1 / 30))
    assert (d.value, d.low, d.high) == (0.0, pytest.approx(-reach), pytest.approx(reach))
    assert d.method == "paired clopper-pearson"


def test_what_no_problem_has_in_both_arms_is_left_out(tmp_path: Path) -> None:
    evaluated(tmp_path / "base", counts(0, 0))
    evaluated(tmp_path / "arm", counts(N, N))
    verdict = completed(tmp_path)
    assert {d.of for d in verdict.diversity} == {"all"}
    assert "ead" not in {d.name for d in verdict.diversity}  # no token ids were kept


VALUE = st.floats(0.1, 3.0)
PANELS: st.SearchStrategy[Panels] = st.dictionaries(
    st.integers(0, 2),
    st.fixed_dictionaries(
        {name: st.dictionaries(st.sampled_from("pqrs"), VALUE, max_size=4) for name in PANEL}
    ),
    min_size=1,
    max_size=3,
)


def ends(found: Sequence[PanelDifference]) -> list[tuple[str, float, float, float]]:
    return [(d.name, d.difference.value, d.difference.low, d.difference.high) for d in found]


@settings(max_examples=25, deadline=None)
@given(PANELS, PANELS)
def test_swapping_the_arms_turns_every_difference_round(a: Panels, b: Panels) -> None:
    one = panel_differences(("a", a), ("b", b), MATCHING, "all", 0, 50)
    other = panel_differences(("b", b), ("a", a), MATCHING, "all", 0, 50)
    names = [d.name for d in one]
    assert names == [name for name in PANEL if name in names]
    turned = [(name, -value, -high, -low) for name, value, low, high in ends(other)]
    for (name, *left), (twin, *right) in zip(ends(one), turned, strict=True):
        assert name == twin
        assert left == pytest.approx(right, nan_ok=True, abs=1e-9)
    same = panel_differences(("a", a), ("a", a), MATCHING, "all", 0, 50)
    assert all(d.difference.value == 0 and d.of_a == d.of_b for d in same)
    assert not any(math.isnan(d.difference.value) for d in (*one, *same))
