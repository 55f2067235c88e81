"""The covariance of genes, its rows summed by others with the same bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crispyx._io.row_passes import RowPasses
from crispyx._jobs.shared_input import Readers, SharedInput
from crispyx._stats.pca import gram_rows

MOST_PASSES = 16  # tasks that each read the whole matrix


@dataclass(frozen=True)
class SharedRows:
    """The rows that are passed over.

    Attributes
    ----------
    shared : SharedInput
        The matrix, stored by cells.
    columns : numpy.ndarray (n_genes,) bool
        Genes that are used.
    rows_per_block : int
        See :class:`crispyx._io.row_passes.RowPasses`.
    """

    shared: SharedInput
    columns: np.ndarray
    rows_per_block: int


@dataclass(frozen=True)
class GramRows:
    """Some rows of X^T X."""

    rows: np.ndarray


def gram_of_genes(task: SharedRows, start: int, stop: int, n_threads: int) -> GramRows:
    """Return rows ``start`` to ``stop`` of X^T X, over all cells in their order."""
    with task.shared.opened() as source:
        passes = RowPasses(source, task.columns, rows_per_block=task.rows_per_block, budget=0)
        return GramRows(gram_rows(passes(), passes.shape[1], start, stop, n_threads))


def gram_elsewhere(readers: Readers, columns: np.ndarray, rows_per_block: int) -> np.ndarray:
    """Return X^T X (n_genes, n_genes) of the genes that are used, the upper triangle."""
    n_genes = int(np.count_nonzero(columns))
    n_ranges = min(readers.workers.n_workers, MOST_PASSES, n_genes)
    # The first rows of the triangle are the longest: ranges of equal area.
    shares = np.linspace(0, 1, n_ranges + 1)
    edges = np.unique((n_genes * (1 - np.sqrt(1 - shares))).astype(int))
    task = SharedRows(readers.shared, columns, rows_per_block)
    parts: list[GramRows] = readers.in_ranges(gram_of_genes, task, edges.tolist())
    return np.concatenate([part.rows for part in parts])
