r"""Find the one final answer of a reply.

A reply answers in a slot, of which there are four kinds: a line that begins `Answer:` (or "The
answer is"), the last `\boxed{...}`, an `<answer>...</answer>` element, and a line that begins
`####`. The kind whose slot ends last is the one that the reply chose; `####` counts only where no
other kind is present, because Markdown writes headings with it. Two distinct answers in slots of
that kind are a hedge, not an answer.

Everything here is one pass over the text, so hostile replies cost no more than long ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tfgrpo.rewards.exact import canonical_answer

Status = Literal["found", "missing", "conflicting"]

MAX_ANSWER = 4096
"""Characters of a slot that are still unwrapped; nothing longer is an answer."""

_DECORATION = " \t\r*_>#`"
_EMPHASIS = "*_` \t\r"
_LINE = re.compile(
    r"(?:(?:so|thus|hence|therefore),?[ \t]{1,4})?"
    r"(?:(?:the|my)[ \t]{1,4})?(?:(?:final|correct)[ \t]{1,4})?answer"
    r"[*_]{0,3}[ \t]{0,4}(?::|is\b:?)[*_]{0,3}",
    re.IGNORECASE,
)
_BRACES = re.compile(r"\\boxed[ \t]{0,4}\{|\\[\\{}]|[{}]")
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_HASHES = re.compile(r"[ \t]{0,8}####[ \t]*([^\s#]\S*)[ \t\r]*$")


TAIL = 100_000
"""Characters in which a final answer is looked for: a reply that runs on must not hold up a run."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """`answer` is the text of the slot without decoration; None unless `status` is `found`."""

    answer: str | None
    status: Status


@dataclass(frozen=True, slots=True)
class _Slot:
    start: int
    end: int
    text: str


def extract_answer(text: str) -> Extraction:
    """The final answer of a reply, after its reasoning (up to the last `</think>`) is cut off.

    Reasoning that never closes leaves no final answer; of the rest the last `TAIL` characters are
    read. Equal answers may repeat; equality is that
    of `canonical_answer`, so `1,000` and `1000` agree.
    """
    slots = _chosen_slots(_without_reasoning(text)[-TAIL:])
    if not slots:
        return Extraction(None, "missing")
    answers = [_tidy(text) for text in dict.fromkeys(slot.text for slot in slots)]
    first = canonical_answer(answers[0])
    if any(canonical_answer(answer) != first for answer in answers[1:]):
        return Extraction(None, "conflicting")
    return Extraction(answers[0], "found")


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`, as reference solutions mark their answer."""
    slots = list(_boxes(text[-TAIL:]))
    return _tidy(slots[-1].text) if slots else None


def _without_reasoning(text: str) -> str:
    # A chat template may put the opening tag into the prompt, so the closing tag alone decides.
    _, closed, rest = text.rpartition("</think>")
    if closed:
        return rest
    return "" if text.lstrip().startswith("<think>") else text


def _chosen_slots(text: str) -> list[_Slot]:
    kinds = [list(_tags(text)), list(_lines(text)), list(_boxes(text))]
    kinds = [slots for slots in kinds if slots]
    if kinds:
        # `Answer: \boxed{4}` ends as both kinds do; the outer slot is the one that was chosen.
        return max(kinds, key=lambda slots: (slots[-1].end, -slots[-1].start))
    return list(_hash_lines(text))


def _split_lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.split("\n"):
        yield start, line
        start += len(line) + 1


def _lines(text: str) -> Iterator[_Slot]:
    awaited = -1
    for start, line in _split_lines(text):
        content = line.lstrip(_DECORATION)
        if match := _LINE.match(content):
            value, awaited = content[match.end() :], start
        elif awaited >= 0:
            value = content
        else:
            continue
        value = value.rstrip(_EMPHASIS if line[:1] in _EMPHASIS else " \t\r")
        if value.strip(_DECORATION):
            yield _Slot(awaited, start + len(line), value)
            awaited = -1


def _hash_lines(text: str) -> Iterator[_Slot]:
    for start, line in _split_lines(text):
        if match := _HASHES.match(line):
            yield _Slot(start, start + len(line), match[1])


def _tags(text: str) -> Iterator[_Slot]:
    opened = -1
    for tag in _TAG.finditer(text):
        if not tag[1]:
            opened = tag.end()
        elif opened >= 0:
            if text[opened : tag.start()].strip():
                yield _Slot(opened, tag.end(), text[opened : tag.start()])
            opened = -1


def _boxes(text: str) -> Iterator[_Slot]:
    """Outermost balanced boxes. Escaped braces are text; an unclosed brace opens nothing."""
    opened: list[tuple[int, int]] = []
    spans: list[tuple[int, int, int]] = []
    for token in _BRACES.finditer(text):
        if token[0] == "}" and opened:
            start, inside = opened.pop()
            if inside > start + 1:
                while spans and spans[-1][0] > start:
                    spans.pop()
                spans.append((start, inside, token.start()))
        elif token[0][-1] == "{" and token[0] != r"\{":
            opened.append((token.start(), token.end()))
    return (_Slot(a, end + 1, text[b:end]) for a, b, end in spans if text[b:end].strip())


def _tidy(value: str) -> str:
    value = value.strip()
    while len(value) <= MAX_ANSWER:
        inner = _unwrap(value)
        if inner == value:
            break
        value = inner
    return value


def _unwrap(value: str) -> str:
    boxes = list(_boxes(value))
    if boxes:
        return boxes[-1].text.strip()
    for left, right in (("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("`", "`"), ("**", "**")):
        inner = value[len(left) : -len(right)]
        if value.startswith(left) and value.endswith(right) and inner.strip():
            return inner.strip()
    for tail in (".", "**"):
        if value.endswith(tail) and len(value) > len(tail):
            return value.removesuffix(tail).rstrip()
    return value
