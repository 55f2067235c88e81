"""crispyx: streaming analysis of single-cell CRISPR screens, on files larger than memory.

The namespaces hold the everyday functions: ``cx.gd`` guide assignment, ``cx.pp`` quality control
and normalization, ``cx.pb`` pseudobulk profiles, ``cx.tl`` differential expression, ``cx.pl``
plots, ``cx.datasets`` example screens.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from crispyx._namespaces import (
    _PlottingNamespace,
    _PreprocessingNamespace,
    _PseudobulkNamespace,
    _ToolsNamespace,
)
from crispyx._version import __version__
from crispyx.settings import settings, use_engine

if TYPE_CHECKING:
    from crispyx import (
        data,
        datasets,
        de,
        dimred,
        glm,
        guides,
        plotting,
        profiling,
        pseudobulk,
        qc,
        report,
    )
    from crispyx import guides as gd
    from crispyx.data import (
        AnnData,
        ensure_gene_symbol_column,
        load_obs,
        load_var,
        normalize_total_log1p,
        read_backed,
        read_h5ad_ondisk,
        resolve_data_path,
    )
    from crispyx.de import RankGenesGroupsResult, nb_glm_test, t_test, wilcoxon_test
    from crispyx.plotting import (
        materialize_rank_genes_groups,
        plot_ma,
        plot_overlap_heatmap,
        plot_qc_perturbation_counts,
        plot_qc_summary,
        plot_top_genes_bar,
        plot_volcano,
        rank_genes_groups_df,
    )
    from crispyx.qc import (
        filter_cells_by_gene_count,
        filter_genes_by_cell_count,
        filter_perturbations_by_cell_count,
        quality_control_summary,
    )

pp = _PreprocessingNamespace()
pb = _PseudobulkNamespace()
tl = _ToolsNamespace()
pl = _PlottingNamespace()

# Imported when first asked for, so that `import crispyx` costs no more than NumPy and h5py.
_MODULES = (
    "data",
    "datasets",
    "de",
    "dimred",
    "glm",
    "guides",
    "plotting",
    "profiling",
    "pseudobulk",
    "qc",
    "report",
)
_HOME = {
    "AnnData": "data",
    "compute_overlap": "data",
    "ensure_gene_symbol_column": "data",
    "load_obs": "data",
    "load_var": "data",
    "normalize_total_log1p": "data",
    "read_backed": "data",
    "read_h5ad_ondisk": "data",
    "resolve_data_path": "data",
    "RankGenesGroupsResult": "de",
    "nb_glm_test": "de",
    "t_test": "de",
    "wilcoxon_test": "de",
    "materialize_rank_genes_groups": "plotting",
    "plot_ma": "plotting",
    "plot_overlap_heatmap": "plotting",
    "plot_qc_perturbation_counts": "plotting",
    "plot_qc_summary": "plotting",
    "plot_top_genes_bar": "plotting",
    "plot_volcano": "plotting",
    "rank_genes_groups_df": "plotting",
    "filter_cells_by_gene_count": "qc",
    "filter_genes_by_cell_count": "qc",
    "filter_perturbations_by_cell_count": "qc",
    "quality_control_summary": "qc",
}

__all__ = [
    "AnnData",
    "RankGenesGroupsResult",
    "__version__",
    "compute_overlap",
    "data",
    "datasets",
    "de",
    "dimred",
    "ensure_gene_symbol_column",
    "filter_cells_by_gene_count",
    "filter_genes_by_cell_count",
    "filter_perturbations_by_cell_count",
    "gd",
    "glm",
    "guides",
    "load_obs",
    "load_var",
    "materialize_rank_genes_groups",
    "nb_glm_test",
    "normalize_total_log1p",
    "pb",
    "pl",
    "plot_ma",
    "plot_overlap_heatmap",
    "plot_qc_perturbation_counts",
    "plot_qc_summary",
    "plot_top_genes_bar",
    "plot_volcano",
    "plotting",
    "pp",
    "profiling",
    "pseudobulk",
    "qc",
    "quality_control_summary",
    "rank_genes_groups_df",
    "read_backed",
    "read_h5ad_ondisk",
    "report",
    "resolve_data_path",
    "settings",
    "t_test",
    "tl",
    "use_engine",
    "wilcoxon_test",
]


def __getattr__(name: str) -> Any:
    if name == "gd":
        return import_module("crispyx.guides")
    if name in _MODULES:
        return import_module(f"crispyx.{name}")
    if name in _HOME:
        return getattr(import_module(f"crispyx.{_HOME[name]}"), name)
    raise AttributeError(f"module 'crispyx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
