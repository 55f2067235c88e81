"""Plots of the demo: PNG files, and the drawings inside the report."""

from __future__ import annotations

from dataclasses import dataclass

from crispyx.cli.demo.analysis import ALPHA, MIN_UMI, Analysis
from crispyx.cli.demo.outputs import OutputFolder, file_name
from crispyx.plotting import plot_qc_summary, plot_volcano
from crispyx.plotting.guides import guide_calls
from crispyx.plotting.style import offscreen
from crispyx.report import OutputFile, inline_svg

N_VOLCANOES = 6
FEW_GENES = 200
SIZE = (12.0, 4.2)


@dataclass(frozen=True)
class Pictures:
    """Drawings for the report, and the PNG files."""

    guide_calls: str
    quality: str
    files: list[OutputFile]


def draw_pictures(analysis: Analysis, folder: OutputFolder) -> Pictures:
    """Draw guide calls, quality control, and the volcanoes of the strongest perturbations."""
    controls = [
        guide
        for guide, target in (analysis.screen.dataset.guide_to_target or {}).items()
        if target == analysis.control
    ]
    calls_axes = offscreen(3, SIZE)
    guide_calls(
        analysis.calls,
        control_guides=controls,
        min_umi=MIN_UMI,
        ax=calls_axes,
        savepath=folder.path("plots/guide_calls.png"),
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
        inline_svg(calls_axes[0].figure, "guide-calls"),
        inline_svg(quality_axes[0].figure, "quality"),
        [
            OutputFile("plots/guide_calls.png", "guide calls"),
            OutputFile("plots/quality_control.png", "quality control"),
            *_volcanoes(analysis, folder),
        ],
    )


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
