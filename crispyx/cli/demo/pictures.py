"""Plots of the demo: PNG files, and the drawings inside the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crispyx.cli.demo.analysis import ALPHA, Analysis
from crispyx.cli.demo.outputs import OutputFolder, file_name
from crispyx.plotting import (
    guide_comparison,
    guide_fit,
    guide_summary,
    plot_qc_summary,
    plot_volcano,
)
from crispyx.plotting.style import offscreen, root_figure, save_figure
from crispyx.report import OutputFile, inline_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_VOLCANOES = 6
FEW_GENES = 200
SIZE = (12.0, 4.2)


@dataclass(frozen=True)
class Pictures:
    """Drawings for the report, and the PNG files."""

    guide_calls: str
    guide_fits: str
    fitted: tuple[str, ...]
    guide_comparison: str
    quality: str
    files: list[OutputFile]


def draw_pictures(analysis: Analysis, folder: OutputFolder) -> Pictures:
    """Draw guide calls and fits, quality control, and the volcanoes of the strongest effects."""
    calls_figure = _guide_calls(analysis, folder)
    fitted = shown_guides(analysis)
    fits_axes = offscreen(len(fitted), (SIZE[0] * len(fitted) / 2, 4.6))
    for axes, guide in zip(fits_axes, fitted, strict=True):
        guide_fit(analysis.scores, guide, ax=axes)
    save_figure(root_figure(fits_axes[0]), folder.path("plots/guide_fits.png"))
    comparison_axes = offscreen(2, SIZE)
    guide_comparison(
        analysis.comparison,
        ax=comparison_axes,
        savepath=folder.path("plots/guide_comparison.png"),
    )
    quality_axes = offscreen(2, SIZE)
    plot_qc_summary(
        analysis.quality,
        bins=25 if len(analysis.quality.gene_mask) < FEW_GENES else 50,
        min_genes=analysis.thresholds.min_genes,
        min_cells_per_gene=analysis.thresholds.min_cells_per_gene,
        ax=quality_axes,
        savepath=folder.path("plots/quality_control.png"),
    )
    return Pictures(
        inline_svg(calls_figure, "guide-calls"),
        inline_svg(fits_axes[0].figure, "guide-fits"),
        fitted,
        inline_svg(comparison_axes[0].figure, "guide-comparison"),
        inline_svg(quality_axes[0].figure, "quality"),
        [
            OutputFile("plots/guide_calls.png", "guide calls"),
            OutputFile("plots/guide_fits.png", "mixtures of two guides"),
            OutputFile("plots/guide_comparison.png", "calls of several models"),
            OutputFile("plots/quality_control.png", "quality control"),
            *_volcanoes(analysis, folder),
        ],
    )


def shown_guides(analysis: Analysis) -> tuple[str, ...]:
    """Return a guide of middling calls and the one with the least certain calls."""
    var = analysis.calls.var
    fitted = var[(var["status"].astype(str) == "ok") & (var["n_cells_assigned"] > 0)]
    if not len(fitted):
        return (str(var.index[0]),)
    middle = fitted["n_cells_assigned"].sort_values(kind="stable").index[len(fitted) // 2]
    least = fitted["expected_fdr"].idxmax()
    return tuple(dict.fromkeys((str(middle), str(least))))


def _guide_calls(analysis: Analysis, folder: OutputFolder) -> Figure:
    controls = [
        guide
        for guide, target in (analysis.screen.dataset.guide_to_target or {}).items()
        if target == analysis.control
    ]
    axes = offscreen(4, (12.0, 9.0), n_rows=2)
    guide_summary(
        analysis.calls,
        control_guides=controls,
        ax=axes,
        savepath=folder.path("plots/guide_calls.png"),
    )
    return root_figure(axes[0])


def _volcanoes(analysis: Analysis, folder: OutputFolder) -> list[OutputFile]:
    files = []
    for one in analysis.strongest[:N_VOLCANOES]:
        name = f"plots/volcano_{file_name(one.perturbation)}.png"
        plot_volcano(
            data=analysis.result,
            group=one.perturbation,
            p_cut=ALPHA,
            lfc_cut=0.0,
            ax=offscreen(1, (6.4, 5.2))[0],
            savepath=folder.path(name),
        )
        files.append(OutputFile(name, f"volcano plot of {one.perturbation}"))
    return files
