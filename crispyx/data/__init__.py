"""Reading, copying and normalizing .h5ad files block by block (``crispyx.data``)."""

from crispyx._io.paths import resolve_data_path, resolve_output_path
from crispyx._jobs.labels import resolve_control_label
from crispyx.data.genes import ensure_gene_symbol_column
from crispyx.data.matrix import get_matrix_storage_format, is_dense_storage, iter_matrix_chunks
from crispyx.data.normalize import normalize_total_block, normalize_total_log1p
from crispyx.data.ondisk import AnnData, load_obs, load_var, read_backed, read_h5ad_ondisk
from crispyx.data.subset import write_filtered_subset

__all__ = [
    "AnnData",
    "ensure_gene_symbol_column",
    "get_matrix_storage_format",
    "is_dense_storage",
    "iter_matrix_chunks",
    "load_obs",
    "load_var",
    "normalize_total_block",
    "normalize_total_log1p",
    "read_backed",
    "read_h5ad_ondisk",
    "resolve_control_label",
    "resolve_data_path",
    "resolve_output_path",
    "write_filtered_subset",
]
