"""Quality control of cells, perturbations and genes (``crispyx.qc``)."""

from crispyx._io.chunk_cache import ChunkCache as _ChunkCache
from crispyx.qc.filters import (
    filter_cells_by_gene_count,
    filter_genes_by_cell_count,
    filter_perturbations_by_cell_count,
)
from crispyx.qc.result import QualityControlResult, _CellFilterResult
from crispyx.qc.summary import quality_control_summary

__all__ = [
    "QualityControlResult",
    "_CellFilterResult",
    "_ChunkCache",
    "filter_cells_by_gene_count",
    "filter_genes_by_cell_count",
    "filter_perturbations_by_cell_count",
    "quality_control_summary",
]
