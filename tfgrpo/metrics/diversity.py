"""How many different answers and strategies a policy produces.

Entropies are in nats. `counts` are samples per class; a class of 0 samples changes nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tfgrpo.metrics.pass_at_k import check_draw, pass_at_k
from tfgrpo.types import TaskOutcome

DiversityKey = Literal["answers", "modes"]
UNREAD = "unread"


def entropy(counts: Iterable[int]) -> float:
    """Plug-in entropy H = -sum p ln p, p = n_j / n, in [0, ln n]; biased low for small n.

    Raises:
        ValueError: if there are no samples or a count is negative.
    """
    kept = _positive(counts)
    n = sum(kept)
    return 0.0 - math.fsum(c / n * math.log(c / n) for c in kept)


def answer_entropy(answers: Sequence[str | None]) -> float:
    """Entropy over canonical answers; None (no answer found) is a class of its own.

    Raises:
        ValueError: if there are no answers.
    """
    return entropy(Counter(answers).values())


def miller_madow(counts: Iterable[int]) -> float:
    """H + (m - 1) / 2n, m classes seen among n samples: first-order bias correction.

    Enough once n is several times the number of classes (Miller 1955). Raises as `entropy`.
    """
    kept = _positive(counts)
    return entropy(kept) + (len(kept) - 1) / (2 * sum(kept))


def rarefied_entropy(counts: Iterable[int], k: int) -> float:
    """Expected plug-in entropy of k samples drawn without replacement.

    E[H_k] = -sum_j sum_i C(n_j, i) C(n - n_j, k - i) / C(n, k) * (i/k) ln(i/k). Entropy grows
    with n, so arms with different n are compared at a common k.

    Raises:
        ValueError: if there are no samples, a count is negative, or k is not in 1..n.
    """
    kept = _positive(counts)
    n = sum(kept)
    check_draw(n, 0, k)
    if k == n:
        return entropy(kept)
    total = math.comb(n, k)
    terms = (
        math.comb(c, i) * math.comb(n - c, k - i) / total * (i / k) * math.log(i / k)
        for c in kept
        for i in range(1, min(c, k) + 1)
    )
    return 0.0 - math.fsum(terms)


def chao1(counts: Iterable[int]) -> float:
    """Lower bound on the number of classes, unseen ones included: m + f1^2 / 2 f2 (Chao 1984).

    f1 and f2 of the m classes were seen once and twice; m + f1 (f1 - 1) / 2 without any f2.
    Raises as `entropy`.
    """
    kept = _positive(counts)
    once, twice = kept.count(1), kept.count(2)
    return len(kept) + (once**2 / (2 * twice) if twice else once * (once - 1) / 2)


def effective_modes(counts: Iterable[int]) -> float:
    """exp(H): how many equally frequent classes have this entropy (Hill number of order 1)."""
    return math.exp(entropy(counts))


def distinct_at_k(counts: Iterable[int], k: int) -> float:
    """Expected number of classes among k of n samples, in [1, k]: rarefaction (Hurlbert 1971).

    sum_j [1 - C(n - n_j, k) / C(n, k)], n = sum_j n_j: the sum of every class's own pass@k, so
    unbiased for all k <= n.

    Raises:
        ValueError: if there are no samples, a count is negative, or k is not in 1..n.
    """
    kept = _positive(counts)
    return expected_classes(sum(kept), kept, k)


def expected_classes(n: int, counts: Iterable[int], k: int) -> float:
    """Expected number of these classes among k of n samples, which may hold other samples too.

    Raises:
        ValueError: if k is not in 1..n or a count is not in 0..n.
    """
    check_draw(n, 0, k)
    return math.fsum(pass_at_k(n, c, k) for c in counts)


def distinct_answers(outcome: TaskOutcome, k: int) -> float:
    """Expected number of different answers in k samples, in [0, k]; no answer is not an answer.

    Raises:
        ValueError: if k is not in 1..n.
    """
    found = Counter(a for a in outcome.answers if a is not None)
    return expected_classes(outcome.n, found.values(), k)


def distinct_correct_at_k(outcome: TaskOutcome, k: int, key: DiversityKey = "answers") -> float:
    """Expected number of different correct answers (or modes) in k samples, in [0, k].

    The rarefaction sum over classes of correct samples only, with n counting all samples. Correct
    samples without a readable key share one class, so this is never below pass@k.

    Raises:
        ValueError: if k is not in 1..n.
    """
    keys = outcome.answers if key == "answers" else outcome.modes
    found = Counter(x for x, correct in zip(keys, outcome.correct, strict=True) if correct)
    return expected_classes(outcome.n, found.values(), k)


@dataclass(frozen=True, slots=True)
class ModeAccuracy:
    """A mode's share of its dataset's samples, its accuracy there, and its number of samples."""

    share: float
    accuracy: float
    count: int


def mode_accuracy(outcomes: Sequence[TaskOutcome]) -> dict[str, dict[str, ModeAccuracy]]:
    """Per dataset and mode, pooled over samples; samples without a mode are `UNREAD`.

    Datasets and modes are in sorted order; datasets without samples are left out.
    """
    seen: dict[str, Counter[str]] = {}
    right: dict[str, Counter[str]] = {}
    for o in outcomes:
        for mode, correct in zip(o.modes, o.correct, strict=True):
            name = UNREAD if mode is None else mode
            seen.setdefault(o.dataset, Counter())[name] += 1
            right.setdefault(o.dataset, Counter())[name] += correct
    return {
        dataset: {
            mode: ModeAccuracy(count / modes.total(), right[dataset][mode] / count, count)
            for mode, count in sorted(modes.items())
        }
        for dataset, modes in sorted(seen.items())
    }


def mode_histogram(outcomes: Sequence[TaskOutcome]) -> dict[str, dict[str, float]]:
    """Each mode's share of its dataset's samples; shares sum to 1 (see `mode_accuracy`)."""
    return {
        dataset: {mode: cell.share for mode, cell in modes.items()}
        for dataset, modes in mode_accuracy(outcomes).items()
    }


def token_entropy(outcomes: Sequence[TaskOutcome]) -> float | None:
    """Mean nats per generated token, sum_s L_s H_s / sum_s L_s over samples with known H.

    Weighted by tokens, not by replies. None if no entropy is known.
    """
    known = [
        (h, length)
        for o in outcomes
        for h, length in zip(o.entropies, o.lengths, strict=True)
        if h is not None
    ]
    tokens = sum(length for _, length in known)
    return math.fsum(h * length for h, length in known) / tokens if tokens else None


def token_entropy_bounds(outcomes: Sequence[TaskOutcome]) -> tuple[float, float] | None:
    """The bounds of `token_entropy`, where a backend told these; None if none is known."""
    known = [
        (*b, length)
        for o in outcomes
        for b, length in zip(o.entropy_bounds, o.lengths, strict=False)
        if b is not None
    ]
    tokens = sum(length for *_, length in known)
    if not tokens:
        return None
    low = math.fsum(low * length for low, _, length in known) / tokens
    return low, math.fsum(high * length for _, high, length in known) / tokens


def _positive(counts: Iterable[int]) -> list[int]:
    kept = [c for c in counts if c != 0]
    if not kept or min(kept) < 0:
        raise ValueError("Diversity needs at least one sample and no negative count; count again.")
    return kept
