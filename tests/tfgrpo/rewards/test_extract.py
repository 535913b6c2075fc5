"""One final answer per reply, from its slot, in linear time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.rewards.extract import TAIL, Extraction, extract_answer, last_boxed


@pytest.mark.parametrize(
    "reply",
    [
        "Answer: 42",
        "answer : 42",
        "ANSWER: 42.",
        "3 * 4 = 12\n**Answer:** 42\n",
        "**Answer: 42**",
        "**Answer**: 42",
        "`Answer: 42`",
        "> Answer: 42",
        "The answer is 42.",
        "So the final answer is: $42$",
        "Therefore, the answer is \\(42\\).",
        "### Final Answer:\n\n\\[ \\boxed{42} \\]",
        "Answer:\n```\n42\n```",
        "Answer: \\boxed{42}\nConfidence: 0.8",
        "We get \\boxed{ 42 }, as wanted.",
        "\\boxed{\\boxed{42}}",
        "#### 42",
        "#### Step by step\nwork\n#### 42",
        "#### Summary\nAnswer: 42",
        "<answer>\n 42 \n</answer>",
        "<ANSWER>\\boxed{42}</ANSWER>",
        "<think>Answer: 7</think>Answer: 42",
        "so 7\n</think>\n#### 42",
        "Answer: 42\nAnswer: 42.0\nanswer: $42$",
        "\\boxed{7} is half-way.\nAnswer: 42",
        "Answer: 7 or so\nNo:\n\\boxed{42}",
    ],
)
def test_each_form_of_slot_gives_its_answer(reply: str) -> None:
    found = extract_answer(reply)
    assert found.status == "found"
    assert found.answer in {"42", "42.0"}


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "42",
        "Answer:",
        "The answer, 42, is wrong",
        "In my answer: no",
        "\\boxed{42",
        "\\boxed{}",
        "\\boxed\\{42\\}",
        "<answer>42",
        "<answer></answer>",
        "<think>Answer: 42",
        "Answer: 42</think>",
        "##### 42",
    ],
)
def test_no_slot_is_missing(reply: str) -> None:
    assert extract_answer(reply) == Extraction(None, "missing")


@pytest.mark.parametrize(
    "reply",
    [
        "Answer: 41\nAnswer: 42",
        "\\boxed{41} or \\boxed{42}",
        "#### 41\n#### 42",
        "<answer>41</answer><answer>42</answer>",
        "Answer: 42\n" * 9 + "Answer: 43",
    ],
)
def test_two_distinct_answers_in_one_kind_of_slot_conflict(reply: str) -> None:
    assert extract_answer(reply) == Extraction(None, "conflicting")


def test_braces_balance_and_escaped_braces_are_text() -> None:
    assert extract_answer(r"\boxed{\frac{1}{2}}").answer == r"\frac{1}{2}"
    assert extract_answer(r"\boxed{\{1, 2\}}").answer == r"\{1, 2\}"
    assert last_boxed(r"first \boxed{1}, then \boxed{\sqrt{2}}.") == r"\sqrt{2}"
    assert last_boxed("none") is None


FORMS = [
    "Answer: {}",
    "**Answer:** {}",
    "The answer is {}",
    "\\boxed{{{}}}",
    "#### {}",
    "<answer>{}</answer>",
    "<think>Answer: 0</think>\nAnswer: $\\boxed{{{}}}$",
]
PLAIN = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9/+-]{0,20}", fullmatch=True)


@given(PLAIN, st.sampled_from(FORMS), st.sampled_from(["", "First 3 + 4 = 7.\n", "\n\n"]))
def test_formatted_answers_round_trip(answer: str, form: str, before: str) -> None:
    assert extract_answer(before + form.format(answer) + "\n") == Extraction(answer, "found")


@given(st.text(alphabet=st.sampled_from(list("{}\\<>/#*:\n $answerboxed12")), max_size=200))
def test_any_text_gives_an_answer_exactly_when_found(text: str) -> None:
    found = extract_answer(text)
    assert (found.answer is not None) == (found.status == "found")
    assert found.answer is None or found.answer.strip()


HOSTILE = [
    "\\boxed{",
    "\\boxed{}",
    "\\boxed{1}",
    "\\boxed{\\boxed{1}",
    "}",
    "<answer>",
    "<answer>1</answer>",
    "Answer:\n",
    "Answer: ",
    "Answer: $",
    "Answer: 1\n",
    "answer is",
    "#",
    "#### 1\n",
    "*",
    "\n",
    "<think>",
    "the ",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_megabyte_of_anything_ends(unit: str) -> None:
    """Quadratic work on a megabyte would take hours here."""
    text = unit * (1_000_000 // len(unit))
    assert extract_answer(text).status in {"found", "missing"}


def test_a_megabyte_of_nesting_ends() -> None:
    deep = "\\boxed{" * 100_000 + "1" + "}" * 100_000
    assert extract_answer(deep).status == "missing"  # its beginning lies beyond what is read
    shallow = "\\boxed{" * 10_000 + "1" + "}" * 10_000
    assert extract_answer(shallow).status == "found"
    assert extract_answer("\\boxed{" * 400 + "1" + "}" * 400).answer == "1"


def test_an_answer_is_found_at_the_end_of_a_reply_that_runs_on() -> None:
    assert extract_answer("Answer: 1\n" + "x " * TAIL + "\nAnswer: 2").answer == "2"
    assert extract_answer("<think>" + "x " * TAIL + "\nAnswer: 2").status == "missing"
