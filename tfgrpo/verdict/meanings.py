"""What the replies of each arm mean, in classes that are alike for all arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tfgrpo.errors import ConfigError
from tfgrpo.metrics.meaning import meaning_classes, meaning_threshold
from tfgrpo.metrics.panel import Classes
from tfgrpo.types import RolloutGroup

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit vectors, shape (texts, d)."""


@dataclass(frozen=True, slots=True)
class Meanings:
    """What tells replies apart by meaning, and from which cosine on they mean the same.

    `cosine` None: measured on the base, see `meaning_threshold`.
    """

    name: str
    embed: Embed
    cosine: float | None = None

    def __post_init__(self) -> None:
        if self.cosine is not None and not -1.0 <= self.cosine <= 1.0:
            raise ConfigError(f"A cosine lies between -1 and 1, not {self.cosine}; use 0.9.")

    def frozen_on(self, base: Sequence[RolloutGroup]) -> float:
        """The cosine from which on two replies mean the same.

        Raises:
            ConfigError: if the base has one reply a problem.
        """
        if self.cosine is not None:
            return self.cosine
        try:
            return meaning_threshold(self._vectors(group) for group in base)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def classes(self, groups: Sequence[RolloutGroup], cosine: float) -> Classes:
        """The class of each rollout of each problem."""
        found: dict[str, Mapping[int, int]] = {}
        for group in groups:
            indices = [rollout.index for rollout in group.rollouts]
            if indices:
                classes = meaning_classes(self._vectors(group), cosine)
                found[group.task.task_id] = dict(zip(indices, classes, strict=True))
        return found

    def _vectors(self, group: RolloutGroup) -> NDArray[np.float32]:
        """A row for each rollout; equal texts are embedded once."""
        texts = [rollout.completion.text for rollout in group.rollouts]
        own = sorted(set(texts))
        rows, at = self.embed(own), {text: row for row, text in enumerate(own)}
        return rows[[at[text] for text in texts]]
