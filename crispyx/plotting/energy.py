"""Energy distances of perturbations, ranked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.data.arguments import whole
from crispyx.errors import InputError, InputTypeError
from crispyx.plotting.gene_labels import label_points, short_name
from crispyx.plotting.gene_points import MANY_POINTS
from crispyx.plotting.style import (
    LINE,
    NEUTRAL,
    UP,
    finish,
    panels,
    plain_text,
    settle_layout,
    styled,
    subtitle,
    thousands,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = ("energy_distance", "pvalue_adj")
MOST_NAMES = 60  # perturbations with a row of their own


@styled
def plot_energy_distance(
    table: pd.DataFrame,
    *,
    p_cut: float = 0.05,
    n_labels: int = 15,
    ax: Axes | None = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
) -> Axes | None:
    """Draw how far each perturbation moves its cells, beside what chance would give.

    Up to 60 perturbations have a row and a name each; more are drawn by rank, the largest named.
    Untested ones are counted below the title.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`crispyx.dimred.energy_distance`.
    p_cut : float
        Perturbations at or below this adjusted p are colored.
    n_labels : int
        Where there are many, name at most so many of the largest, where there is room.
    ax : matplotlib.axes.Axes or None
        Draw here instead of into a figure of its own.
    show : bool or None
        True shows the figure and returns None.
    savepath : str, pathlib.Path or None
        Save the figure here; PNG unless the suffix says otherwise. The folder is created.

    Returns
    -------
    matplotlib.axes.Axes or None

    Raises
    ------
    InputTypeError, InputError
        Not such a table; no perturbation in it was tested.
    """
    if not hasattr(table, "columns"):
        raise InputTypeError(
            f"table is a {type(table).__name__}; give what cx.tl.energy_distance returned"
        )
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise InputError(f"the table lacks {missing}; give what cx.tl.energy_distance returned")
    n_labels = whole("n_labels", n_labels, 0)
    tested = table[table["energy_distance"].notna()]
    if not len(tested):
        raise InputError("no perturbation of the table was tested; see min_cells_pert=")
    tested = tested.sort_values("energy_distance", ascending=False, kind="stable")
    few = len(tested) <= MOST_NAMES
    size = (5.6, 1.5 + 0.19 * len(tested)) if few else (6.4, 4.6)
    axes = panels(ax, 1, size)
    (_draw_rows if few else _draw_ranks)(axes[0], tested, p_cut, n_labels)
    n_changed = int(np.count_nonzero(tested["pvalue_adj"] <= p_cut))
    notes = f"{n_changed:,} of {len(tested):,} perturbations at adj p ≤ {p_cut:g}"
    if len(tested) < len(table):
        notes += f"; {len(table) - len(tested):,} not tested"
    control = table.attrs.get("control_label")
    title = f"Energy distance from {plain_text(control)}" if control else "Energy distance"
    subtitle(axes[0], title, [notes])
    drawn = finish(axes, show, savepath)
    return None if drawn is None else drawn[0]


def _draw_rows(ax: Axes, table: pd.DataFrame, p_cut: float, n_labels: int) -> None:
    place = np.arange(len(table))
    distance = table["energy_distance"].to_numpy()
    changed = (table["pvalue_adj"] <= p_cut).to_numpy()
    ax.hlines(place, 0, distance, color=LINE, linewidth=0.7, zorder=1)
    for chosen, color, name in _kinds(changed, p_cut):
        ax.scatter(distance[chosen], place[chosen], s=26, color=color, label=name, zorder=3)
    _draw_expected(ax, table, place, rows=True)
    ax.set_yticks(place, [plain_text(short_name(str(label))) for label in table.index], fontsize=8)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlim(0, 1.06 * distance.max() or 1)
    ax.set_xlabel("energy distance")
    ax.legend(loc="lower right")


def _draw_ranks(ax: Axes, table: pd.DataFrame, p_cut: float, n_labels: int) -> None:
    rank = np.arange(1, len(table) + 1)
    distance = table["energy_distance"].to_numpy()
    changed = (table["pvalue_adj"] <= p_cut).to_numpy()
    many: dict[str, Any] = {"linewidths": 0, "rasterized": len(table) > MANY_POINTS}
    _draw_expected(ax, table, rank, rows=False)
    for chosen, color, name in _kinds(changed, p_cut):
        above = 4 if color == UP else 3  # the changed ones are never hidden
        style = {"color": color, "label": name, "zorder": above, **many}
        ax.scatter(rank[chosen], distance[chosen], s=12, **style)
    if (distance > 0).all():
        ax.set_yscale("log")
    thousands(ax.xaxis)
    ax.set_xlim(-0.02 * len(table), 1.02 * len(table))
    ax.set(xlabel="perturbations by rank", ylabel="energy distance")
    ax.legend(loc="upper right", markerscale=1.6)
    if n_labels:
        settle_layout(ax)
        names = table.index.to_numpy(dtype=object)[:n_labels]
        points = np.column_stack([rank, distance])
        label_points(ax, rank[:n_labels], distance[:n_labels], names, points)


def _kinds(changed: np.ndarray, p_cut: float) -> list[tuple[np.ndarray, str, str]]:
    kinds = [
        (changed, UP, f"adj p ≤ {p_cut:g}"),
        (~changed, NEUTRAL, "not significant"),
    ]
    return [kind for kind in kinds if kind[0].any()]


def _draw_expected(ax: Axes, table: pd.DataFrame, place: np.ndarray, rows: bool) -> None:
    """Mark the mean distance of shuffled labels, where it is known."""
    if "expected" not in table or table["expected"].isna().all():
        return
    expected = table["expected"].to_numpy()
    x, y = (expected, place) if rows else (place, expected)
    style: dict[str, Any] = {"color": LINE, "zorder": 2, "label": "labels shuffled (mean)"}
    if rows:
        ax.scatter(x, y, s=40, marker="|", linewidths=1.4, **style)
    else:
        ax.scatter(x, y, s=3, linewidths=0, rasterized=len(table) > MANY_POINTS, **style)
