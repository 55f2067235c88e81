"""Reading, copying and normalizing .h5ad files block by block (``crispyx.data``)."""

from crispyx._io.paths import resolve_data_path, resolve_output_path
from crispyx._jobs.labels import resolve_control_label
from crispyx.data.batch_process import batch_process
from crispyx.data.chunk_sizes import (
    calculate_nb_glm_chunk_size,
    calculate_optimal_chunk_size,
    calculate_optimal_gene_chunk_size,
    calculate_pca_chunk_size,
    calculate_wilcoxon_chunk_size,
)
from crispyx.data.compress import compress_h5ad
from crispyx.data.concat import concat_h5ad
from crispyx.data.convert import convert_to_csc, convert_to_csr
from crispyx.data.detect import detect_gene_symbol_column, detect_perturbation_column, infer_columns
from crispyx.data.disk_usage import DiskUsage, estimate_disk_usage
from crispyx.data.downsample import downsample_counts
from crispyx.data.edits import (
    drop_file_cache,
    write_obs,
    write_obsm_to_h5ad,
    write_obsp_to_h5ad,
    write_uns_dict_to_h5ad,
    write_var,
    write_varm_to_h5ad,
)
from crispyx.data.genes import ensure_gene_symbol_column
from crispyx.data.matrix import get_matrix_storage_format, is_dense_storage, iter_matrix_chunks
from crispyx.data.normalize import normalize_total_block, normalize_total_log1p
from crispyx.data.ondisk import AnnData, load_obs, load_var, read_backed, read_h5ad_ondisk
from crispyx.data.overlap import OverlapResult, compute_overlap
from crispyx.data.reducer import CellBlock, Reducer
from crispyx.data.sorting import (
    get_perturbation_slice,
    needs_sorting_for_nbglm,
    sort_by_perturbation,
)
from crispyx.data.standardize import (
    normalise_perturbation_labels,
    standardise_gene_names,
    standardize_dataset,
)
from crispyx.data.subsample import subsample
from crispyx.data.subset import write_filtered_subset
from crispyx.data.tenx import TenxCounts, read_10x
from crispyx.data.thresholds import calculate_adaptive_qc_thresholds

__all__ = [
    "AnnData",
    "CellBlock",
    "DiskUsage",
    "OverlapResult",
    "Reducer",
    "TenxCounts",
    "batch_process",
    "calculate_adaptive_qc_thresholds",
    "calculate_nb_glm_chunk_size",
    "calculate_optimal_chunk_size",
    "calculate_optimal_gene_chunk_size",
    "calculate_pca_chunk_size",
    "calculate_wilcoxon_chunk_size",
    "compress_h5ad",
    "compute_overlap",
    "concat_h5ad",
    "convert_to_csc",
    "convert_to_csr",
    "detect_gene_symbol_column",
    "detect_perturbation_column",
    "downsample_counts",
    "drop_file_cache",
    "ensure_gene_symbol_column",
    "estimate_disk_usage",
    "get_matrix_storage_format",
    "get_perturbation_slice",
    "infer_columns",
    "is_dense_storage",
    "iter_matrix_chunks",
    "load_obs",
    "load_var",
    "needs_sorting_for_nbglm",
    "normalise_perturbation_labels",
    "normalize_total_block",
    "normalize_total_log1p",
    "read_10x",
    "read_backed",
    "read_h5ad_ondisk",
    "resolve_control_label",
    "resolve_data_path",
    "resolve_output_path",
    "sort_by_perturbation",
    "standardise_gene_names",
    "standardize_dataset",
    "subsample",
    "write_filtered_subset",
    "write_obs",
    "write_obsm_to_h5ad",
    "write_obsp_to_h5ad",
    "write_uns_dict_to_h5ad",
    "write_var",
    "write_varm_to_h5ad",
]
