"""What an operation will write, before it is started."""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.memberships import PREFIX, read_memberships
from crispyx._io.source import MatrixSource, open_source
from crispyx._io.subset import slot_bytes
from crispyx.errors import InputError, InputTypeError

# Bytes of the tables of a result for one pair of perturbation and gene (docs/formats.md).
PER_PAIR = {
    "t_test": 44,
    "wilcoxon_test": 56,
    "nb_glm_test": 113,  # equal tables are stored once
    "compute_average_log_expression": 16,
    "compute_pseudobulk_expression": 16,
    "effects": 24,
    "normalized_effects": 16,
    "residual_effects": 40,
    "aggregate": 8,
}
SCANPY = 67  # and of scanpy's tables beside them, without the names of genes
OTHER_NAMES = {
    "average_log_expression": "compute_average_log_expression",
    "pseudobulk": "compute_pseudobulk_expression",
    "qc_summary": "quality_control_summary",
    "wilcoxon": "wilcoxon_test",
    "t-test": "t_test",
    "nb_glm": "nb_glm_test",
    "nb-glm": "nb_glm_test",
}
METHODS = ("wilcoxon", "t-test", "t_test", "nb_glm", "nb-glm")
SMALLER = ("quality_control_summary", "subsample", "downsample_counts", "compress_h5ad")
SAME_VALUES = ("convert_to_csc", "convert_to_csr", "sort_by_perturbation", "concat_h5ad")
KNOWN = ("normalize_total_log1p", *SAME_VALUES, *SMALLER, *PER_PAIR, "rank_genes_groups")
# What makes an output larger or smaller; other arguments change no size.
USED = (
    "batch_column",
    "control_label",
    "counts_per_cell",
    "fraction",
    "groupby",
    "layer",
    "method",
    "n_obs",
    "output_dir",
    "output_path",
    "perturbation_column",
    "perturbations",
    "reference",
    "scanpy_format",
    "total_counts",
    "unit",
)
FRAME = 110_000  # structure of an HDF5 file, and notes


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
    operation: str | Callable[..., Any], data: Any, **arguments: Any
) -> DiskUsage:
    """Say how much an operation will write, from the shape of the data and the labels alone.

    Parameters
    ----------
    operation : str or callable
        A function of crispyx or its name: ``normalize_total_log1p``, ``convert_to_csc``,
        ``convert_to_csr``, ``sort_by_perturbation``, ``concat_h5ad``, ``compress_h5ad``,
        ``quality_control_summary``, ``subsample``, ``downsample_counts``, ``t_test``,
        ``wilcoxon_test``, ``nb_glm_test``, ``rank_genes_groups``, ``residual_effects``,
        ``compute_average_log_expression``, ``compute_pseudobulk_expression``, ``effects``,
        ``normalized_effects``, ``aggregate``.
    data : path, crispyx.AnnData or anndata.AnnData, list of paths
        Its input.
    **arguments
        Arguments of the operation, as it takes them; with a name instead of a function those that
        decide a size or a place (``perturbation_column``, ``groupby``, ``n_obs``, ``output_dir``,
        ...).

    Returns
    -------
    DiskUsage
        Right to 5 % and 100 kB for uncompressed inputs; of compressed ones the other slots are
        counted at their full size, an upper bound.

    Raises
    ------
    InputError, MissingColumnError
        Unknown operation; no column given where one is needed.
    InputTypeError
        The operation has no such argument.

    Examples
    --------
    >>> import anndata, numpy as np, crispyx as cx
    >>> adata = anndata.AnnData(np.ones((200, 50), np.float32))
    >>> usage = cx.tl.estimate_disk_usage(cx.pp.subsample, adata, n_obs=20)
    >>> usage.operation, usage.n_bytes < 200_000, usage.fits
    ('subsample', True, True)
    """
    name = operation if isinstance(operation, str) else operation.__name__
    name = OTHER_NAMES.get(name, name)
    if name not in KNOWN:
        raise InputError(f"operation is {name!r}; known are {', '.join(KNOWN)}")
    _require_known_arguments(operation, arguments)
    if name == "rank_genes_groups":
        method = arguments.get("method", "wilcoxon")
        if method not in METHODS:
            raise InputError(f"method is {method!r}; choose one of {METHODS}")
        name = OTHER_NAMES.get(method, method)
    with open_source(data, arguments.get("layer")) as source:
        table = name in PER_PAIR
        n_bytes, bound = (_table_bytes if table else _copy_bytes)(source, name, arguments)
        folder = _folder(source, arguments)
    return DiskUsage(name, n_bytes, bound, shutil.disk_usage(folder).free)


def _require_known_arguments(
    operation: str | Callable[..., Any], arguments: Mapping[str, Any]
) -> None:
    known: set[str] = set(USED)
    if not isinstance(operation, str):
        parameters = inspect.signature(operation).parameters
        if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            return
        known = set(parameters)
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise InputTypeError(
            f"{unknown[0]!r} is no argument of {getattr(operation, '__name__', operation)} that "
            f"could be used; there are {', '.join(sorted(known))}"
        )


def _folder(source: MatrixSource, arguments: Mapping[str, Any]) -> Path:
    """Return the folder of the output, or the first above it that is there."""
    paths = source.paths
    folder = paths[0].parent if paths else Path(os.curdir)
    if arguments.get("output_path") is not None:
        folder = Path(arguments["output_path"]).expanduser().parent
    elif arguments.get("output_dir") is not None:
        folder = Path(arguments["output_dir"]).expanduser()
    while not folder.exists():
        folder = folder.parent
    return folder


def _table_bytes(source: MatrixSource, name: str, arguments: Mapping[str, Any]) -> tuple[int, bool]:
    """Return the bytes of a table of groups and genes; and whether small groups may be missing."""
    column = arguments.get("perturbation_column") or arguments.get("groupby")
    if column is None:
        key = "groupby" if name == "aggregate" else "perturbation_column"
        raise InputError(f"{name} has a row for each label; give {key}=")
    columns = [column] if isinstance(column, str) else list(column)
    if name == "effects" and arguments.get("batch_column"):
        columns.append(arguments["batch_column"])
    labels = _labels(source, columns)
    asked = arguments.get("perturbations")
    n_rows = len(labels)
    if asked is not None:
        n_rows = sum(label[0] in set(map(str, asked)) for label in labels)
    elif name != "aggregate":
        control = arguments.get("control_label") or arguments.get("reference")
        n_rows -= 0 if control == "rest" else len(labels) // len({label[0] for label in labels})
    n_genes = source.shape[1]
    text = sum(len(gene) + 24 for gene in source.var.index)
    per_pair = PER_PAIR[name]
    if arguments.get("scanpy_format"):
        per_pair += SCANPY + sum(-(-len(gene) // 8) * 8 for gene in source.var.index) // n_genes
    if name == "normalized_effects" and arguments.get("batch_column"):
        per_pair += 8
    per_cell = 8 * source.shape[0] if name == "nb_glm_test" else 0  # size factors
    n_bytes = FRAME + per_pair * n_rows * n_genes + text + 48 * n_rows + per_cell
    return n_bytes, name in ("aggregate", "effects")


def _labels(source: MatrixSource, columns: list[str]) -> set[tuple[str, ...]]:
    """Return the combinations of labels that cells have."""
    if columns[0].startswith(PREFIX):
        return {(name,) for name in read_memberships(source, columns[0])[1]}
    held = [as_labels(source.obs.column(column)) for column in columns]
    return {labels for labels in zip(*held, strict=True) if None not in labels}


def _copy_bytes(source: MatrixSource, name: str, arguments: Mapping[str, Any]) -> tuple[int, bool]:
    """Return the bytes of a copy with another matrix; and whether it may have fewer values."""
    if name == f"convert_to_{source.layout}":
        return 0, False  # it is the answer
    n_stored, itemsize = source.storage.n_stored, source.dtype.itemsize
    dense = source.layout == "dense"
    stays_dense = dense and name not in ("convert_to_csc", "convert_to_csr", "downsample_counts")
    if name == "normalize_total_log1p":
        itemsize, stays_dense = 4, False
    bound = name in SMALLER or (dense and not stays_dense)
    share = 1.0
    drawn = "unit" not in arguments and not {"n_obs", "fraction"}.isdisjoint(arguments)
    if name == "subsample" and drawn:
        share, bound = _drawn_share(source, arguments), False
    if name == "downsample_counts":
        n_stored = min(n_stored, _molecules(source, arguments))
    per_value = itemsize if stays_dense else itemsize + 4
    n_major = source.shape[1] if name == "convert_to_csc" else source.shape[0]
    index = 8 * source.shape[0] if name == "sort_by_perturbation" else 0
    names = sum(len(text) + 16 for text in source.obs.index)
    slots = sum(map(slot_bytes, source.parts or [source]))
    if name == "concat_h5ad":
        names *= 2  # and the label of every cell
    if name == "quality_control_summary":
        names += sum(len(text) + 16 for text in source.var.index)
    n_bytes = per_value * n_stored + 4 * n_major + index + names + slots
    return FRAME + int(share * n_bytes), bound


def _drawn_share(source: MatrixSource, arguments: Mapping[str, Any]) -> float:
    """Return the share of the cells that subsample draws."""
    if arguments.get("fraction") is not None:
        return float(arguments["fraction"])
    n_obs, groupby = arguments["n_obs"], arguments.get("groupby")
    if groupby is None:
        return min(1.0, n_obs / source.shape[0])
    labels = [label for label in as_labels(source.obs.column(groupby)) if label is not None]
    sizes = np.unique(labels, return_counts=True)[1]
    return float(np.minimum(sizes, n_obs).sum() / source.shape[0])


def _molecules(source: MatrixSource, arguments: Mapping[str, Any]) -> int:
    """Return the most values that downsample_counts leaves."""
    if arguments.get("total_counts") is not None:
        return int(arguments["total_counts"])
    wanted = arguments.get("counts_per_cell")
    if wanted is None:
        return source.storage.n_stored
    return int(np.broadcast_to(wanted, source.shape[0]).astype(np.int64).sum())
