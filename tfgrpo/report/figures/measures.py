"""What measures are called, and in which units they are told."""

from __future__ import annotations

from collections.abc import Mapping

from tfgrpo.types import Estimate

TITLES: Mapping[str, str] = {
    "answer_entropy": "answer entropy",
    "compression_ratio": "compression ratio",
    "cover": "right in half or more",
    "distinct_correct": "distinct correct",
    "distinct_modes": "correct strategies",
    "ead": "distinct n-grams (EAD)",
    "effective_modes": "effective strategies",
    "forking_share": "share of forking tokens",
    "length": "tokens of a reply",
    "meanings": "meanings of replies",
    "reply_entropy": "entropy by reply",
    "token_entropy": "token entropy",
    "vendi": "Vendi score of texts",
}
UNITS: Mapping[str, str] = {
    "answer_entropy": "nats",
    "distinct_correct": "answers",
    "distinct_modes": "strategies",
    "effective_modes": "strategies",
    "length": "tokens",
    "reply_entropy": "nats",
    "token_entropy": "nats",
}
SHARES = ("pass@", "pass^", "maj@", "cover@", "auc@", "forking_share")


def title(name: str) -> str:
    """`distinct_correct@8` is "distinct correct in 8"; formulas stay as they are."""
    stem, _, at = name.partition("@")
    if name.startswith("cover@0.5") or not at:
        return TITLES.get(stem, name)
    return f"{TITLES[stem]} in {at}" if stem in TITLES else name


def is_share(name: str) -> bool:
    """Whether a measure lies in [0, 1] and is told in percent, its differences in points."""
    return name.startswith(SHARES)


def unit(name: str, *, difference: bool = False) -> str:
    if is_share(name):
        return "points" if difference else "%"
    return UNITS.get(name.partition("@")[0], "")


def difference_title(name: str) -> str:
    """The title with the unit of a difference, where the title does not tell it."""
    told = unit(name, difference=True)
    return f"{title(name)}, {told}" if told in ("points", "nats") else title(name)


def scale(name: str) -> float:
    return 100.0 if is_share(name) else 1.0


def scaled(name: str, estimate: Estimate) -> Estimate:
    """The estimate in the measure's own unit."""
    by = scale(name)
    value, low, high = (by * x for x in (estimate.value, estimate.low, estimate.high))
    return Estimate(value, low, high, estimate.n, estimate.method, estimate.level)
