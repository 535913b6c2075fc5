r"""Canonical forms of answers and their equality, without sympy: some microseconds each.

Only ASCII digits are digits here. Nothing guesses: what is no number in one of the written forms
below is None, so that a percentage, a unit or a list is never silently taken for a number.
"""

from __future__ import annotations

import re
import string
import unicodedata
from fractions import Fraction
from math import gcd

MAX_NUMBER = 200
"""Characters of the longest text that is read as a number."""

_NUMBER = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_RATIO = re.compile(
    rf"(?P<sign>[+-]?) ?(?:(?P<top>{_NUMBER})(?: ?/ ?(?P<bottom>{_NUMBER}))?"
    rf"|\\[dt]?frac ?(?:\{{ ?(?P<inner>-?) ?(?P<latex_top>{_NUMBER}) ?\}}"
    rf" ?\{{ ?(?P<latex_bottom>{_NUMBER}) ?\}}|(?P<short_top>[0-9])(?P<short_bottom>[0-9])))"
)
_THIN_SPACE = re.compile(r"\\[,!;]")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\{([^{}]*)\}")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CHOICE = re.compile(r"(?:(?:option|choice) )?\(?([a-j])\)?(?:[.):](?: .*)?)?", re.IGNORECASE)


def canonical_number(text: str) -> Fraction | None:
    r"""The rational that `text` writes: `-7`, `1,000`, `.5`, `3/4`, `\frac{3}{4}`, `$12$`.

    None for anything else: other digits than ASCII, percentages, units, exponents, decimal commas,
    a zero denominator, or more than `MAX_NUMBER` characters.
    """
    parts = _ratio(text)
    if parts is None:
        return None
    top, bottom = parts
    return top / bottom if bottom else None


def is_lowest_terms(text: str) -> bool:
    """Whether `text` writes an integer, or a ratio of integers that no factor divides."""
    parts = _ratio(text)
    if parts is None or any(part.denominator != 1 for part in parts):
        return False
    return gcd(parts[0].numerator, parts[1].numerator) == 1


def canonical_string(text: str) -> str:
    r"""`text` in NFC with `\text{...}` unwrapped and white space collapsed; case is kept."""
    text = _TEXT_COMMAND.sub(r"\1", unicodedata.normalize("NFC", text))
    text = " ".join(text.replace("$", " ").split())
    return text.removesuffix(".").rstrip() if len(text) > 1 else text


def canonical_text(text: str) -> str:
    """`canonical_string` without case."""
    return canonical_string(text).casefold()


def canonical_answer(text: str) -> str:
    """The name under which equal answers are counted: a rational in lowest terms, else the text."""
    number = canonical_number(text)
    return canonical_text(text) if number is None else str(number)


def canonical_words(text: str) -> str:
    """`text` in lower case without punctuation and articles, as SQuAD and HotpotQA compare answers.

    Source: the evaluation script of arXiv 1606.05250, which HotpotQA (1809.09600) uses too. What
    consists of nothing else keeps them.
    """
    bare = canonical_string(text).lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split()) or canonical_text(text)


def canonical_choice(text: str) -> str | None:
    """The letter A to J of a multiple-choice answer: `B`, `(b)`, `B. Paris`, `option B`."""
    match = _CHOICE.fullmatch(canonical_string(text.strip(" *")))
    return match[1].upper() if match else None


def exact_equal(gold: str, answer: str) -> bool:
    return canonical_answer(gold) == canonical_answer(answer)


def rational_equal(gold: str, answer: str) -> bool:
    """Equality in Q; false if either is no number."""
    wanted = canonical_number(gold)
    return wanted is not None and wanted == canonical_number(answer)


def numeric_equal(gold: str, answer: str, relative: Fraction = Fraction(1, 10**6)) -> bool:
    """|answer - gold| <= relative * |gold|, or equality in Q where the gold is an integer.

    Integers get no tolerance, because 1000001 is no rounding of 1000000.
    """
    wanted, given = canonical_number(gold), canonical_number(answer)
    if wanted is None or given is None:
        return False
    if wanted.denominator == 1:
        return wanted == given
    return abs(given - wanted) <= relative * abs(wanted)


def _ratio(text: str) -> tuple[Fraction, Fraction] | None:
    if len(text) > MAX_NUMBER:
        return None
    text = _THIN_SPACE.sub("", text.replace("−", "-").replace("{,}", ","))
    text = text.replace(r"\$", "").replace("$", "").strip(" \t\r\n")
    match = _RATIO.fullmatch(text)
    if match is None:
        return None
    top = match["top"] or match["latex_top"] or match["short_top"]
    bottom = match["bottom"] or match["latex_bottom"] or match["short_bottom"] or "1"
    negative = (match["sign"] == "-") != (match["inner"] == "-")
    return (-1 if negative else 1) * _unsigned(top), _unsigned(bottom)


def _unsigned(digits: str) -> Fraction:
    whole, _, decimals = digits.replace(",", "").partition(".")
    return Fraction(int(whole + decimals or "0"), 10 ** len(decimals))
