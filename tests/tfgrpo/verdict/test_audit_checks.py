from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.rewards.extract import extract_answer
from tfgrpo.rewards.table import ExactReward
from tfgrpo.types import Score, Task, TaskOutcome
from tfgrpo.verdict.audit import (
    Check,
    Sampled,
    constant_answer,
    graded_again,
    guessing,
    hedges,
    shuffled_gold,
)
from tfgrpo.verdict.audit_form import copies, cut_off, failures, format_gain, twins, unread

EXACT = ExactReward()
NONE: dict[str, list[str]] = {}


def exact(task: Task, text: str) -> bool | None:
    score = EXACT.score(task, text)
    return score.correct if isinstance(score, Score) else None


def problem(
    name: str,
    gold: str,
    texts: Sequence[str],
    right: Sequence[bool] | None = None,
    dataset: str = "d",
    cut: int = 0,
) -> Sampled:
    """Texts are graded exactly unless `right` says otherwise; a word is a token."""
    task = Task(name, f"question {name}", gold, dataset, "test")
    answers = tuple(EXACT.read(text) for text in texts)
    correct = tuple(bool(exact(task, t)) for t in texts) if right is None else tuple(right)
    none = (None,) * len(texts)
    lengths = tuple(len(text.split()) for text in texts)
    outcome = TaskOutcome(name, dataset, correct, answers, none, none, lengths, cut)
    return Sampled(task, gold, outcome, tuple(texts))


def said(*answers: object) -> list[str]:
    return [f"Well.\nAnswer: {answer}" for answer in answers]


def honest(count: int = 20, n: int = 4) -> list[Sampled]:
    """Three of four answers are right; wrong ones are all different."""
    return [
        problem(f"p{i}", str(1000 + i), said(*[1000 + i] * (n - 1), 5000 + i)) for i in range(count)
    ]


def level(check: Check) -> tuple[str, float | None]:
    return check.level, check.value


# guessing -----------------------------------------------------------------------------------------


def test_guessing_by_hand() -> None:
    """Training answers 1, 1, 1, 2, 2, 3: one guess is right for 2 of 4 problems, two for 3."""
    train = {"d": ["1", "1", "1", "2", "2", "3"]}
    golds = ("1", "1", "2", "9")
    sure = [problem(f"p{i}", gold, said(gold, gold)) for i, gold in enumerate(golds)]
    found = guessing(sure, train)
    assert level(found) == ("look", 0.5)
    assert "50.0% of 100.0% at k = 1, 75.0% of 100.0% at k = 2" in found.finding
    assert "from k = 2 on" in found.finding
    blind = [problem(f"p{i}", gold, said(1, 1)) for i, gold in enumerate(golds)]
    assert level(guessing(blind, train)) == ("bad", 1.0)
    lost = [problem(f"p{i}", gold, said(7, 7)) for i, gold in enumerate(golds)]
    assert level(guessing(lost, train)) == ("bad", 1.0)


def test_a_guesser_knows_the_dataset() -> None:
    mixed = [
        problem("a", "1", said(1), dataset="ones"),
        problem("b", "2", said(2), dataset="twos"),
    ]
    assert guessing(mixed, {"ones": ["1"], "twos": ["2"]}).value == 1.0
    assert guessing(mixed, {"ones": ["1", "1", "2"], "twos": ["1", "1", "2"]}).value == 0.5


def test_without_training_answers_there_is_no_floor() -> None:
    assert level(guessing(honest(), NONE)) == ("look", None)
    assert level(guessing(honest(), {"d": ["7", "8"]})) == ("ok", 0.0)


# shuffled gold ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_verifier_that_asks_for_the_gold_takes_no_other(seed: int) -> None:
    assert level(shuffled_gold(honest(), exact, NONE, seed)) == ("ok", 0.0)


def test_a_verifier_that_accepts_everything_is_found() -> None:
    found = shuffled_gold(honest(6), lambda task, text: True, NONE, 0)
    assert level(found) == ("bad", 1.0)


def test_a_verifier_that_accepts_any_number_of_the_right_length_is_found() -> None:
    def lenient(task: Task, text: str) -> bool:
        answer = extract_answer(text).answer or ""
        return answer.isdigit() and len(answer) == len(task.answer or "")

    assert level(shuffled_gold(honest(6), lenient, NONE, 0)) == ("bad", 1.0)


def test_equal_golds_excuse_as_much() -> None:
    """Half of the golds are yes: the right reply to one problem is right for others, too."""
    golds = ["yes", "no"] * 20
    fair = [problem(f"p{i}", gold, said(gold)) for i, gold in enumerate(golds)]
    found = shuffled_gold(fair, exact, {"d": golds}, 3)
    assert found.level == "ok"
    assert 0.2 < (found.value or 0) < 0.8


def test_a_problem_alone_cannot_be_shuffled() -> None:
    lone = [problem("a", "1", said(1), dataset="a"), problem("b", "2", said(2), dataset="b")]
    assert level(shuffled_gold(lone, lambda task, text: True, NONE, 0)) == ("look", None)


@settings(max_examples=30)
@given(st.integers(2, 30), st.integers(0, 99))
def test_no_reply_meets_its_own_gold(count: int, seed: int) -> None:
    """Every problem lends its gold exactly once, and never to itself."""
    met: list[tuple[str, str]] = []

    def watch(task: Task, text: str) -> bool:
        met.append((task.task_id, text))
        return False

    shuffled_gold([problem(f"p{i}", "1", [f"p{i}"]) for i in range(count)], watch, NONE, seed)
    assert all(lender != borrower for lender, borrower in met)
    assert sorted(lender for lender, _ in met) == sorted(f"p{i}" for i in range(count))


# constant answers ---------------------------------------------------------------------------------


def test_one_answer_to_everything_is_found() -> None:
    seven = [problem(f"p{i}", str(i), said(7, 7, i + 50)) for i in range(12)]
    found = constant_answer(seven)
    assert level(found) == ("bad", 1.0)
    assert "'7' is 66.7% of all samples of d and the most frequent answer to 12 of 12" in (
        found.finding
    )


def test_an_answer_is_not_constant_where_it_is_right() -> None:
    yes = [problem(f"p{i}", "yes" if i % 2 else "no", said("yes")) for i in range(20)]
    fair = [problem(f"p{i}", "yes" if i % 2 else "no", said("yes" if i % 2 else "no"))
            for i in range(20)]  # fmt: skip
    assert constant_answer(yes).level == "bad"
    assert level(constant_answer(fair)) == ("ok", 0.0)


def test_a_dataset_with_a_constant_answer_is_found_among_others() -> None:
    sevens = [problem(f"q{i}", str(i), said(7), dataset="other") for i in range(10, 16)]
    found = constant_answer([*honest(40), *sevens])
    assert level(found) == ("bad", 1.0)
    assert "of other" in found.finding


def test_two_problems_that_happen_to_agree_are_no_constant() -> None:
    few = [*honest(18), problem("x", "1", said(3)), problem("y", "2", said(3))]
    assert constant_answer(few).level == "ok"
    assert level(constant_answer([problem("x", "1", ["nothing"])])) == ("ok", None)


# verifiers ----------------------------------------------------------------------------------------


def test_a_record_that_its_verifier_contradicts_is_bad() -> None:
    wrongly = [*honest(5), problem("x", "1", said(2, 1), right=(True, True))]
    assert level(graded_again(honest(5), exact)) == ("ok", 0.0)
    found = graded_again(wrongly, exact)
    assert level(found) == ("bad", 1 / 22)
    assert found.examples == ("right became x (gold 1): Well. Answer: 2",)


def test_a_second_verifier_is_for_a_person_to_judge() -> None:
    found = graded_again(honest(8), lambda task, text: False, "other")
    assert level(found) == ("look", 0.75)
    assert len(found.examples) == 3


def test_what_cannot_be_graded_again_is_no_disagreement() -> None:
    found = graded_again(honest(5), lambda task, text: None)
    assert level(found) == ("ok", 0.0)
    assert "20 could not be graded" in found.finding


def test_hedged_replies_may_not_count_as_right() -> None:
    both = "Answer: 1\nAnswer: 2"
    wrong, right = (problem("x", "1", [both], right=(r,)) for r in (False, True))
    assert level(hedges(honest(20))) == ("ok", 0.0)
    assert level(hedges([*honest(5), wrong])) == ("look", 1 / 21)
    assert level(hedges([*honest(40), right])) == ("bad", 1 / 161)


# form ---------------------------------------------------------------------------------------------


def test_shares_of_form_by_hand() -> None:
    samples = [
        problem("a", "1", ["Answer: 1", "no idea at all", "Answer: 1", "hm"], cut=1),
        replace(problem("b", "2", said(2, 2, 2, 2)), failures=("transport: dead", "grading: slow")),
    ]
    samples[1] = replace(samples[1], outcome=replace(samples[1].outcome, failures=2))
    assert level(cut_off(samples)) == ("look", 1 / 8)
    assert level(unread(samples)) == ("bad", 2 / 8)
    assert "mean length 2.6 tokens" in unread(samples).finding
    assert level(failures(samples)) == ("bad", 2 / 10)
    assert failures(samples).finding == "2 samples failed (transport 1, grading 1)"
    assert level(copies(samples, 1.0)) == ("ok", 0.5)


def test_copies_are_found_and_wanted_at_temperature_0_only() -> None:
    same = [problem(f"p{i}", "1", said(1, 1, 1)) for i in range(5)]
    assert level(copies(same, 1.0)) == ("bad", 1.0)
    assert level(copies(same, 0.0)) == ("look", 1.0)
    assert level(copies([problem("p", "1", said(1))], 1.0)) == ("ok", None)


def test_a_gain_of_form_is_told_from_a_gain_of_skill() -> None:
    """From r = 1/2, a = 1/2 to r = 1, a = 1/2: all of the gain of 25 points is form."""
    base = [problem(f"p{i}", "1", [*said(1, 2), "hm", "hm"]) for i in range(4)]
    form = [problem(f"p{i}", "1", said(1, 1, 2, 2)) for i in range(4)]
    skill = [problem(f"p{i}", "1", [*said(1, 1), "hm", "hm"]) for i in range(4)]
    found = format_gain(base, form)
    assert level(found) == ("bad", pytest.approx(0.25))
    assert "pass@1 +25.0 points, of which form +25.0; no answer -50.0" in found.finding
    assert level(format_gain(base, skill)) == ("ok", 0.0)
    assert level(format_gain(base, base)) == ("ok", 0.0)
    other = [replace(s, task=replace(s.task, task_id="elsewhere")) for s in form]
    assert level(format_gain(base, other)) == ("look", None)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_form_and_skill_add_up_to_the_gain(seed: int) -> None:
    """form = (r' - r) a, and what is left of the gain is r' (a' - a)."""
    rng = random.Random(seed)

    def drawn() -> list[Sampled]:
        return [problem(f"p{i}", "1", [rng.choice(("Answer: 1", "Answer: 2", "hm"))
                for _ in range(4)]) for i in range(6)]  # fmt: skip

    base, arm = drawn(), drawn()

    def shares(samples: list[Sampled]) -> tuple[float, float]:
        answers = [a for s in samples for a in s.outcome.answers]
        read = sum(a is not None for a in answers)
        return read / len(answers), answers.count("1") / max(1, read)

    (r, a), (q, b) = shares(base), shares(arm)
    assert format_gain(base, arm).value == pytest.approx((q * b - r * a) - q * (b - a))


def test_runs_with_the_same_texts_are_one_run() -> None:
    base = honest(10)
    other = [problem(s.task.task_id, "1", said(i, i + 1)) for i, s in enumerate(base)]
    assert level(twins(base, list(reversed(base)))) == ("bad", 1.0)
    assert level(twins(base, other)) == ("ok", 0.0)
    assert level(twins(base, [*base[:6], *other[6:]])) == ("look", 0.6)
    assert level(twins(base, [])) == ("ok", None)
