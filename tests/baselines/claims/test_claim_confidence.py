"""Claims on calibration, on replies whose scores are known."""

from __future__ import annotations

import pytest

from baselines.claims.confidence import agreement, brier_reward, overconfidence
from tests.baselines.claims.arms import outcome
from tfgrpo.types import TaskOutcome

FIXTURE = [(0.9, True), (0.6, False), (0.8, True), (0.3, True), (0.2, False)]
"""Brier .188, as worked out by hand: (.01 + .36 + .04 + .49 + .04) / 5."""


def arm(answers: str, right: str, problems: int = 40) -> list[TaskOutcome]:
    """Problems with these answers, one letter each ('-': none); `right` are the right ones."""
    found = []
    for i in range(problems):
        said = [None if a == "-" else a for a in answers]
        o = outcome(f"p{i}", 0, len(said), answers=said)
        correct = tuple(a in right for a in answers)
        found.append(TaskOutcome(o.task_id, o.dataset, correct, *rest(o)))
    return found


def rest(o: TaskOutcome) -> tuple[tuple[object, ...], ...]:
    return o.answers, o.modes, o.entropies, o.lengths  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("answers", "right", "expected"),
    [
        ("aaab", "a", (0.75, 1.0)),
        ("aaab", "b", (0.75, 0.0)),
        ("aabb", "a", (0.5, 0.5)),  # a tie is half right
        ("a---", "a", (0.25, 1.0)),  # no answer is no agreement
        ("----", "a", (0.0, 0.0)),
    ],
)
def test_agreement(answers: str, right: str, expected: tuple[float, float]) -> None:
    assert agreement(arm(answers, right)[0]) == pytest.approx(expected)


def test_sure_of_the_wrong_answer_is_overconfident() -> None:
    found = overconfidence([arm("aabc", "a")], [arm("bbbb", "a")])
    assert found.value == pytest.approx(1.0 - (0.5 - 1.0))
    assert found.verdict == "supported"


def test_agreeing_more_without_exceeding_what_is_right_is_not() -> None:
    found = overconfidence([arm("aabc", "a")], [arm("aaab", "a")])
    assert found.value == pytest.approx(0.25)
    assert found.verdict == "not supported"


def test_the_brier_score_of_the_fixture() -> None:
    calibrated = {f"p{i}": [(1.0, True), (0.0, False)] for i in range(60)}
    rough = {f"p{i}": FIXTURE for i in range(60)}
    found = brier_reward([rough], [calibrated])
    assert found.value == pytest.approx(0.188)
    assert found.verdict == "supported"
    assert "binary: Brier 0.188, ECE 0.360, AUROC 0.83, right 60.0%" in found.detail
    assert brier_reward([calibrated], [rough]).verdict == "not supported"


def test_silence_is_no_calibration() -> None:
    half = {f"p{i}": [(None, True), (1.0, True)] for i in range(60)}
    loud = {f"p{i}": [(1.0, True), (1.0, True)] for i in range(60)}
    found = brier_reward([half], [loud])
    assert found.value == pytest.approx(0.125)
    assert "silent 50.0%" in found.detail
    mute = {f"p{i}": [(None, True), (None, True), (0.5, True)] for i in range(60)}
    with pytest.raises(ValueError, match="state no confidence"):
        brier_reward([loud], [mute])
