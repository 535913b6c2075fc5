"""Names beside what they name, moved apart where they would cover each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfgrpo.report.figures.style import FAINT, Look, lay_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINT_SIZE = 7.5  # points of type
RADII = (9.0, 14.0, 20.0, 28.0, 38.0, 50.0)  # points from a mark to its label
TURNS = 12

Box = tuple[float, float, float, float]  # left, bottom, right, top


@dataclass(frozen=True, slots=True)
class Named:
    """A point in data units, and the name to set beside it; `reach` are the ends of its intervals,
    (x, x, y, y).
    """

    x: float
    y: float
    look: Look
    bold: bool = False
    reach: Box | None = None


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights moved apart to `gap` or more in their order, between `low` and `high` if they fit.

    Those that collide form a block about their mean, which keeps what is labelled beside its label.
    """
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    blocks: list[tuple[float, int]] = []  # (centre, members)
    for i in order:
        centre, size = heights[i], 1
        while blocks and centre - blocks[-1][0] < gap * (size + blocks[-1][1]) / 2:
            other, members = blocks.pop()
            centre = (centre * size + other * members) / (size + members)
            size += members
        blocks.append((centre, size))
    blocks = _inside(blocks, gap, low, high)
    moved = [c + gap * (i - (size - 1) / 2) for c, size in blocks for i in range(size)]
    placed = [0.0] * len(heights)
    for i, height in zip(order, moved, strict=True):
        placed[i] = height
    return placed


def _inside(
    blocks: Sequence[tuple[float, int]], gap: float, low: float, high: float
) -> list[tuple[float, int]]:
    """From the top down, then from the bottom up, each block as far inside as the others let it."""
    moved: list[tuple[float, int]] = []
    for centre, size in reversed(blocks):
        centre = min(centre, high - gap * (size - 1) / 2)
        moved.append((centre, size))
        high = centre - gap * (size + 1) / 2
    kept: list[tuple[float, int]] = []
    for centre, size in reversed(moved):
        centre = max(centre, low + gap * (size - 1) / 2)
        kept.append((centre, size))
        low = centre + gap * (size + 1) / 2
    return kept


def end_labels(axes: Axes, ends: Sequence[Named], height: float) -> None:
    """Names right of the axes, `height` inches high, each with a line to its curve's end."""
    low, high = axes.get_ylim()
    per_point = (high - low) / (72 * height)
    places = spread([end.y for end in ends], 1.2 * POINT_SIZE * per_point, low, high)
    for end, place in zip(ends, places, strict=True):
        axes.annotate(
            end.look.label, (1.0, end.y), xycoords=("axes fraction", "data"),
            xytext=(11, (place - end.y) / per_point), textcoords="offset points",
            color=end.look.ink, fontsize=POINT_SIZE, va="center", annotation_clip=False,
            fontweight="bold" if end.bold else "normal",
            arrowprops={"arrowstyle": "-", "lw": 0.6, "color": end.look.colour,
                        "shrinkA": 1, "shrinkB": 1, "relpos": (0.0, 0.5)},
        )  # fmt: skip


def point_labels(axes: Axes, points: Sequence[Named]) -> None:
    """Names near their marks, where they cover neither marks, intervals nor names.

    The axes' limits must be final.
    """
    figure = axes.figure.figure
    lay_out(figure)
    unit = figure.dpi / 72
    marks = [axes.transData.transform((p.x, p.y)).tolist() for p in points]
    frame = axes.get_window_extent().extents
    taken = [box for p in points for box in _drawn(axes, p, unit)]
    crowd = sorted(range(len(points)), key=lambda i: (not points[i].bold, _neighbours(marks, i)))
    for i in crowd:
        point = points[i]
        text = axes.annotate(
            point.look.label, (point.x, point.y), xytext=(0, 0), textcoords="offset points",
            color=point.look.ink, ha="center", va="center", zorder=6,
            bbox={"fc": "white", "alpha": 0.7, "lw": 0, "pad": 0.4},
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": FAINT, "shrinkB": 4, "shrinkA": 0},
            fontsize=POINT_SIZE, fontweight="bold" if point.bold else "normal",
        )  # fmt: skip
        text.set_in_layout(False)
        size = text.get_window_extent()
        half = size.width / 2 + 2 * unit, size.height / 2
        offset, box = _free(marks[i], half, taken, tuple(frame), unit)
        text.set_position(offset)
        taken.append(box)


def _drawn(axes: Axes, point: Named, unit: float) -> list[Box]:
    """What a label must not cover, in pixels: the mark and both of its intervals."""
    x, y = axes.transData.transform((point.x, point.y)).tolist()
    half, thin = 5 * unit, unit
    found: list[Box] = [(x - half, y - half, x + half, y + half)]
    if point.reach is not None:
        x0, x1, y0, y1 = point.reach
        left, bottom = axes.transData.transform((x0, y0)).tolist()
        right, top = axes.transData.transform((x1, y1)).tolist()
        found += [(left, y - thin, right, y + thin), (x - thin, bottom, x + thin, top)]
    return [box for box in found if all(map(math.isfinite, box))]


def _neighbours(marks: Sequence[Sequence[float]], i: int) -> int:
    """How many marks are near: those with few places left choose first, hence negative."""
    return -sum(math.dist(marks[i], other) < 80 for other in marks)


def _free(
    mark: Sequence[float],
    half: tuple[float, float],
    taken: Sequence[Box],
    frame: tuple[float, ...],
    unit: float,
) -> tuple[tuple[float, float], Box]:
    """The offset in points that covers least, the nearest one among equals; and the box there."""
    best: tuple[float, tuple[float, float], Box] | None = None
    for radius in RADII:
        for turn in range(TURNS):
            angle = 2 * math.pi * turn / TURNS
            # The label's near edge, not its middle, is what stands `radius` away.
            dx = radius * math.cos(angle) + half[0] / unit * math.cos(angle)
            dy = radius * math.sin(angle)
            x, y = mark[0] + dx * unit, mark[1] + dy * unit
            box = (x - half[0], y - half[1], x + half[0], y + half[1])
            outside = box[0] < frame[0] or box[1] < frame[1]
            outside = outside or box[2] > frame[2] or box[3] > frame[3]
            cost = sum(_overlap(box, other) for other in taken) + (1e6 if outside else 0.0)
            if best is None or cost < best[0] - 1e-6:
                best = cost, (dx, dy), box
    assert best is not None
    return best[1], best[2]


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)
