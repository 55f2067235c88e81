"""Regression of all genes on perturbations and covariates, from one pass over a matrix.

Reference: ``reference.residual_effects``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import reference.residual_effects as reference
from crispyx._kernels.layout import CompressedBlock
from crispyx._kernels.projection import add_column_moments
from crispyx._run.threads import one_blas_thread
from crispyx.settings import Engine

LOG_TARGET = 1e4
PIECE = 1 << 18  # values at a time: some 30 MB with two columns of the design in a cell


def inverse_of(design: Any) -> reference.Inverse:
    """Return the inverse that a design (n_cells, n_columns) needs, and which columns it tells."""
    with one_blas_thread():
        return reference.inverted((design.T @ design).toarray())


def regression(
    blocks: Iterable[CompressedBlock],
    design: Any,
    inverse: reference.Inverse,
    n_genes: int,
    library_sizes: np.ndarray | None,
    by_genes: bool,
    engine: Engine,
) -> reference.Effects:
    """Return coefficients and standard errors of all columns (n_columns, n_genes).

    Products of a column and a gene are summed in the order of the cells, whatever the blocks.

    Parameters
    ----------
    blocks : iterable of CompressedBlock
        The matrix, by cells or by genes.
    design : scipy.sparse.csr_matrix (n_cells, n_columns) float64
        Column 0 is 1 in the cells that take part; rows of others are empty.
    inverse : Inverse
        That of the design.
    n_genes : int
        Genes of the matrix.
    library_sizes : numpy.ndarray (n_cells,) or None
        Values are counts, and ln(1 + counts per 10,000) is regressed; None takes them as they are.
    by_genes : bool
        Blocks hold genes.
    engine : {"compiled", "reference"}
        Which definition runs; the reference holds the matrix dense.
    """
    n_cells, n_columns = design.shape
    used = np.diff(design.indptr) > 0
    dense = np.zeros((n_cells, n_genes)) if engine == "reference" else None
    products, squares = np.zeros((2, n_columns * n_genes))
    for major, minor, values in _pieces(blocks):
        cell, gene = (minor, major) if by_genes else (major, minor)
        inside = used[cell]
        cell, gene = cell[inside], gene[inside].astype(np.int64)
        y = values[inside].astype(np.float64)
        if library_sizes is not None:
            y = np.log1p(y * LOG_TARGET / library_sizes[cell])
        if dense is not None:
            dense[cell, gene] = y
            continue
        n_entries = np.diff(design.indptr)[cell]
        value = np.repeat(np.arange(len(y)), n_entries)
        entry = np.arange(len(value)) - np.repeat(np.cumsum(n_entries) - n_entries, n_entries)
        entry += np.repeat(design.indptr[cell], n_entries)
        place = design.indices[entry] * np.int64(n_genes) + gene[value]
        add_column_moments(y[value] * design.data[entry], place.astype(np.int32), products, squares)
    with one_blas_thread():
        if dense is not None:
            return reference.residual_effects(design.toarray()[used], dense[used])
        table = products.reshape(n_columns, n_genes)
        return reference.solved(inverse, table, squares[:n_genes], int(used.sum()))


def _pieces(
    blocks: Iterable[CompressedBlock],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield places and values of a matrix, so many at a time that their products are few."""
    for block in blocks:
        vectors = np.arange(block.start, block.stop)
        for first in range(0, len(block.values), PIECE):
            part = slice(first, min(first + PIECE, len(block.values)))
            counts = np.diff(block.ptr.clip(part.start, part.stop))
            yield np.repeat(vectors, counts), block.minor[part], block.values[part]
