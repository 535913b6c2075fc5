"""The row formats of the standard sets, each read as question and gold.

A reader takes a row and the names of its question and its answer. It raises KeyError for a field
that is missing, and ValueError for a value that it cannot use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfgrpo.rewards.exact import canonical_number
from tfgrpo.rewards.extract import last_boxed
from tfgrpo.tasks.jsonl import Row

Fields = Mapping[str, Any]

_INTEGER = re.compile(r"\$?([0-9]{1,3})(?:\.0)?(?:\^\{?\\circ\}?)?\$?")
_WRAPPER = "Solve the following math problem step by step."
_REMINDER = "Remember to put your answer on its own line after"
_ABOUT = ("id", "unique_id", "subject", "level", "type", "year")


def competition(row: Fields, question: str, answer: str) -> Row:
    r"""An integer from 0 to 999, as in 25, "025" and `336^\circ`."""
    match = _INTEGER.fullmatch(str(row[answer]).strip())
    if match is None:
        raise ValueError(f"has the answer {row[answer]!r}, no integer from 0 to 999")
    return Row(_text(row, question), str(int(match[1])), metadata=_about(row))


def plain(row: Fields, question: str, answer: str) -> Row:
    r"""The answer as it stands, or the last \boxed of `solution` where there is none."""
    given = row[answer] if answer in row else last_boxed(str(row["solution"]))
    gold = "" if given is None else str(given).strip()
    if not gold:
        raise ValueError("has no final answer")
    number = canonical_number(gold)
    # A column of floats makes 27.0 of 27.
    if number is not None and number.denominator == 1 and "." in gold:
        gold = str(number)
    return Row(_text(row, question), gold, metadata=_about(row))


def worked(row: Fields, question: str, answer: str) -> Row:
    """A worked answer whose last line is `#### 1,234`."""
    _, marked, final = str(row[answer]).rpartition("####")
    number = canonical_number(final)
    if not marked or number is None:
        raise ValueError("has an answer that does not end in '#### NUMBER'")
    return Row(_text(row, question), str(number), metadata=_about(row))


def wrapped(row: Fields, question: str, answer: str) -> Row:
    """A problem as text or as messages, with or without instructions round it.

    The gold is `reward_model.ground_truth` where there is one, else the answer's field.
    """
    prompt = row[question]
    if isinstance(prompt, Sequence) and not isinstance(prompt, str):
        prompt = prompt[-1]["content"]
    graded = row.get("reward_model")
    given = graded["ground_truth"] if isinstance(graded, Mapping) else row[answer]
    number = canonical_number(str(given))
    if number is None or number.denominator != 1:
        raise ValueError(f"has the answer {given!r}, no integer")
    problem = str(prompt).strip()
    if problem.startswith(_WRAPPER):
        problem = problem.partition("\n\n")[2]
    problem = problem.partition(_REMINDER)[0]
    return Row(_text({question: problem}, question), str(number))


def paragraphs(row: Fields, question: str, answer: str) -> Row:
    """A question after its `context`, which has titles and lists of sentences."""
    context = row["context"]
    pairs = zip(context["title"], context["sentences"], strict=True)
    given = "\n\n".join(f"{title}: {''.join(sentences).strip()}" for title, sentences in pairs)
    gold = str(row[answer]).strip()
    if not given or not gold:
        raise ValueError("has no paragraphs, or no answer")
    return Row(f"{given}\n\nQuestion: {_text(row, question)}", gold, metadata=_about(row))


FORMATS: Mapping[str, Callable[[Fields, str, str], Row]] = {
    "competition": competition,
    "plain": plain,
    "worked": worked,
    "wrapped": wrapped,
    "paragraphs": paragraphs,
}


def _text(row: Fields, key: str) -> str:
    text = row[key]
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"has an empty {key}, or one that is no text")
    text.encode()  # an unpaired surrogate can be neither hashed nor sent
    return text.strip()


def _about(row: Fields) -> dict[str, Any]:
    """What a row tells about itself, as far as JSON can hold it."""
    return {key: row[key] for key in _ABOUT if isinstance(row.get(key), str | int)}
