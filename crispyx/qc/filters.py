"""One filter at a time: masks of cells, of perturbations and of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.chunk_cache import ChunkCache
from crispyx._io.source import MatrixSource, open_source
from crispyx._stats.qc import cells_per_label, kept_perturbations
from crispyx.data.arguments import mask_of, whole
from crispyx.qc.counts import block_bounds, count_expressed
from crispyx.qc.labels import cell_labels
from crispyx.qc.result import _CellFilterResult
from crispyx.settings import settings

if TYPE_CHECKING:
    import pandas as pd


def filter_cells_by_gene_count(
    data: Any,
    *,
    min_genes: int = 100,
    gene_name_column: str | None = None,
    chunk_size: int = 2048,
    return_counts: bool = False,
    return_full_result: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray] | _CellFilterResult:
    """Return a mask of the cells that express at least ``min_genes`` genes.

    A gene is expressed in a cell when its value is above 0; a stored zero is a zero.

    Parameters
    ----------
    data : str, pathlib.Path, AnnData or anndata.AnnData
        Counts, on disk or in memory.
    min_genes : int
        Expressed genes a cell must have, inclusive.
    gene_name_column : str or None
        var column of gene names; it must exist, and changes nothing here.
    chunk_size : int
        Cells of a block at most (genes of a CSC matrix); never changes the answer.
    return_counts : bool
        Return the counts too.
    return_full_result : bool
        Return the counts of both axes, which one pass gives.

    Returns
    -------
    numpy.ndarray (n_cells,) bool
        With ``return_counts`` a tuple of it and the expressed genes per cell (n_cells,) int64; with
        ``return_full_result`` an object with ``cell_mask``, ``gene_counts_per_cell`` and
        ``gene_cell_counts_all`` (expressing cells per gene among all cells).

    Raises
    ------
    ValueError
        Negative, NaN or infinite values; a threshold below 0.
    KeyError
        No such column.

    Notes
    -----
    Reference: ``reference.qc``.
    """
    least = whole("min_genes", min_genes, 0)
    engine = settings.engine
    with open_source(data) as source:
        _require_column(source, gene_name_column)
        bounds = block_bounds(source, whole("chunk_size", chunk_size, 1), engine)
        counts = count_expressed(ChunkCache(source, bounds=bounds), engine)
    mask = counts.genes_per_cell >= least
    if return_full_result:
        return _CellFilterResult(mask, counts.genes_per_cell, counts.cells_per_gene)
    return (mask, counts.genes_per_cell) if return_counts else mask


def filter_perturbations_by_cell_count(
    data: Any,
    *,
    perturbation_column: str,
    control_label: str | None = None,
    min_cells: int = 50,
    base_mask: np.ndarray | None = None,
    return_counts: bool = False,
) -> np.ndarray | tuple[np.ndarray, pd.Series]:
    """Return a mask of the cells whose perturbation has at least ``min_cells`` cells.

    Control cells are always kept; cells without a label never are.

    Parameters
    ----------
    data : str, pathlib.Path, AnnData or anndata.AnnData
        The data set, on disk or in memory.
    perturbation_column : str
        obs column of labels.
    control_label : str or None
        Label of the control; None infers it, see :func:`crispyx.data.resolve_control_label`.
    min_cells : int
        Cells a perturbation must have, inclusive.
    base_mask : numpy.ndarray (n_cells,) bool or None
        Cells that count; the others are not in the returned mask either.
    return_counts : bool
        Return the cells of each label too.

    Returns
    -------
    numpy.ndarray (n_cells,) bool
        With ``return_counts`` a tuple of it and a pandas.Series (int64, named ``count``, largest
        first) of the cells of each label, among ``base_mask``.

    Raises
    ------
    ValueError
        The control is absent or cannot be inferred; a mask of another length; a threshold below 0.
    KeyError
        No such column.

    Notes
    -----
    Reference: ``reference.qc``.
    """
    least = whole("min_cells", min_cells, 0)
    with open_source(data) as source:
        labels = cell_labels(source, perturbation_column, control_label)
        base = _cells(source, "base_mask", base_mask)
    keep = kept_perturbations(labels.values, base, labels.control, least, settings.engine)
    mask = base & labels.belongs_to(keep)
    if not return_counts:
        return mask
    import pandas as pd

    counts = {label: n for label, n in cells_per_label(labels.values, base).items() if n}
    order = sorted(counts, key=lambda label: -counts[label])
    table = pd.Series(
        np.array([counts[label] for label in order], dtype=np.int64),
        index=pd.Index(order, dtype=object),
        name="count",
    )
    return mask, table


def filter_genes_by_cell_count(
    data: Any,
    *,
    min_cells: int = 100,
    cell_mask: np.ndarray | None = None,
    gene_name_column: str | None = None,
    chunk_size: int = 2048,
    return_counts: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Return a mask of the genes that at least ``min_cells`` cells express.

    Parameters
    ----------
    data : str, pathlib.Path, AnnData or anndata.AnnData
        Counts, on disk or in memory.
    min_cells : int
        Expressing cells a gene must have, inclusive.
    cell_mask : numpy.ndarray (n_cells,) bool or None
        Cells that count; None counts all.
    gene_name_column : str or None
        var column of gene names; it must exist, and changes nothing here.
    chunk_size : int
        Cells of a block at most (genes of a CSC matrix); never changes the answer.
    return_counts : bool
        Return the counts too.

    Returns
    -------
    numpy.ndarray (n_genes,) bool
        With ``return_counts`` a tuple of it and the expressing cells per gene (n_genes,) int64.

    Raises
    ------
    ValueError
        Negative, NaN or infinite values; a mask of another length; a threshold below 0.
    KeyError
        No such column.

    Notes
    -----
    Reference: ``reference.qc``.
    """
    least = whole("min_cells", min_cells, 0)
    engine = settings.engine
    with open_source(data) as source:
        _require_column(source, gene_name_column)
        cells = _cells(source, "cell_mask", cell_mask)
        bounds = block_bounds(source, whole("chunk_size", chunk_size, 1), engine)
        counts = count_expressed(ChunkCache(source, bounds=bounds), engine, cells).cells_per_gene
    mask = counts >= least
    return (mask, counts) if return_counts else mask


def _require_column(source: MatrixSource, gene_name_column: str | None) -> None:
    if gene_name_column is not None:
        source.var.column(gene_name_column)


def _cells(source: MatrixSource, name: str, mask: np.ndarray | None) -> np.ndarray:
    if mask is None:
        return np.ones(source.shape[0], dtype=bool)
    return mask_of(name, mask, source.shape[0], "cells", str(source.path or source.where))
