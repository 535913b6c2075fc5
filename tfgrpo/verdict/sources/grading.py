"""Which value of a file makes a sample right."""

from __future__ import annotations

import math
from dataclasses import dataclass

WORDS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, slots=True)
class Grading:
    """What the user says of a file's grades.

    `score` names the column, metric (`METRIC` or `METRIC,FILTER`) or scorer (`SCORER` or
    `SCORER.KEY`) that tells what is right, None for the format's own. `threshold` is the least
    value that counts as right; without it a value must be exactly 0 or 1.
    """

    score: str | None = None
    threshold: float | None = None

    def verdict(self, value: object) -> bool | None:
        """Right or wrong; None for an empty value: what was not graded is not wrong.

        Raises:
            ValueError: with the reason, if the value is no grade.
        """
        if value is None or value == "":
            return None
        number = _number(value)
        if self.threshold is not None:
            return number >= self.threshold
        if number not in (0.0, 1.0):
            raise ValueError(
                f"{shown(value)} is neither 0 nor 1; say from which value on a reply is right "
                "(tfgrpo samples convert --threshold)"
            )
        return number == 1.0

    def verifier(self, own: str) -> str:
        """Names what graded, for the protocol; `own` is the column or metric that was read."""
        return own if self.threshold is None else f"{own} >= {self.threshold:g}"


PLAIN = Grading()
"""The format's own column, and grades of exactly 0 or 1."""


def _number(value: object) -> float:
    try:
        if isinstance(value, str):
            word = value.strip().lower()
            number = WORDS[word] if word in WORDS else float(word)
        elif isinstance(value, int | float):
            number = float(value)
        else:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"{shown(value)} is no grade; give 0 or 1, or true or false") from None
    if not math.isfinite(number):
        raise ValueError(f"{shown(value)} is no grade; leave empty what was not graded")
    return number


def shown(value: object) -> str:
    """A value for a message, cut short."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
