"""Large numbers on an axis, in a few signs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
MOST_EXPONENT = 15


def short(number: float) -> str:
    """1500 is "1.5k"; beyond 10^15 in powers of ten."""
    if abs(number) >= 10**MOST_EXPONENT:
        exponent = math.floor(math.log10(abs(number)))
        return f"{number / 10**exponent:.3g}e{exponent}"
    for size, sign in PREFIXES:
        if abs(number) >= size:
            return f"{number / size:.3g}{sign}"
    return f"{number:.3g}"


def counted(axis: Axis) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda number, _: short(number)))


def decades(low: float, high: float) -> list[float]:
    """Round numbers from low to high > 0 for a log axis: 3 to 8 of them, where there are so many.

    Steps of 10 where that is enough, else with 3, or 2 and 5, or all digits between.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        whole = [d * 10.0**e for e in range(first, last + 1) for d in digits]
        inside = [number for number in whole if low <= number <= high]
        if found and len(inside) > 8:
            break
        found = inside
        if len(found) >= 3:
            break
    return found[:: -(-len(found) // 8)] if found else found
