"""What an operation will write, before it is started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crispyx._io.annotations import as_labels
from crispyx._io.source import MatrixSource, open_source
from crispyx._io.subset import slot_bytes
from crispyx.data.arguments import PathLike
from crispyx.errors import InputError

# Bytes of the tables of a result for one pair of perturbation and gene (docs/formats.md).
PER_PAIR = {
    "t_test": 40,
    "wilcoxon_test": 56,
    "nb_glm_test": 113,  # equal tables are stored once
    "compute_average_log_expression": 16,
    "compute_pseudobulk_expression": 16,
}
METHODS = {
    "wilcoxon": "wilcoxon_test",
    "t-test": "t_test",
    "t_test": "t_test",
    "nb_glm": "nb_glm_test",
    "nb-glm": "nb_glm_test",
}
SMALLER = ("quality_control_summary", "subsample", "downsample_counts")
SAME_VALUES = ("convert_to_csc", "convert_to_csr", "sort_by_perturbation")
FRAME = 60_000  # structure of an HDF5 file, and notes


@dataclass(frozen=True)
class DiskUsage:
    """Bytes that an operation needs.

    Attributes
    ----------
    operation : str
        Its name.
    n_bytes : int
        Size of its output. Outputs grow in a hidden file beside their final name, which is renamed:
        no more is needed meanwhile, but for the scratch files of a small memory budget.
    upper_bound : bool
        The output may be smaller: what is kept, or not zero, shows itself on the way.
    free : int
        Bytes free where the output would go.
    """

    operation: str
    n_bytes: int
    upper_bound: bool
    free: int

    @property
    def fits(self) -> bool:
        """Whether the output fits into the free space."""
        return self.n_bytes <= self.free


def estimate_disk_usage(
    operation: str | Callable[..., Any],
    data: Any,
    *,
    perturbation_column: str | None = None,
    method: str = "wilcoxon",
    output_dir: PathLike | None = None,
    layer: str | None = None,
) -> DiskUsage:
    """Say how much an operation will write, from the shape of the data alone.

    Parameters
    ----------
    operation : str or callable
        A function of crispyx or its name: ``normalize_total_log1p``, ``convert_to_csc``,
        ``convert_to_csr``, ``sort_by_perturbation``, ``quality_control_summary``, ``subsample``,
        ``downsample_counts``, ``t_test``, ``wilcoxon_test``, ``nb_glm_test``,
        ``rank_genes_groups``, ``compute_average_log_expression``,
        ``compute_pseudobulk_expression``.
    data : path, crispyx.AnnData or anndata.AnnData
        Its input.
    perturbation_column : str or None
        obs column of labels, for operations with a row per perturbation.
    method : {"wilcoxon", "t-test", "nb_glm"}
        Of ``rank_genes_groups``.
    output_dir : path or None
        Where the output would go; None takes the folder of the input, else the current one.
    layer : str or None
        Layer that is used instead of X.

    Returns
    -------
    DiskUsage
        Right to 5 % and 100 kB for uncompressed inputs; of compressed ones the other slots are
        counted at their full size, an upper bound.

    Raises
    ------
    InputError, MissingColumnError
        Unknown operation; no column given where one is needed.
    """
    name = operation if isinstance(operation, str) else operation.__name__
    if name == "rank_genes_groups":
        if method not in METHODS:
            raise InputError(f"method is {method!r}; choose one of {tuple(METHODS)}")
        name = METHODS[method]
    known = ("normalize_total_log1p", *SAME_VALUES, *SMALLER, *PER_PAIR)
    if name not in known:
        raise InputError(f"operation is {name!r}; known are {', '.join(known)}")
    with open_source(data, layer) as source:
        if name in PER_PAIR:
            if perturbation_column is None:
                raise InputError(f"{name} has a row per perturbation; give perturbation_column=")
            n_bytes = _table_bytes(source, perturbation_column, PER_PAIR[name])
            if name == "nb_glm_test":
                n_bytes += 8 * source.shape[0]  # size factors
        else:
            n_bytes = _copy_bytes(source, name)
        dense = source.layout == "dense"
        folder = Path(output_dir or (source.path.parent if source.path else os.curdir))
    bound = name in SMALLER or (dense and name not in PER_PAIR and name != "sort_by_perturbation")
    while not folder.exists():
        folder = folder.parent
    return DiskUsage(name, n_bytes, bound, shutil.disk_usage(folder).free)


def _table_bytes(source: MatrixSource, column: str, per_pair: int) -> int:
    labels = {label for label in as_labels(source.obs.column(column)) if label is not None}
    n_genes = source.shape[1]
    text = sum(len(name) + 24 for name in source.var.index)
    return FRAME + per_pair * (len(labels) - 1) * n_genes + text + 48 * len(labels)


def _copy_bytes(source: MatrixSource, name: str) -> int:
    n_stored, itemsize = source.storage.n_stored, source.dtype.itemsize
    if name == "normalize_total_log1p":
        itemsize = 4
    stays_dense = source.layout == "dense" and name in ("sort_by_perturbation", *SMALLER[:2])
    per_value = itemsize if stays_dense else itemsize + 4
    n_major = source.shape[1] if name == "convert_to_csc" else source.shape[0]
    index = 8 * source.shape[0] if name == "sort_by_perturbation" else 0
    names = sum(len(text) + 16 for text in source.obs.index)
    return FRAME + per_value * n_stored + 4 * n_major + index + names + slot_bytes(source)
