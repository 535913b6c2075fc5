from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.read.guard import (
    Guard,
    GuardedCase,
    GuardedItem,
    Verdict,
    inspect,
    leaked_answer,
    only_numbers_differ,
    question_hash,
)
from memory.search.sentence import SentenceEmbedder, packaged_minilm

WHERE = "Where was Andrew Cunningham born?"
WHEN = "When was Andrew Cunningham born?"
ITEM = GuardedItem("item-1", WHEN, ("Rathmines", "7 January 1883"))


def case(case_id: int = 1, **fields: object) -> GuardedCase:
    plain = {"item_id": "other", "question": "Who wrote Emma?", "rendered": "Look it up."}
    return GuardedCase(case_id, **{**plain, **fields})


def judge(case: GuardedCase, **guard: object) -> Verdict:
    return inspect(ITEM, [case], Guard(**guard))[case.case_id]


def rules(verdict: Verdict) -> list[str]:
    return [finding.rule for finding in verdict.findings]


def test_an_unrelated_case_is_shown() -> None:
    verdict = judge(case(cosine=0.3))
    assert verdict == Verdict(1)
    assert verdict.blocked_by is None


def test_where_and_when_are_withheld_from_each_other() -> None:
    """The pair has a cosine of 0.99: unfit to merge, too near to show."""
    verdict = judge(case(question=WHERE, cosine=0.993))
    assert verdict.blocked_by == "near duplicate (cosine 0.993)"
    assert question_hash(WHERE) != question_hash(WHEN)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left", "right"),
    [
        (WHERE, WHEN),
        (
            "Who is the paternal grandmother of Louis the Pious?",
            "Who is the paternal grandfather of Louis the Pious?",
        ),
        ("What is the most northerly town of Wales?", "What is the most southerly town of Wales?"),
    ],
)
def test_minilm_takes_near_questions_for_one(left: str, right: str) -> None:
    first, second = SentenceEmbedder(packaged_minilm()).embed_queries([left, right])
    near = case(question=left, cosine=float(first @ second))
    verdict = inspect(GuardedItem("i", right), [near], Guard())[1]
    assert rules(verdict) == ["near duplicate"]
    assert verdict.blocked_by is not None


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"item_id": "item-1"}, "same item"),
        ({"question": "  when was ANDREW Cunningham  born"}, "same question"),
        ({"cosine": 0.90}, "near duplicate"),
        ({"rendered": "He was born in RATHMINES, Dublin."}, "gold answer"),
        ({"rendered": "born on 7  January, 1883."}, "gold answer"),
    ],
)
def test_each_rule_blocks_an_evaluation(fields: dict[str, object], rule: str) -> None:
    verdict = judge(case(**fields))
    assert rules(verdict) == [rule]
    assert verdict.blocked_by is not None
    assert verdict.blocked_by.startswith(rule)


@pytest.mark.parametrize(
    "fields",
    [
        {"cosine": 0.8999},
        {"rendered": "Rathminesian customs"},
        {"rendered": "7 January 1884"},
        {"item_id": ""},
    ],
)
def test_a_near_miss_is_shown(fields: dict[str, object]) -> None:
    assert judge(case(**fields)) == Verdict(1)


def test_items_without_a_name_are_not_the_same_item() -> None:
    verdicts = inspect(GuardedItem("", WHEN), [case(item_id="")], Guard())
    assert verdicts[1] == Verdict(1)


@pytest.mark.parametrize(("denied", "blocked"), [("test", True), ("*", True), ("train", False)])
def test_denied_splits(denied: str, blocked: bool) -> None:
    verdict = judge(
        case(dataset="aime", split="test"), denied=frozenset({("aime", denied)})
    )  # fmt: skip
    assert (verdict.blocked_by == "denied split (aime/test)") is blocked
    assert judge(case(dataset="math", split="test"), denied=frozenset({("aime", "*")})) == Verdict(
        1
    )


def test_blame_runs_down_the_lineage() -> None:
    family = [
        case(1, item_id="item-1"),
        case(2, parents=(1,)),
        case(3, parents=(9, 2)),
        case(4, parents=(5,)),
        case(5),
        case(9),
    ]
    verdicts = inspect(ITEM, family, Guard())
    assert rules(verdicts[1]) == ["same item"]
    assert verdicts[2].blocked_by == verdicts[3].blocked_by == "blocked ancestor (case 1)"
    assert all(verdicts[i] == Verdict(i) for i in (4, 5, 9))


def test_an_ancestor_that_nobody_can_look_at_clears_nothing() -> None:
    family = [case(2, parents=(77,)), case(3, parents=(2,))]
    verdicts = inspect(ITEM, family, Guard())
    assert [rules(v) for v in verdicts.values()] == [["unknown ancestor"]] * 2
    assert verdicts[3].blocked_by == "unknown ancestor (case 77)"
    assert inspect(ITEM, family, Guard(phase="practice"))[3].blocked_by is None


def test_a_circle_of_ancestors_ends() -> None:
    circle = [case(1, parents=(2,)), case(2, parents=(1,), item_id="item-1"), case(3, parents=(3,))]
    verdicts = inspect(ITEM, circle, Guard())
    assert rules(verdicts[1]) == ["blocked ancestor"]
    assert rules(verdicts[2]) == ["same item"]
    assert verdicts[3] == Verdict(3)


SUSPICIOUS = [
    case(1, item_id="item-1"),
    case(2, question=WHEN),
    case(3, question=WHERE, cosine=0.99),
    case(4, rendered="Rathmines"),
    case(5, dataset="aime", split="test"),
    case(6, parents=(1,)),
    case(7, parents=(3,)),
]
DENIED = frozenset({("aime", "test")})


def test_practice_bars_the_own_item_and_the_evaluation_only() -> None:
    practice = inspect(ITEM, SUSPICIOUS, Guard(phase="practice", denied=DENIED))
    assert [i for i, v in practice.items() if v.blocked_by] == [1, 2, 5, 6]
    assert rules(practice[3]) == ["near duplicate"]
    evaluation = inspect(ITEM, SUSPICIOUS, Guard(denied=DENIED))
    assert [i for i, v in evaluation.items() if v.blocked_by] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("phase", ["practice", "evaluation"])
def test_warn_reports_the_same_and_blocks_nothing(phase: str) -> None:
    strict = inspect(ITEM, SUSPICIOUS, Guard(phase=phase, denied=DENIED))
    warn = inspect(ITEM, SUSPICIOUS, Guard(mode="warn", phase=phase, denied=DENIED))
    assert [rules(v) for v in warn.values()] == [rules(v) for v in strict.values()]
    assert all(v.blocked_by is None for v in warn.values())
    off = inspect(ITEM, SUSPICIOUS, Guard(mode="off", phase=phase, denied=DENIED))
    assert list(off.values()) == [Verdict(c.case_id) for c in SUSPICIOUS]


@pytest.mark.parametrize(
    ("left", "right", "template"),
    [
        ("Compute 12 + 7 * 3.", "Compute 4 * (90 - 2)", True),
        ("Tom has 3 apples and buys 4.", "Tom has 13 apples and buys 4.", True),
        ("A car costs 1,200 euros.", "A car costs 900 euros.", True),
        ("Sum the list: 1, 2, 3", "Sum the list: 7 8 9 10", True),
        ("What is 3 + 4?", "What is 4 + 3?", False),
        ("A car costs 1,200 euros.", "A car costs 1200 euros.", False),
        ("Tom has 3 apples.", "Tim has 4 apples.", False),
        (WHERE, WHEN, False),
        ("Where did he live in 1990?", "When did he live in 1991?", False),
    ],
)
def test_only_numbers_differ(left: str, right: str, template: bool) -> None:
    assert only_numbers_differ(left, right) is template
    assert only_numbers_differ(right, left) is template
    near = case(question=left, cosine=0.95)
    verdict = inspect(GuardedItem("i", right), [near], Guard())[1]
    assert rules(verdict) == ["other numbers" if template else "near duplicate"]
    assert (verdict.blocked_by is None) is template


def test_a_whole_templated_dataset_is_not_blocked() -> None:
    bank = [case(i, question=f"Compute {i} + {i + 7} * 3.", cosine=0.97) for i in range(50)]
    verdicts = inspect(GuardedItem("i", "Compute 99 + 1 * 3."), bank, Guard())
    assert all(rules(v) == ["other numbers"] and v.blocked_by is None for v in verdicts.values())


@pytest.mark.parametrize(
    ("answer", "text", "leaks"),
    [
        ("São Paulo", "the city of sao  PAULO.", True),
        ("1,234,567", "about 1234567 people", True),
        ("3.14", "pi is 3.14!", True),
        ("Rome", "romeo", False),
        ("Rome", "in Rome", True),
        ("yes", "yes", False),
        ("12", "12", False),
        ("don't know", "I don’t know", True),
        ("東京都庁", "彼は東京都庁で働く", True),
        ("", "anything", False),
        ("Ｒｏｍｅ", "rome", True),
    ],
)
def test_leaked_answers(answer: str, text: str, leaks: bool) -> None:
    assert leaked_answer([answer], text) == (answer if leaks else None)


@given(st.text(max_size=40), st.text(max_size=40), st.text("abcdé 12", min_size=4, max_size=12))
def test_an_answer_between_words_is_always_found(left: str, right: str, answer: str) -> None:
    planted = f"{left} , {answer} ; {right}"
    bare_length = len("".join(answer.split()))
    if bare_length >= 4:
        assert leaked_answer([answer], planted) == answer


@given(st.lists(st.integers(0, 4), max_size=3), st.lists(st.sampled_from(SUSPICIOUS), max_size=7,
       unique_by=lambda c: c.case_id))  # fmt: skip
def test_verdicts_do_not_depend_on_the_order(parents: list[int], bank: list[GuardedCase]) -> None:
    known = {c.case_id for c in bank}
    extra = [*bank, case(50, parents=tuple(p for p in parents if p in known))]
    assert inspect(ITEM, extra, Guard()) == inspect(ITEM, extra[::-1], Guard())


def test_planted_leaks_are_all_found_and_nothing_else() -> None:
    items = [GuardedItem(f"q{i}", f"Which river flows by town {chr(97 + i)}?") for i in range(20)]
    bank = [case(i, item_id=f"old{i}", question=f"Name colour {chr(97 + i)}") for i in range(20)]
    bank += [
        case(100 + i, item_id="copied", question=item.question.upper())
        for i, item in enumerate(items[:7])
    ]
    found = {
        (item.item_id, i)
        for item in items
        for i, verdict in inspect(item, bank, Guard()).items()
        if verdict.blocked_by
    }
    assert found == {(f"q{i}", 100 + i) for i in range(7)}


def test_inputs_are_checked() -> None:
    with pytest.raises(ValueError, match="judged once"):
        inspect(ITEM, [case(1), case(1)], Guard())
    with pytest.raises(ValueError, match="finite"):
        inspect(ITEM, [case(1, cosine=math.nan)], Guard())
