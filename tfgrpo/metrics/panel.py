"""Eight views of diversity side by side, on equal numbers of samples, all or correct ones only.

No single number will do: token entropy can rise while answers narrow, and surface variety says
nothing about strategies.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tfgrpo.metrics.diversity import expected_classes, rarefied_entropy
from tfgrpo.metrics.estimate import bootstrap_mean, paired_difference
from tfgrpo.metrics.surface import (
    compression_ratio,
    forking_share,
    mean_ead,
    trigram_kernel,
    vendi,
)
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Comparison, Estimate, Rollout, RolloutGroup

Of = Literal["all", "correct"]
Panel = Mapping[str, Mapping[str, float]]
PANEL = (
    "token_entropy",
    "answer_entropy",
    "distinct_correct",
    "effective_modes",
    "vendi",
    "ead",
    "compression_ratio",
    "forking_share",
)
VIEWS = (*PANEL, "meanings")
"""The panel, and the view that is there only where replies were told apart by meaning."""

Classes = Mapping[str, Mapping[int, int]]
"""The class of each rollout, by task and by the rollout's index."""


@dataclass(frozen=True, slots=True)
class Matching:
    """What must be equal in two arms before their panels compare.

    Every task is seen through `samples` samples, or `correct` correct ones; tasks with fewer are
    left out. `vocabulary` is the tokenizer's size, `fork_above` the base's `forking_threshold`.
    Texts are cut to `bytes_per_sample` on average before they are compressed; tasks with shorter
    texts have no compression ratio. Metrics without a closed form are means over `draws` subsets.
    """

    vocabulary: int
    fork_above: float
    samples: int = 16
    correct: int = 4
    bytes_per_sample: int = 16
    draws: int = 8

    def __post_init__(self) -> None:
        counts = (self.samples, self.correct)
        if min(counts) < 2 or min(self.bytes_per_sample, self.draws) < 1 or self.vocabulary < 2:
            raise ValueError("Matching needs 2 samples, 1 byte, 1 draw and 2 tokens; raise them.")


def panel(
    groups: Sequence[RolloutGroup],
    matching: Matching,
    seed: int,
    of: Of = "all",
    meanings: Classes | None = None,
) -> Panel:
    """Each metric of `PANEL` for each task, `{metric: {task_id: value}}`; NaN-free.

    A metric is missing for a task where its material is: token ids for `ead`, entropies for
    `token_entropy` and `forking_share`, modes for `effective_modes`. `distinct_correct` counts
    different correct answers among the matched samples, `effective_modes` is exp of the rarefied
    entropy over modes. With `meanings` there is one view more, exp of the rarefied entropy over
    these classes. Order of samples and tasks does not matter.

    Raises:
        ValueError: if a task is listed twice.
    """
    if len({g.task.task_id for g in groups}) != len(groups):
        raise ValueError("A task is listed twice in one evaluation; merge its samples first.")
    m = matching.samples if of == "all" else matching.correct
    names = PANEL if meanings is None else VIEWS
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for group in sorted(groups, key=lambda g: g.task.task_id):
        task_id = group.task.task_id
        rollouts = [r for r in group.rollouts if of == "all" or r.score.correct]
        if len(rollouts) >= m:
            row = _answers(rollouts, m) | _tokens(rollouts, matching)
            row |= _surface(rollouts, m, matching, derive_seed(seed, task_id))
            if meanings is not None:
                classes = Counter(meanings[task_id][r.index] for r in rollouts)
                row["meanings"] = math.exp(rarefied_entropy(classes.values(), m))
            for name, value in row.items():
                found[name][task_id] = value
    return found


def panel_estimates(found: Panel, seed: int) -> dict[str, Estimate]:
    """Mean over tasks of each metric that some task has; `n` says how many tasks it rests on."""
    return {
        name: bootstrap_mean(
            [value for _, value in sorted(values.items())], derive_seed(seed, name), ceiling=None
        )
        for name, values in found.items()
        if values
    }


def panel_differences(a: Panel, b: Panel, seed: int) -> tuple[Comparison, ...]:
    """Paired differences b - a of each metric over the tasks that have it in both arms.

    Metrics without such a task are left out.
    """
    return tuple(
        paired_difference(name, a[name], b[name], derive_seed(seed, name))
        for name in VIEWS
        if a.get(name, {}).keys() & b.get(name, {}).keys()
    )


def _answers(rollouts: Sequence[Rollout], m: int) -> dict[str, float]:
    n = len(rollouts)
    right = Counter(r.score.answer for r in rollouts if r.score.correct)
    row = {
        "answer_entropy": rarefied_entropy(Counter(r.score.answer for r in rollouts).values(), m),
        "distinct_correct": expected_classes(n, right.values(), m),
    }
    modes = Counter(r.score.mode for r in rollouts)
    if modes.keys() - {None}:
        row["effective_modes"] = math.exp(rarefied_entropy(modes.values(), m))
    return row


def _tokens(rollouts: Sequence[Rollout], matching: Matching) -> dict[str, float]:
    h = [x for r in rollouts for x in r.completion.entropies or ()]
    if not h:
        return {}
    share = forking_share(h, matching.fork_above)
    return {"token_entropy": math.fsum(h) / len(h), "forking_share": share}


def _surface(
    rollouts: Sequence[Rollout], m: int, matching: Matching, seed: int
) -> dict[str, float]:
    ordered = sorted(rollouts, key=lambda r: (r.completion.text, r.completion.token_ids or ()))
    texts = [r.completion.text for r in ordered]
    ids = [r.completion.token_ids for r in ordered]
    kernel = trigram_kernel(texts)
    limit = m * matching.bytes_per_sample
    draws = _draws(len(ordered), m, matching.draws, seed)

    def mean(statistic: Callable[[NDArray[np.intp]], float]) -> float:
        return math.fsum(map(statistic, draws)) / len(draws)

    row = {"vendi": mean(lambda d: vendi(kernel[np.ix_(d, d)]))}
    known = [x for x in ids if x is not None]
    if len(known) == len(ids):
        row["ead"] = mean(lambda d: mean_ead([known[i] for i in d], matching.vocabulary))
    sizes = [len(t.encode("utf-8", "surrogatepass")) for t in texts]
    if min(sum(sizes[i] for i in d) for d in draws) >= limit:
        row["compression_ratio"] = mean(lambda d: compression_ratio([texts[i] for i in d], limit))
    return row


def _draws(n: int, m: int, draws: int, seed: int) -> list[NDArray[np.intp]]:
    """Seeded subsets of m of n samples; the only one there is where m = n."""
    if m == n:
        return [np.arange(n)]
    rng = np.random.default_rng(seed)
    return [rng.choice(n, m, replace=False) for _ in range(draws)]
