"""Which tokens of a reply are planning: those that a pattern's match touches."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]


def planning_tokens(
    ids: Sequence[int], patterns: Sequence[re.Pattern[str]], decode: Decode
) -> list[bool]:
    """For each token, whether a match of any pattern covers a character of it (2509.03646).

    Where a token ends is found by decoding prefixes, so a match that begins inside a token marks
    the whole of it.
    """
    ends = [len(decode(ids[: i + 1])) for i in range(len(ids))]
    text = decode(ids)
    spans = [match.span() for pattern in patterns for match in pattern.finditer(text)]
    starts = [0, *ends][: len(ends)]
    return [
        any(start < stop and end > begin for begin, stop in spans)
        for start, end in zip(starts, ends, strict=True)
    ]
