"""Figures: volcano, MA, quality control, guide calls and fits, embeddings (``cx.pl``)."""

from __future__ import annotations

from crispyx.plotting.calibration import plot_calibration
from crispyx.plotting.components import plot_pca_loadings, plot_pca_variance_ratio
from crispyx.plotting.effect_heatmap import plot_effect_heatmap
from crispyx.plotting.embedding import plot_pca, plot_umap
from crispyx.plotting.energy import plot_energy_distance
from crispyx.plotting.guide_comparison import guide_comparison
from crispyx.plotting.guide_fit import guide_fit
from crispyx.plotting.guide_summary import guide_summary
from crispyx.plotting.ma import plot_ma
from crispyx.plotting.on_target import on_target_df, plot_on_target
from crispyx.plotting.overlap import plot_overlap_heatmap
from crispyx.plotting.perturbation_counts import plot_qc_perturbation_counts
from crispyx.plotting.qc import plot_qc_summary
from crispyx.plotting.rank_frame import rank_genes_groups_df
from crispyx.plotting.scanpy_plots import materialize_rank_genes_groups, rank_genes_groups
from crispyx.plotting.top_genes import plot_top_genes_bar
from crispyx.plotting.volcano import plot_volcano

__all__ = [
    "guide_comparison",
    "guide_fit",
    "guide_summary",
    "materialize_rank_genes_groups",
    "on_target_df",
    "plot_calibration",
    "plot_effect_heatmap",
    "plot_energy_distance",
    "plot_ma",
    "plot_on_target",
    "plot_overlap_heatmap",
    "plot_pca",
    "plot_pca_loadings",
    "plot_pca_variance_ratio",
    "plot_qc_perturbation_counts",
    "plot_qc_summary",
    "plot_top_genes_bar",
    "plot_umap",
    "plot_volcano",
    "rank_genes_groups",
    "rank_genes_groups_df",
]
