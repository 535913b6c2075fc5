"""Between which values a distribution's entropy lies of which only the likeliest tokens are known.

Hosted models tell the log-probabilities of a few tokens at each position, never the whole
distribution. What they leave out is known to be no likelier than the least of those that are told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

LARGEST_VOCABULARY = 262_144
"""No vocabulary in common use is larger, so that upper bounds hold whatever the model's own is."""


def entropy_bounds(
    top: Sequence[float], sampled: float | None = None, vocabulary: int = LARGEST_VOCABULARY
) -> tuple[float, float]:
    """Least and greatest entropy, in nats, of a distribution with these likeliest probabilities.

    `sampled` is the probability of a further token outside `top`. With h = -sum p ln p over what
    is known, r = 1 - sum p and q the least of `top`: at least, r is made of floor(r/q) tokens of
    probability q and one of what then remains; at most, it is spread evenly over the other tokens.

    Raises:
        ValueError: if there is nothing known, or a probability is not in [0, 1].
    """
    known = [*top] if sampled is None else [*top, sampled]
    if not top or not all(0.0 <= p <= 1.0 for p in known):
        raise ValueError("Bounds need the probabilities of the likeliest tokens; ask for them.")
    head = math.fsum(map(_surprise, known))
    rest, others = max(0.0, 1.0 - math.fsum(known)), vocabulary - len(known)
    if rest <= 0.0 or others <= 0:
        return head, head
    least = min(top)
    whole = math.floor(rest / least) if least > 0.0 else 0
    low = head + whole * _surprise(least) + _surprise(max(0.0, rest - whole * least))
    return low, max(low, head + _surprise(rest) + rest * math.log(others))


def _surprise(p: float) -> float:
    return -p * math.log(p) if p > 0.0 else 0.0
