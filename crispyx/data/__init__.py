"""Reading, copying and normalizing .h5ad files block by block (``crispyx.data``)."""

from crispyx._io.paths import resolve_data_path, resolve_output_path
from crispyx._jobs.labels import resolve_control_label
from crispyx.data.convert import convert_to_csc, convert_to_csr
from crispyx.data.genes import ensure_gene_symbol_column
from crispyx.data.matrix import get_matrix_storage_format, is_dense_storage, iter_matrix_chunks
from crispyx.data.normalize import normalize_total_block, normalize_total_log1p
from crispyx.data.ondisk import AnnData, load_obs, load_var, read_backed, read_h5ad_ondisk
from crispyx.data.sorting import (
    get_perturbation_slice,
    needs_sorting_for_nbglm,
    sort_by_perturbation,
)
from crispyx.data.subset import write_filtered_subset

__all__ = [
    "AnnData",
    "convert_to_csc",
    "convert_to_csr",
    "ensure_gene_symbol_column",
    "get_matrix_storage_format",
    "get_perturbation_slice",
    "is_dense_storage",
    "iter_matrix_chunks",
    "load_obs",
    "load_var",
    "needs_sorting_for_nbglm",
    "normalize_total_block",
    "normalize_total_log1p",
    "read_backed",
    "read_h5ad_ondisk",
    "resolve_control_label",
    "resolve_data_path",
    "resolve_output_path",
    "sort_by_perturbation",
    "write_filtered_subset",
]
