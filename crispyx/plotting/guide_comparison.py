"""Calls of several models side by side."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.errors import InputTypeError
from crispyx.plotting.style import DOWN, finish, panels, styled, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Fields of the heatmap stay as they are on a dark page, and so must the numbers in them: none of
# these is a color that a page replaces. FULL is DOWN to the eye.
PALE, FULL, BLACK, WHITE = "#ffffff", "#0072b3", "#010101", "#fffffe"
# From here on white reads better than black.
DARK_FROM = 0.93


@styled
def guide_comparison(
    comparison: Any,
    *,
    ax: Any = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
) -> np.ndarray | None:
    """Draw how far the calls of several models agree, and how many each makes.

    Left: for every two models the Jaccard index of their calls, pairs of cell and guide that both
    make over pairs that either makes. The scale begins at the lowest tenth that occurs. Right:
    calls of each model.

    Parameters
    ----------
    comparison : Comparison
        What :func:`crispyx.guides.compare` returned.
    ax : sequence of two matplotlib.axes.Axes, or None
        Draw here instead of into a figure of its own.
    show : bool or None
        True shows the figure and returns None.
    savepath : str, pathlib.Path or None
        Save the figure here; PNG unless the suffix says otherwise. The folder is created.

    Returns
    -------
    numpy.ndarray (2,) of matplotlib.axes.Axes, or None

    Raises
    ------
    InputTypeError
        ``comparison`` is no comparison.
    InputError
        Another number of axes.
    """
    if not (hasattr(comparison, "agreement") and hasattr(comparison, "n_calls")):
        raise InputTypeError(
            f"comparison is a {type(comparison).__name__}; give what cx.gd.compare returned"
        )
    models = list(comparison.models)
    agreement = comparison.agreement.loc[models, models].to_numpy(dtype=np.float64)
    n_calls = comparison.n_calls.loc[models].to_numpy()
    axes = panels(ax, 2, (5.8 + 0.64 * len(models), 2.2 + 0.36 * len(models)))
    _heatmap(axes[0], models, agreement)
    _bars(axes[1], models, n_calls)
    return finish(axes, show, savepath)


def _heatmap(ax: Axes, models: list[str], agreement: np.ndarray) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    n = len(models)
    # Every field is a shape of its own: the picture stays sharp at any size.
    colors = LinearSegmentedColormap.from_list("agreement", [PALE, FULL])
    lowest = np.nanmin(agreement, initial=0.9)
    low = max(0.0, np.floor(lowest * 10 - 1e-9) / 10)
    edges = np.arange(n + 1) - 0.5
    ax.pcolormesh(
        edges, edges, agreement, cmap=colors, vmin=low, vmax=1.0, edgecolors=PALE, linewidth=1.0
    )
    for row in range(n):
        for column in range(n):
            value = agreement[row, column]
            dark = np.isfinite(value) and (value - low) / (1.0 - low) > DARK_FROM
            color = WHITE if dark else BLACK
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.5}
            ax.text(column, row, "1" if row == column else _text(value), color=color, **style)
    ax.set_xticks(range(n), models, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(n), models)
    ax.tick_params(length=0)
    ax.invert_yaxis()
    ax.spines[:].set_visible(False)
    ax.set_title("Agreement of the calls (Jaccard)")


def _text(value: float) -> str:
    if np.isnan(value):
        return "\N{EN DASH}"
    return f"{value:.2f}" if value < 0.995 else f"{value:.3f}"


def _bars(ax: Axes, models: list[str], n_calls: np.ndarray) -> None:
    place = np.arange(len(models))
    bars = ax.barh(place, n_calls, color=DOWN, height=0.72)
    ax.bar_label(bars, labels=[f"{int(n):,}" for n in n_calls], fontsize=8.5, padding=3)
    # Rows stand beside those of the heatmap.
    ax.set_yticks(place, [""] * len(models))
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(models) - 0.5, -0.5)
    ax.margins(x=0.18)
    ax.set(title="Calls of each model", xlabel="pairs of cell and guide")
    thousands(ax.xaxis)
