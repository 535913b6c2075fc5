"""The procedural families, in an explicit table."""

from tfgrpo.tasks.families.arithmetic import PRODUCT, SUM
from tfgrpo.tasks.families.base import Family
from tfgrpo.tasks.families.countdown import COUNTDOWN
from tfgrpo.tasks.families.sorting import SORT

FAMILIES: dict[str, Family] = {f.name: f for f in (SUM, PRODUCT, SORT, COUNTDOWN)}

__all__ = ["FAMILIES", "Family"]
