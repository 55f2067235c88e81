"""Histograms of whole numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.plotting.style import DOWN, NEUTRAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def whole_number_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Return edges of at most ``bins`` bins that hold equally many whole numbers each.

    Edges lie on halves: bins that hold now two, now three numbers would draw a comb that is not in
    the data.
    """
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    width = max(1, -(-(high - low + 1) // bins))
    n_bins = -(-(high - low + 1) // width)
    return low - 0.5 + width * np.arange(n_bins + 1)


def draw_kept_and_removed(ax: Axes, values: np.ndarray, kept: np.ndarray, bins: int) -> None:
    """Draw kept values, and all values behind them, labeled with their numbers."""
    style: dict[str, Any] = {"histtype": "stepfilled", "linewidth": 0}
    style["bins"] = whole_number_edges(values, bins)
    n_kept = int(kept.sum())
    ax.hist(values[kept], color=DOWN, zorder=2, label=f"kept: {n_kept:,}", **style)
    ax.hist(values, color=NEUTRAL, zorder=1, label=f"removed: {len(kept) - n_kept:,}", **style)
