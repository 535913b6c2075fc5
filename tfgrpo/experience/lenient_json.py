"""Find the JSON that a model's reply means: forgiving about form, strict about what is unfinished.

Every scan is linear in the length of the reply, hostile ones included, and none recurses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tfgrpo.types import FinishReason

ProblemCode = Literal[
    "E_NO_JSON", "E_TRUNCATED", "E_NOT_OBJECT", "E_UNKNOWN_OP", "E_BAD_FIELD", "E_MANY_TARGETS"
]

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_FENCE_TAG = re.compile(r"[\w+.-]*[ \t\r]*\n")
# Brackets in prose, such as [E3] or \frac{1}{2}, are not followed by any of these.
_START = re.compile(r"[\[{](?=\s*(?:[\[{\]}\"'\u201c\u201d/#]|\Z))")
# Every alternative succeeds wherever it starts, so that no character is scanned twice.
_TOKEN = re.compile(
    r"""(?P<text>"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)
              | '[^'\\]*(?:\\.[^'\\]*)*(?:'|\\?\Z)
              | [\u201c\u201d][^\u201c\u201d\\]*(?:\\.[^\u201c\u201d\\]*)*(?:[\u201c\u201d]|\\?\Z))
      | (?P<skip>\s+ | //[^\n]* | \#[^\n]* | /\*.*?(?:\*/|\Z) | \.\.\.+ | \u2026)
      | (?P<open>[\[{])
      | (?P<close>[\]}])
      | (?P<comma>,)
      | (?P<other>[A-Za-z_]+ | [^\s"'\u201c\u201d\[\]{},/\#.\u2026A-Za-z_]+ | .)""",
    re.VERBOSE | re.DOTALL,
)
_PYTHON_WORDS = {"None": "null", "True": "true", "False": "false"}
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|[\"\\/bfnrt])|\\'|[\\\"]")

MOST = 100_000
"""Characters of a reply in which JSON is looked for: what runs on must not hold up a run."""


@dataclass(frozen=True, slots=True)
class Problem:
    code: ProblemCode
    detail: str


def is_container(document: object) -> bool:
    return isinstance(document, dict | list)


def find_json(
    text: str,
    finish_reason: FinishReason = "stop",
    accept: Callable[[object], bool] = is_container,
) -> tuple[Any, None] | tuple[None, Problem]:
    """The document that a reply means, or why there is none.

    Looked for after any thoughts: the whole text, then its last fenced block, then the last
    bracketed value in it, each as it stands and then repaired (comments, trailing commas, quotes,
    Python constants, ellipses, lone backslashes). A document that `accept` likes is preferred.
    Nothing is ever taken from a value which is not closed, nor from more than `MOST` characters.
    """
    if len(text) > MOST:
        return None, Problem("E_NO_JSON", f"the reply has {len(text)} characters, too many to read")
    answer = text.strip()
    if not _is_json(answer):
        answer = _THOUGHT_END.split(_THOUGHT.sub("", answer))[-1].strip()
    values, open_at = _bracketed(answer)
    fence, fence_at = _last_fence(answer)
    if open_at is None:
        candidates = [answer, *fence, *reversed(values)]
    else:  # a stray bracket in the prose before a complete block is no truncation
        candidates = fence if finish_reason != "length" and fence_at > open_at else []
    second_best: list[Any] = []
    for candidate in candidates:
        for document in _readings(candidate):
            if accept(document):
                return document, None
            if is_container(document):
                second_best.append(document)
    if second_best:
        return second_best[0], None
    if open_at is not None:
        return None, Problem("E_TRUNCATED", "the JSON in the reply is never closed")
    if finish_reason == "length":
        return None, Problem("E_TRUNCATED", "the reply ended before any JSON")
    return None, Problem("E_NO_JSON", "the reply holds no JSON that can be read")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _last_fence(text: str) -> tuple[list[str], int]:
    """The last fenced block and where it starts; none if a fence is left open."""
    parts = text.split("```")
    if len(parts) < 3 or len(parts) % 2 == 0:
        return [], -1
    block = parts[-2]
    tag = _FENCE_TAG.match(block)
    return [block[tag.end() :] if tag else block], len("```".join(parts[:-2]))


def _bracketed(text: str) -> tuple[list[str], int | None]:
    """The outermost bracketed values of a text, or where one opens that is never closed.

    Values with nothing but commas and space between them, as in JSON lines, are one list. Empty
    brackets count only if there is nothing else: prose says `[]` too.
    """
    groups: list[list[str]] = []
    end, position = 0, 0
    while (start := _START.search(text, position)) is not None:
        position = _closing(text, start.start())
        if position < 0:
            return [], start.start()
        if groups and not text[end : start.start()].strip(", \t\r\n"):
            groups[-1].append(text[start.start() : position])
        else:
            groups.append([text[start.start() : position]])
        end = position
    values = [group[0] if len(group) == 1 else f"[{','.join(group)}]" for group in groups]
    return [value for value in values if value.strip("[]{} \t\r\n")] or values, None


def _closing(text: str, start: int) -> int:
    """Where the value that opens at `start` ends; -1 if it never does. Stray closers do nothing."""
    stack: list[str] = []
    for token in _TOKEN.finditer(text, start):
        if token.lastgroup == "open":
            stack.append("]" if token[0] == "[" else "}")
        elif token.lastgroup == "close" and token[0] == stack[-1]:
            stack.pop()
            if not stack:
                return token.end()
    return -1


def _readings(text: str) -> Iterator[Any]:
    """The text as JSON if it is that, otherwise its repaired form if that is."""
    text = text.strip()
    for form in (str, _repaired):
        try:
            yield json.loads(form(text), strict=False)
            return
        except (ValueError, RecursionError):
            if text[:1] not in ("[", "{"):
                return


def _repaired(text: str) -> str:
    out: list[str] = []
    comma, last = False, ""
    for token in _TOKEN.finditer(text):
        kind, lexeme = token.lastgroup, token[0]
        if kind == "skip":
            out.append(" ")
            continue
        if kind == "comma":
            comma = True
            continue
        if comma and kind != "close" and last not in ("", "[", "{"):
            out.append(",")
        comma = False
        last = _quoted(lexeme) if kind == "text" else _PYTHON_WORDS.get(lexeme, lexeme)
        out.append(last)
    return "".join(out)


def _quoted(lexeme: str) -> str:
    """A string literal in plain double quotes; backslashes that escape nothing (LaTeX) are kept."""

    def escaped(match: re.Match[str]) -> str:
        found = match[0]
        if found == "\\'":
            return "'"
        return found if len(found) > 1 else "\\" + found

    return f'"{_ESCAPE.sub(escaped, lexeme[1:-1])}"'
