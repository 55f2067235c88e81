"""Drawings of a whole screen for its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.plotting import guide_summary, plot_calibration, plot_qc_summary
from crispyx.plotting.style import DOWN, INK, NEUTRAL, UP, offscreen, root_figure
from crispyx.report.content import Figure
from crispyx.report.figures import inline_svg
from crispyx.report.perturbations import PerturbationSummary

if TYPE_CHECKING:
    import anndata

    from crispyx.de import CalibrationResult
    from crispyx.qc import QualityControlResult

MOST_BARS = 40
N_COLORED = 5
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
POINTS_DPI = 110
FEW_GENES = 200


def hits_figure(rows: Sequence[PerturbationSummary], alpha: float) -> Figure:
    """Draw the genes raised and lowered by the perturbations that change the most."""
    chosen = sorted(rows, key=lambda one: -one.n_hits)[:MOST_BARS]
    (axes,) = offscreen(1, (12.0, 3.8))
    place = np.arange(len(chosen))
    axes.bar(place, [one.n_raised for one in chosen], color=UP, label="raised")
    axes.bar(place, [-one.n_lowered for one in chosen], color=DOWN, label="lowered")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(place, [_short(one.perturbation) for one in chosen], rotation=90)
    axes.set(ylabel="genes changed", xlim=(-0.7, max(len(chosen), 8) - 0.3))
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    axes.legend(loc="upper right", frameon=False)
    which = (
        f"The {len(chosen)} perturbations with the most changes"
        if len(chosen) < len(rows)
        else "All perturbations"
    )
    return Figure(
        svg=inline_svg(root_figure(axes), "hits"),
        caption=f"{which}: genes raised (above zero) and lowered (below) at adj p ≤ {alpha:g}.",
        alternative="Bars: genes raised and lowered by each of "
        + ", ".join(f"{one.perturbation} ({one.n_hits})" for one in chosen[:N_COLORED]),
    )


def cells_figure(
    coordinates: np.ndarray, labels: Sequence[str], control: str, strongest: Sequence[str]
) -> Figure:
    """Draw the cells of a layout, the strongest perturbations in color.

    The points are a picture inside the drawing: a million of them cost no more than a thousand.
    """
    (axes,) = offscreen(1, (12.0, 5.8))
    named = np.asarray(labels, dtype=object)
    size = float(np.clip(60_000 / max(1, len(named)), 1.5, 14))
    style: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": True}
    others = ~np.isin(named, strongest)
    axes.scatter(*coordinates[others].T, color=NEUTRAL, alpha=0.45, label="other cells", **style)
    for label, color in zip(strongest, PALETTE, strict=False):
        axes.scatter(*coordinates[named == label].T, color=color, label=_short(label), **style)
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=3.0, frameon=False)
    figure = root_figure(axes)
    figure.set_dpi(POINTS_DPI)
    return Figure(
        svg=inline_svg(figure, "cells"),
        caption=(
            f"{len(named):,} cells; in color those of the perturbations with the most changes, in "
            f"gray all others, the control ({control}) among them. A perturbation that forms no "
            "group of its own may still change genes."
        ),
        alternative=f"UMAP of {len(named):,} cells with {', '.join(strongest)} in color",
    )


def quality_figure(quality: QualityControlResult, least: Mapping[str, int | None]) -> Figure:
    """Draw genes per cell and cells per gene, kept and removed."""
    axes = offscreen(2, (12.0, 4.2))
    plot_qc_summary(
        quality,
        bins=25 if len(quality.gene_mask) < FEW_GENES else 50,
        min_genes=least.get("min_genes"),
        min_cells_per_gene=least.get("min_cells_per_gene"),
        ax=axes,
    )
    return Figure(
        svg=inline_svg(root_figure(axes[0]), "quality"),
        caption=(
            "Left: genes detected per cell. Right: cells in which each gene is detected, among the "
            "cells that were kept. Gray was removed."
        ),
        alternative="Two histograms: genes per cell and cells per gene, kept and removed",
    )


def calibration_figure(result: CalibrationResult) -> Figure:
    """Draw the p-values of control cells against control cells."""
    axes = offscreen(3, (13.2, 4.6))
    plot_calibration(result, ax=axes)
    return Figure(
        svg=inline_svg(root_figure(axes[0]), "calibration"),
        caption=(
            "Left: observed against expected p-values; lines above the gray band find what is not "
            "there. Middle: shares below .05 by mean count, with 99 % intervals. Right: depth of "
            "the perturbations over the control's, or what that depth alone does to each method."
        ),
        alternative="p-values of control cells against control cells, by method: "
        + "; ".join(
            f"{method} {row['share_05']:.3f} below .05"
            for method, row in result.of_all_genes().iterrows()
        ),
    )


def guides_figure(calls: anndata.AnnData) -> Figure:
    """Draw the counts of called guides, guides per cell, cells per guide, and called shares."""
    axes = offscreen(4, (12.0, 9.0), n_rows=2)
    guide_summary(calls, ax=axes)
    return Figure(
        svg=inline_svg(root_figure(axes[0]), "guide-calls"),
        caption=(
            "Top left: UMIs of the called guides; a clear hump to the right of the dashed line "
            "means that calls hardly depend on the threshold. Top right: guides called per cell. "
            "Bottom left: cells of every guide. Bottom right: of the cells with a UMI of the "
            "guide, the share that is called."
        ),
        alternative=(
            "Four charts: UMIs of the called guides, guides called per cell, cells per guide, and "
            "the called fraction of each guide"
        ),
    )


def _short(name: str, width: int = 18) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"
