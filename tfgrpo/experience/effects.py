"""What each experience is worth, from the rollouts of learning in which it was left out at random.

Under dropout every rollout sees its own random subset, so that within one task and one step the
difference between rollouts with and without an entry is an unbiased estimate of its effect (a
randomised experiment), at no cost beyond the rollouts that learning pays for anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tfgrpo.experience.casebook import CASE
from tfgrpo.metrics.estimate import bootstrap_mean
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Estimate


@dataclass(frozen=True, slots=True)
class Effect:
    """Mean reward with the entry minus without it; `estimate.n` counts the groups that had both."""

    experience_id: str
    estimate: Estimate


def effects(groups: Iterable[Mapping[str, Any]], seed: int, level: float = 0.95) -> list[Effect]:
    """Effects of all entries that were shown in some rollouts of a group and hidden in others.

    Cases are not among them: the bank credits those itself.
    `groups` are rows of `groups.jsonl`. Groups of the same task in different steps are averaged
    first, so that the interval is over tasks.
    """
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for group in groups:
        rollouts: Sequence[Mapping[str, Any]] = group["rollouts"]
        seen = {e for r in rollouts for e in r["shown"] if not e.startswith(CASE)}
        for entry in seen:
            shown = [r["reward"] for r in rollouts if entry in r["shown"]]
            hidden = [r["reward"] for r in rollouts if entry not in r["shown"]]
            if hidden:
                found[entry][group["task_id"]].append(fmean(shown) - fmean(hidden))
    made = []
    for entry in sorted(found, key=lambda e: int(e[1:])):
        values = [fmean(v) for _, v in sorted(found[entry].items())]
        if len(values) > 1:
            interval = bootstrap_mean(
                values, derive_seed(seed, "effect", entry), level, ceiling=None
            )
            made.append(Effect(entry, interval))
    return made
