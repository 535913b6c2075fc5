"""Canonical numbers, texts and letters, and equality over them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.rewards.exact import (
    canonical_answer,
    canonical_choice,
    canonical_number,
    canonical_string,
    canonical_text,
    exact_equal,
    is_lowest_terms,
    numeric_equal,
    rational_equal,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", Fraction(42)),
        (" +42. ", Fraction(42)),
        ("-7", Fraction(-7)),
        ("\N{MINUS SIGN}7", Fraction(-7)),
        ("- 7", Fraction(-7)),
        ("007", Fraction(7)),
        (".5", Fraction(1, 2)),
        ("-0.125", Fraction(-1, 8)),
        ("1,234,567.5", Fraction(2469135, 2)),
        ("1{,}000", Fraction(1000)),
        (r"1,\!000", Fraction(1000)),
        ("$18$", Fraction(18)),
        (r"\$18", Fraction(18)),
        ("6/4", Fraction(3, 2)),
        ("-6 / 4", Fraction(-3, 2)),
        ("0.5/2", Fraction(1, 4)),
        (r"\frac{6}{4}", Fraction(3, 2)),
        (r"-\dfrac{1}{3}", Fraction(-1, 3)),
        (r"\frac{-1}{3}", Fraction(-1, 3)),
        (r"-\frac{-1}{3}", Fraction(1, 3)),
        (r"$\tfrac12$", Fraction(1, 2)),
    ],
)
def test_written_forms_of_numbers(text: str, value: Fraction) -> None:
    assert canonical_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        ".",
        "50%",
        r"50\%",
        "1e5",
        "1_2",
        "0x0c",
        "12 apples",
        "2 0 4",
        "12,34",
        "0,123",
        "1,5",
        "1/0",
        r"\frac{1}{0}",
        "1/2/3",
        "--1",
        "nan",
        "inf",
        "٤٢",
        "\uff14\uff12",
        "²",
        "½",
        "__import__('os')",
        "(" * 100 + "1" + ")" * 100,
        "9" * 201,
        "9" * 10_000,
        "-" * 10_000,
        "1," * 5_000,
    ],
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert canonical_number(text) is None


@given(st.fractions(max_denominator=10**6))
def test_numbers_round_trip(value: Fraction) -> None:
    assert canonical_number(str(value)) == value
    assert canonical_answer(str(value)) == str(value)
    assert is_lowest_terms(str(value))


@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_separators_and_trailing_zeros_do_not_matter(value: int, zeros: int) -> None:
    assert canonical_number(f"{value:,}" + "." + "0" * zeros) == value


@given(st.text(max_size=300))
def test_canonical_forms_are_idempotent(text: str) -> None:
    once = canonical_text(text)
    assert exact_equal(text, text)
    assert canonical_text(once) in {once, once.removesuffix(".").rstrip()}


def test_texts() -> None:
    assert canonical_string("  Hello \n World. ") == "Hello World"
    assert canonical_text(r"\text{Even}") == "even"
    assert canonical_string("nacuA") != canonical_string("nacua")
    assert exact_equal("e\u0301", "\u00e9")
    assert not exact_equal("42", "\uff14\uff12")


def test_equalities() -> None:
    assert rational_equal("0.5", r"\frac{1}{2}")
    assert not rational_equal("1/3", "0.333333")
    assert numeric_equal("1/3", "0.3333333")
    assert not numeric_equal("1/3", "0.333")
    assert not numeric_equal("1000000", "1000001")
    assert not numeric_equal("five", "five")
    assert exact_equal("1,000", "1000.0")
    assert not exact_equal("", "0")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(b)", "B"),
        ("B.", "B"),
        ("B. Paris", "B"),
        ("C) because", "C"),
        ("option D", "D"),
        ("**A**", "A"),
        (r"\text{(A)}", "A"),
        ("A cat", None),
        ("AB", None),
        ("Z", None),
        ("A, B", None),
        ("", None),
    ],
)
def test_choices(text: str, letter: str | None) -> None:
    assert canonical_choice(text) == letter


@pytest.mark.parametrize(
    ("text", "lowest"),
    [("3/4", True), ("6/8", False), (r"$\frac{6}{8}$", False), ("5", True), ("0.5", False)],
)
def test_lowest_terms(text: str, lowest: bool) -> None:
    assert is_lowest_terms(text) is lowest
