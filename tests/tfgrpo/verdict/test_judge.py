"""A verdict agrees with the one-metric estimators, and says no more than they do."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from tests.tfgrpo.verdict.outcomes import arms, evaluation
from tfgrpo.errors import ConfigError
from tfgrpo.metrics.seeds import seeded_difference
from tfgrpo.metrics.summary import compare_averages, summarise
from tfgrpo.verdict.arms import Arm, Evaluation
from tfgrpo.verdict.judge import Square, judge
from tfgrpo.verdict.record import Question

N = 16
QUESTION = Question("base", N, 4, resamples=2_000)


def drawn(name: str, skill: float, seed: int | None, problems: int = 60) -> Evaluation:
    """Problems of one difficulty each, the same in every arm, drawn by independent samples."""
    levels = random.Random("levels")
    rng = random.Random(f"{name} {seed}")
    hard = [levels.random() for _ in range(problems)]
    counts = [sum(rng.random() < skill * (1 - h) for _ in range(N)) for h in hard]
    return evaluation(name, counts, N, seed, family="base" if name == "base" else "context")


@pytest.fixture(scope="module")
def three() -> tuple[Arm, ...]:
    tuned = [drawn("tuned", 0.95, seed) for seed in range(3)]
    same = [drawn("same", 0.5, seed) for seed in range(3)]
    return arms(drawn("base", 0.5, None), *tuned, *same)


def test_it_agrees_with_the_estimators_of_single_metrics(three: tuple[Arm, ...]) -> None:
    verdict = judge(three, QUESTION)
    base, tuned = three[0].runs[0].outcomes, [run.outcomes for run in three[1].runs]
    summary = summarise(base, (1, N), 0)
    assert verdict.arm("base").curve[1].value == pytest.approx(summary.pass_at_k[1].value)
    assert verdict.arm("base").curve[N].value == pytest.approx(summary.pass_at_k[N].value)
    assert verdict.arm("base").figures["answer_entropy"].value == pytest.approx(
        summary.answer_entropy.value
    )
    averages = {c.name: c for c in compare_averages([base] * 3, tuned, (1, 4, N), 0)}
    judgement = verdict.judgements[0]
    for name in ("pass@1", "pass@4", f"pass@{N}", "distinct_correct@4"):
        found, expected = judgement.differences[name].problems, averages[name]
        assert found.difference.value == pytest.approx(expected.difference.value)
        assert found.difference.low == pytest.approx(expected.difference.low, abs=0.02)
        assert found.difference.high == pytest.approx(expected.difference.high, abs=0.02)
        assert (found.a, found.b) == (pytest.approx(expected.a), pytest.approx(expected.b))


def test_seeds_are_a_level_of_their_own(three: tuple[Arm, ...]) -> None:
    found = judge(three, QUESTION).judgements[0].differences["pass@1"]
    base, tuned = (
        [{o.task_id: o.c / o.n for o in run.outcomes} for run in arm.runs] for arm in three[:2]
    )
    expected = seeded_difference("pass@1", base, tuned, 0)
    assert found.by_seed == pytest.approx(expected.by_seed)
    assert found.seeds.low == pytest.approx(expected.seeds.low)
    assert found.crossed.low == pytest.approx(expected.crossed.low)
    assert found.holds


def test_a_gain_is_claimed_and_no_gain_is_not(three: tuple[Arm, ...]) -> None:
    tuned, same = judge(three, QUESTION).judgements
    assert "tuned gains on base at one sample" in tuned.sentence
    assert "3/3 seeds agree" in tuned.sentence
    assert "is not told apart from base" in same.sentence
    assert "would have been found" in same.sentence
    assert "gains on" not in same.sentence


def test_holm_runs_over_all_arms_and_endpoints(three: tuple[Arm, ...]) -> None:
    alone = judge(three[:2], QUESTION).judgements[0]
    among = judge(three, QUESTION).judgements[0]
    assert len(alone.claims) == len(QUESTION.endpoints)
    for one, many in zip(alone.claims, among.claims, strict=True):
        assert one.comparison == many.comparison
        assert many.holm_p >= one.holm_p


def test_swapping_a_duel_negates_it(three: tuple[Arm, ...]) -> None:
    there, back = judge(three, QUESTION, duels=[("tuned", "same"), ("same", "tuned")]).duels
    for name, found in there.differences.items():
        d, e = found.problems.difference, back.differences[name].problems.difference
        assert (d.value, d.low, d.high) == pytest.approx((-e.value, -e.high, -e.low), abs=1e-9)


def test_arms_that_never_differ_are_not_thereby_equal() -> None:
    """Nothing differs at k = n on 20 problems: up to 16.8% of problems could still differ."""
    found = judge(arms(evaluation("base", [N] * 20, N), evaluation("b", [N] * 20, N)), QUESTION)
    difference = found.judgements[0].differences[f"pass@{N}"].problems.difference
    bound = 1 - 0.025 ** (1 / 20)
    assert (difference.low, difference.high) == pytest.approx((-bound, bound))
    assert "nothing is shown" in found.judgements[0].sentence


def test_the_square_is_the_difference_of_differences() -> None:
    corners = {"base": [4, 4], "context": [8, 4], "weights": [8, 8], "both": [12, 12]}
    found = judge(
        arms(*(evaluation(name, counts, N) for name, counts in corners.items())),
        QUESTION,
        square=Square("base", "context", "weights", "both"),
    )
    assert found.interaction is not None
    # (12 - 8) - (8 - 4) = 0 and (12 - 8) - (4 - 4) = 4 of 16 samples.
    assert found.interaction.effects["pass@1"].value == pytest.approx(fmean([0, 4 / N]))


def test_the_same_arms_give_the_same_verdict(three: tuple[Arm, ...]) -> None:
    assert judge(three, QUESTION) == judge(three, QUESTION)


def test_solved_sets_and_crossing_are_those_of_the_curves() -> None:
    base, tuned = evaluation("base", [1, 1, 1, 0], N), evaluation("tuned", [N, 0, 0, 0], N)
    (found,) = judge(arms(base, tuned), QUESTION).judgements
    assert (found.solved.both, found.solved.a_only) == (("p0",), ("p1", "p2"))
    assert found.solved_twice.b_only == ("p0",)
    assert found.crossover is not None
    k = found.crossover.estimate.k
    # The base solves three problems with chance k/16 each; 3k/16 reaches 1 at k = 6.
    assert k == 6


@pytest.mark.parametrize(("base", "duels"), [("nobody", []), ("base", [("base", "nobody")])])
def test_an_arm_that_is_not_there_is_named(base: str, duels: list[tuple[str, str]]) -> None:
    both = arms(evaluation("base", [1]), evaluation("b", [1]))
    with pytest.raises(ConfigError, match=r"no arm 'nobody' among base, b"):
        judge(both, Question(base, 4, 2), duels=duels)


def test_arms_without_a_common_seed_cannot_be_paired() -> None:
    runs = [evaluation("a", [1], seed=0), evaluation("a", [1], seed=1)]
    runs += [evaluation("b", [1], seed=2), evaluation("b", [1], seed=3)]
    with pytest.raises(ConfigError, match="share no seed"):
        judge(arms(*runs), Question("a", 4, 2))
