"""The figures of a case memory: when it changed, what its cases are worth, and where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np

from tfgrpo.report.pages.parts import Bars, Scatter
from tfgrpo.report.pages.projection import fitted

MOST_BARS = 48
MINUTE, HOUR, DAY = 60, 3600, 86_400
SPANS = (MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY, 365 * DAY)
LAST_MOMENT = 253_402_300_799  # the end of the year 9999, in seconds since the epoch


def timeline(events: Sequence[tuple[float, str]]) -> Bars:
    """(time in seconds since the epoch, name) as bars of the finest span that MOST_BARS allow.

    Events outside the years 1970 to 9999 have no date and are left out.
    """
    dated = [(time, name) for time, name in events if 0 <= time <= LAST_MOMENT]
    first = min((time for time, _ in dated), default=0.0)
    last = max((time for time, _ in dated), default=0.0)
    span = next((s for s in SPANS if last // s - first // s < MOST_BARS), SPANS[-1])
    counts = Counter((name, int(time // span)) for time, name in dated)
    places = range(int(first // span), int(last // span) + 1)
    form = "%Y-%m-%d" if span >= DAY else "%m-%d %H:%M"
    labels = tuple(datetime.fromtimestamp(p * span, UTC).strftime(form) for p in places)
    series = {
        name: tuple(float(counts[name, place]) for place in places)
        for name in sorted({name for _, name in dated})
    }
    return Bars("Events over time (UTC)", labels, series)


def worth(values: Sequence[float]) -> Bars:
    """How many cases have which utility, in 20 equal bins around 0."""
    reach = max(max(map(abs, values)), 1e-6)
    counts, edges = np.histogram(values, bins=20, range=(-reach, reach))
    labels = tuple(f"{(low + high) / 2:+.2f}" for low, high in pairwise(edges.tolist()))
    return Bars("Credited cases by utility", labels, {"cases": tuple(map(float, counts))})


def plane(places: Sequence[tuple[str, tuple[float, float]]]) -> Scatter:
    """The map of the table `cases`, from (key, point in any finite units)."""
    points = fitted([point for _, point in places]).tolist()
    return Scatter(
        "cases",
        "outcome",
        tuple((key, x, y) for (key, _), (x, y) in zip(places, points, strict=True)),
        "Questions that are asked alike lie near each other. Many dimensions are pressed into two "
        "(principal components, stretched to fill), so nearness is a hint and no measure.",
    )
