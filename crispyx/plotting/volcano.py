"""Volcano plot: effect against significance, gene by gene."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.errors import InputError
from crispyx.plotting.gene_labels import label_points
from crispyx.plotting.group_table import GroupTable, frame_table, group_table
from crispyx.plotting.style import (
    DOWN,
    LINE,
    NEUTRAL,
    UP,
    finish,
    panels,
    settle_layout,
    styled,
    subtitle,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# p = 0 is a p below the smallest double; it is drawn at the height of 1e-300.
CEILING = 300.0
# A gene seen in one arm only has a fold change that tells nothing but the pseudocount.
MAX_LFC = 10.0
# Beyond this a vector format would store each point; they become a picture within it.
MANY_POINTS = 5000


@styled
def plot_volcano(
    *,
    data: Any = None,
    group: str | None = None,
    de_df: pd.DataFrame | None = None,
    key: str = "rank_genes_groups",
    p_cut: float = 0.05,
    lfc_cut: float = 1.0,
    ax: Axes | None = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
    n_labels: int = 10,
) -> Axes | None:
    """Draw log2 fold change against adjusted p-value of one perturbation.

    Genes without a p-value (untested) are not drawn but counted below the title. A p of 0 stands at
    300; a fold change beyond 10 stands at the edge, as a triangle.

    Parameters
    ----------
    data : RankGenesGroupsResult, str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        A result, its file, or data with scanpy's ``uns[key]``; with ``group``.
    group : str or None
        Label of the perturbation.
    de_df : pandas.DataFrame or None
        Instead of ``data``: columns logfoldchanges, pvals_adj (else pvals), and names for labels.
    key : str
        Key of scanpy's results in uns, read where ``data`` has no tables of crispyx.
    p_cut : float
        Genes at or below this adjusted p ...
    lfc_cut : float
        ... and at or beyond this absolute log2 fold change are colored.
    ax : matplotlib.axes.Axes or None
        Draw here instead of into a figure of its own.
    show : bool or None
        True shows the figure and returns None.
    savepath : str, pathlib.Path or None
        Save the figure here; PNG unless the suffix says otherwise. The folder is created.
    n_labels : int
        Name at most this many of the most significant genes, where there is room.

    Returns
    -------
    matplotlib.axes.Axes or None

    Raises
    ------
    InputError
        Neither ``de_df`` nor ``data`` and ``group``; no such group; a column is missing.
    """
    if de_df is None and (data is None or group is None):
        raise InputError("give either de_df=, or data= and group=")
    if not (p_cut > 0 and lfc_cut >= 0):
        raise InputError(
            f"p_cut is {p_cut!r} and lfc_cut {lfc_cut!r}; give p_cut > 0, lfc_cut >= 0"
        )
    table = group_table(data, str(group), key) if de_df is None else frame_table(de_df, group)
    axes = panels(ax, 1, (6.4, 5.2))
    _draw(axes[0], table, p_cut, lfc_cut, n_labels)
    drawn = finish(axes, show, savepath)
    return None if drawn is None else drawn[0]


def _draw(ax: Axes, table: GroupTable, p_cut: float, lfc_cut: float, n_labels: int) -> None:
    tested = np.isfinite(table.logfoldchanges) & np.isfinite(table.pvalues)
    lfc, p = table.logfoldchanges[tested], table.pvalues[tested]
    height = np.minimum(-np.log10(np.maximum(p, 10**-CEILING)), CEILING)
    limit = _limit(lfc, lfc_cut)
    x = np.clip(lfc, -limit, limit)
    significant = (p <= p_cut) & (np.abs(lfc) >= lfc_cut)
    up, down = significant & (lfc > 0), significant & (lfc < 0)
    for chosen, color, size in ((~(up | down), NEUTRAL, 14), (down, DOWN, 22), (up, UP, 22)):
        inner, edge = chosen & (np.abs(lfc) <= limit), chosen & (np.abs(lfc) > limit)
        style: dict[str, Any] = {
            "color": color,
            "linewidths": 0,
            "rasterized": bool(chosen.sum() > MANY_POINTS),
        }
        ax.scatter(x[inner], height[inner], s=size, alpha=0.85, **style)
        for side, marker in ((edge & (lfc > 0), ">"), (edge & (lfc < 0), "<")):
            if side.any():
                ax.scatter(x[side], height[side], s=size + 8, marker=marker, clip_on=False, **style)
    for cut in sorted({-lfc_cut, lfc_cut}):
        ax.axvline(cut, color=LINE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    ax.axhline(-np.log10(p_cut), color=LINE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    ax.set_xlim(-1.08 * limit, 1.08 * limit)
    top = max(height.max(initial=0.0), -np.log10(p_cut))
    ax.set_ylim(-0.03 * top, 1.12 * top)
    ax.set_xlabel("log2FC (perturbation / control)")
    ax.set_ylabel("-log10(adj p)" if table.adjusted else "-log10(p)")
    _describe(ax, table, (up, down, ~tested, np.abs(lfc) > limit), p_cut, lfc_cut)
    if table.genes is not None and n_labels > 0:
        # Names are placed in pixels: the layout has to be settled first.
        settle_layout(ax)
        first = np.lexsort((-np.abs(lfc), p))
        first = first[significant[first]][:n_labels]
        names = table.genes[tested][first]
        label_points(ax, x[first], height[first], names, np.column_stack([x, height]))


def _limit(lfc: np.ndarray, lfc_cut: float) -> float:
    regular = np.abs(lfc[np.abs(lfc) <= MAX_LFC])
    return float(max(regular.max(initial=0.0), 1.5 * lfc_cut, 0.5))


def _describe(
    ax: Axes, table: GroupTable, counts: tuple[np.ndarray, ...], p_cut: float, lfc_cut: float
) -> None:
    up, down, untested, beyond = (int(mask.sum()) for mask in counts)
    kind = "adj p" if table.adjusted else "p"
    limits = f"{kind} ≤ {p_cut:g}" + (f" and |log2FC| ≥ {lfc_cut:g}" if lfc_cut else "")
    lines = [f"{up:,} up, {down:,} down at {limits}"]
    notes = [f"{untested:,} {_genes(untested)} not tested"] if untested else []
    if beyond:
        notes.append(f"{beyond:,} {_genes(beyond)} with |log2FC| > {MAX_LFC:g} at the edge")
    if notes:
        lines.append("; ".join(notes))
    subtitle(ax, f"Volcano: {_plain(table.title)}", lines)


def _genes(n: int) -> str:
    return "gene" if n == 1 else "genes"


def _plain(text: str) -> str:
    return text.replace("$", r"\$")
