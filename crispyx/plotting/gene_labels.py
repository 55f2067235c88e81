"""Gene names beside their points, where they cover neither each other nor other points."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from crispyx.plotting.style import INK, LINE, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path
    from matplotlib.transforms import Bbox

FONT_SIZE = 8.5
RADII = (8, 15, 24, 36, 48)
# Right and left first: a name reads best beside its point.
ANGLES = (20, 160, -20, 200, 60, 120, -60, -120, 90, -90)
MAX_CHARACTERS = 24
GAP = 3.0  # pixels around a name


def label_points(
    ax: Axes, x: np.ndarray, y: np.ndarray, names: np.ndarray, obstacles: np.ndarray
) -> int:
    """Write as many names as find room, the first ones first; return how many.

    Each name tries places at growing distance around its point; a thin line leads to the distant
    ones. Names cover no point and no other name, and lines cross neither.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Axes in their final place, with final limits.
    x, y : numpy.ndarray (n_labels,)
        Points in data coordinates.
    names : numpy.ndarray (n_labels,) str
        Texts.
    obstacles : numpy.ndarray (n_points, 2)
        Points in data coordinates that texts should leave free.
    """
    taken = _Taken(ax.get_window_extent(), ax.transData.transform(obstacles))
    return sum(
        _place(ax, (point_x, point_y), plain_text(short_name(str(name))), taken)
        for point_x, point_y, name in zip(x, y, names, strict=True)
    )


@dataclass
class _Taken:
    """What the names placed so far leave free, in pixels."""

    frame: Bbox
    points: np.ndarray
    boxes: list[Bbox] = field(default_factory=list)
    lines: list[Path] = field(default_factory=list)

    def leaves_free(self, box: Bbox, line: Path | None) -> bool:
        frame = self.frame
        inside = box.x0 > frame.x0 and box.x1 < frame.x1 and box.y0 > frame.y0 and box.y1 < frame.y1
        if not inside or self._points_in(box):
            return False
        if any(box.overlaps(other) for other in self.boxes):
            return False
        if any(other.intersects_bbox(box, filled=False) for other in self.lines):
            return False
        return line is None or not (
            any(line.intersects_bbox(other, filled=False) for other in self.boxes)
            or any(line.intersects_path(other, filled=False) for other in self.lines)
        )

    def _points_in(self, box: Bbox) -> bool:
        x, y = self.points.T
        return bool(np.any((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)))


def _place(ax: Axes, point: tuple[float, float], name: str, taken: _Taken) -> bool:
    from matplotlib.path import Path
    from matplotlib.text import Text

    start = ax.transData.transform(point)
    for radius in RADII:
        for angle in ANGLES:
            dx = radius * math.cos(math.radians(angle))
            dy = radius * math.sin(math.radians(angle))
            far = radius > RADII[0]
            text = ax.annotate(
                name,
                xy=point,
                xytext=(dx, dy),
                textcoords="offset points",
                ha="center" if abs(dx) < 1 else "left" if dx > 0 else "right",
                va="center",
                fontsize=FONT_SIZE,
                color=INK,
                arrowprops=_leader() if far else None,
            )
            text.get_window_extent()  # puts the text in its place, but includes the leader
            box = Text.get_window_extent(text).padded(GAP)
            end = np.clip(start, box.min, box.max)
            line = Path(np.array([start, end])) if far else None
            if taken.leaves_free(box, line):
                taken.boxes.append(box)
                if line is not None:
                    taken.lines.append(line)
                return True
            text.remove()
    return False


def _leader() -> dict[str, object]:
    return {
        "arrowstyle": "-",
        "color": LINE,
        "linewidth": 0.6,
        "shrinkA": 0,
        "shrinkB": 2,
        "relpos": (0.5, 0.5),
    }


def short_name(name: str, most: int = MAX_CHARACTERS) -> str:
    """Return a name, its end left out where it is too long for a figure."""
    return name if len(name) <= most else name[: most - 1] + "…"
