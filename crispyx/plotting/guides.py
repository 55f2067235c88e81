"""Guide calls at a glance."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.plotting.style import (
    DOWN,
    INK,
    NEUTRAL,
    UP,
    finish,
    legend_above,
    mark_threshold,
    panels,
    styled,
    thousands,
)

if TYPE_CHECKING:
    import anndata
    from matplotlib.axes import Axes

# Few enough that rounding to whole UMIs leaves the bins about equally wide on the log scale.
N_BINS = 24
MOST_GUIDES = 4


@styled
def guide_calls(
    calls: anndata.AnnData,
    *,
    control_guides: Iterable[str] = (),
    min_umi: int | None = None,
    ax: Any = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
) -> np.ndarray | None:
    """Draw UMIs of the called guide, guides per cell, and cells per guide.

    Parameters
    ----------
    calls : anndata.AnnData
        What :func:`crispyx.guides.assign` returned, cells x guides.
    control_guides : iterable of str
        Names of the control guides, drawn in a color of their own.
    min_umi : int or None
        Threshold of the rule, marked with a line.
    ax : sequence of three matplotlib.axes.Axes, or None
        Draw here instead of into a figure of its own.
    show : bool or None
        True shows the figure and returns None.
    savepath : str, pathlib.Path or None
        Save the figure here; PNG unless the suffix says otherwise. The folder is created.

    Returns
    -------
    numpy.ndarray (3,) of matplotlib.axes.Axes, or None
    """
    axes = panels(ax, 3, (13.0, 4.2))
    n_guides = np.diff(calls.layers["assigned"].tocsr().indptr)
    single = calls.obs[n_guides == 1]
    _umis(axes[0], single["umi_count"].to_numpy(dtype=np.float64), min_umi)
    _guides_per_cell(axes[1], n_guides)
    per_guide = single["guide_id"].astype(str).value_counts()
    cells = per_guide.reindex(calls.var_names, fill_value=0).to_numpy()
    _cells_per_guide(axes[2], cells, calls.var_names.isin(list(control_guides)))
    return finish(axes, show, savepath)


def _umis(ax: Axes, umis: np.ndarray, min_umi: int | None) -> None:
    low, high = umis.min(initial=1e9), umis.max(initial=10.0)
    low = min(low, high)
    edges = np.unique(np.round(np.geomspace(low, high + 1, N_BINS + 1)) - 0.5)
    ax.hist(
        umis,
        bins=edges.tolist(),
        color=DOWN,
        histtype="stepfilled",
        linewidth=0,
        label=f"{len(umis):,} cells",
    )
    ax.set_xscale("log")
    if min_umi is not None:
        mark_threshold(ax, min_umi, f"called from {min_umi} UMIs")
    ax.set(title="UMIs of the guide", xlabel="guide UMIs in cells with one guide", ylabel="cells")
    legend_above(ax)
    _plain_powers(ax)
    thousands(ax.yaxis)


def _plain_powers(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _guides_per_cell(ax: Axes, n_guides: np.ndarray) -> None:
    counts = np.bincount(np.minimum(n_guides, MOST_GUIDES), minlength=MOST_GUIDES + 1)
    colors = [NEUTRAL, DOWN] + [UP] * (MOST_GUIDES - 1)
    names = ["none", "one", "several"] + ["_"] * (MOST_GUIDES - 2)
    bars = ax.bar(range(MOST_GUIDES + 1), counts, color=colors, width=0.8, label=names)
    texts = [f"{count:,}" for count in counts]
    ax.bar_label(bars, labels=texts, fontsize=8.5, color=INK, padding=2)
    ax.set_xticks(range(MOST_GUIDES + 1), [*map(str, range(MOST_GUIDES)), f"{MOST_GUIDES}+"])
    ax.margins(y=0.1)
    ax.set(title="Guides per cell", xlabel="guides called in the cell", ylabel="cells")
    legend_above(ax)
    thousands(ax.yaxis)


def _cells_per_guide(ax: Axes, cells: np.ndarray, is_control: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    drawn = 0
    for chosen, color, name in ((~is_control, DOWN, "targeting"), (is_control, UP, "control")):
        heights = np.sort(cells[chosen])[::-1]
        if len(heights):
            rank = np.arange(drawn + 1, drawn + len(heights) + 1)
            label = f"{name}: {len(heights):,} guide{'s' if len(heights) > 1 else ''}"
            # Edges of the same color: no seams between the bars.
            ax.bar(
                rank, heights, width=1.0, color=color, edgecolor=color, linewidth=0.4, label=label
            )
            drawn += len(heights)
    ax.set(title="Cells per guide", xlabel="guides", ylabel="cells with this guide only")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
    ax.set_xlim(0.3, len(cells) + 0.7)
    legend_above(ax)
    thousands(ax.yaxis)
