"""Stop strings without decoding every row at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Decode = Callable[[Sequence[int]], str]


def cut_at_stop(text: str, stops: Sequence[str]) -> str | None:
    """`text` up to the first stop string in it, or None if it holds none."""
    found = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(found)] if found else None


class StopTables:
    """Per set of stop strings, the tokens that could complete one: only then is a row decoded.

    A stop string ends in some character, so a token whose own text lacks all of these cannot
    complete one. Where a token's text alone does not tell (spaces that a decoder strips, characters
    of several bytes), every token could.
    """

    def __init__(self, decode: Decode, vocabulary: int, device: torch.device) -> None:
        self.decode = decode
        self.vocabulary = vocabulary
        self.table = torch.zeros(1, vocabulary, dtype=torch.bool, device=device)
        self.known: dict[tuple[str, ...], int] = {(): 0}
        self._pieces: list[str] = []

    def index(self, stops: tuple[str, ...]) -> int:
        """The row of `table`, bool `(sets, vocabulary)`, that belongs to `stops`."""
        stops = tuple(stop for stop in stops if stop)
        if stops not in self.known:
            self.known[stops] = len(self.known)
            self.table = torch.cat((self.table, self._could_end(stops)[None]))
        return self.known[stops]

    def _could_end(self, stops: tuple[str, ...]) -> Tensor:
        ends = {stop[-1] for stop in stops}
        if any(not end.isascii() or end == " " for end in ends):
            return torch.ones(self.vocabulary, dtype=torch.bool, device=self.table.device)
        if not self._pieces:
            self._pieces = [self.decode([token]) for token in range(self.vocabulary)]
        could = [not ends.isdisjoint(piece) for piece in self._pieces]
        return torch.tensor(could, device=self.table.device)
