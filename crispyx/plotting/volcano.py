"""Volcano plot: effect against significance, gene by gene."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.errors import InputError
from crispyx.plotting.gene_points import (
    Cuts,
    count_of_genes,
    gene_points,
    label_genes,
    scatter_genes,
    summary_lines,
    tested_genes,
)
from crispyx.plotting.group_table import GroupTable, frame_table, group_table
from crispyx.plotting.style import LINE, finish, panels, plain_text, styled, subtitle

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# p = 0 is a p below the smallest double; it is drawn at the height of 1e-300.
CEILING = 300.0


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
        Key of scanpy's results in uns. Under the usual key, the tables of crispyx are read where
        ``data`` has them.
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
    cuts = Cuts(p_cut, lfc_cut)
    table = group_table(data, str(group), key) if de_df is None else frame_table(de_df, group)
    axes = panels(ax, 1, (6.4, 5.2))
    _draw(axes[0], table, cuts, n_labels)
    drawn = finish(axes, show, savepath)
    return None if drawn is None else drawn[0]


def _draw(ax: Axes, table: GroupTable, cuts: Cuts, n_labels: int) -> None:
    tested = tested_genes(table)
    points = gene_points(table, tested, cuts)
    x = points.clipped_lfc
    y = np.minimum(-np.log10(np.maximum(points.p, 10**-CEILING)), CEILING)
    scatter_genes(ax, points, x, y, "x")
    height = -np.log10(cuts.p_cut)
    for cut in sorted({-cuts.lfc_cut, cuts.lfc_cut}):
        ax.axvline(cut, color=LINE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    ax.axhline(height, color=LINE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    ax.set_xlim(-1.08 * points.limit, 1.08 * points.limit)
    top = max(y.max(initial=0.0), height)
    ax.set_ylim(-0.03 * top, 1.12 * top)
    ax.set_xlabel("log2FC (perturbation / control)")
    ax.set_ylabel("-log10(adj p)" if table.adjusted else "-log10(p)")
    n_untested = int(np.count_nonzero(~tested))
    notes = [f"{count_of_genes(n_untested)} not tested"] if n_untested else []
    lines = summary_lines(points, cuts, table.adjusted, notes)
    subtitle(ax, f"Volcano: {plain_text(table.title)}", lines)
    label_genes(ax, points, x, y, n_labels)
