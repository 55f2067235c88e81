"""Quality control at a glance."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.errors import InputError
from crispyx.plotting.histogram import draw_kept_and_removed
from crispyx.plotting.style import finish, legend_above, mark_threshold, panels, styled, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from crispyx.qc import QualityControlResult


@styled
def plot_qc_summary(
    qc_result: QualityControlResult,
    *,
    bins: int = 50,
    min_genes: int | None = None,
    min_cells_per_gene: int | None = None,
    ax: Any = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
) -> np.ndarray | None:
    """Draw how many genes each cell and how many cells each gene has, kept and removed apart.

    Parameters
    ----------
    qc_result : QualityControlResult
        What :func:`crispyx.qc.quality_control_summary` returned.
    bins : int
        Bins of each histogram, at most.
    min_genes, min_cells_per_gene : int or None
        Thresholds to mark with a line.
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
    InputError
        ``bins`` below 1, or another number of axes.
    """
    if int(bins) != bins or bins < 1:
        raise InputError(f"bins is {bins!r}; give a whole number >= 1")
    axes = panels(ax, 2, (10.0, 4.2))
    left, right = axes
    _panel(left, qc_result.cell_gene_counts, qc_result.cell_mask, int(bins), min_genes, "min_genes")
    left.set(title="Genes per cell", xlabel="genes with at least one count", ylabel="cells")
    _panel(
        right,
        qc_result.gene_cell_counts,
        qc_result.gene_mask,
        int(bins),
        min_cells_per_gene,
        "min_cells_per_gene",
    )
    right.set(title="Cells per gene", xlabel="cells with at least one count", ylabel="genes")
    for panel in axes:
        legend_above(panel)
    return finish(axes, show, savepath)


def _panel(
    ax: Axes, values: np.ndarray, kept: np.ndarray, bins: int, threshold: int | None, name: str
) -> None:
    draw_kept_and_removed(ax, np.asarray(values), np.asarray(kept, dtype=bool), bins)
    if threshold is not None:
        mark_threshold(ax, threshold, f"{name} = {threshold:,}")
    thousands(ax.xaxis)
    thousands(ax.yaxis)
