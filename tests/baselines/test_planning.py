"""Planning tokens, also where a token and a phrase do not end together."""

from __future__ import annotations

import re
from collections.abc import Sequence

from baselines.planning import planning_tokens

PIECES = ["first", ", ", "let", " us spl", "it", " 12", "\n"]


def decode(ids: Sequence[int]) -> str:
    return "".join(PIECES[i] for i in ids)


def test_every_token_that_a_match_touches_is_planning() -> None:
    found = planning_tokens(range(7), [re.compile("let us split")], decode)
    assert found == [False, False, True, True, True, False, False]


def test_a_match_inside_a_token_marks_the_whole_of_it() -> None:
    assert planning_tokens(range(7), [re.compile("spl")], decode)[3]


def test_without_a_match_nothing_is_planning() -> None:
    assert not any(planning_tokens(range(7), [re.compile("verify")], decode))
    assert planning_tokens([], [re.compile(".")], decode) == []
