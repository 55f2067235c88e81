"""Passes over a matrix that count expressed genes and expressing cells."""

from __future__ import annotations

import numpy as np

from crispyx._io.chunk_cache import BlockBounds, ChunkCache
from crispyx._io.source import MatrixSource
from crispyx._stats.qc import ExpressionCounts
from crispyx.data.arguments import require_nonnegative
from crispyx.settings import Engine

DENSE_VALUES = 4_000_000  # of a block that the reference engine sees: 32 MB


def block_bounds(source: MatrixSource, chunk_size: int, engine: Engine) -> BlockBounds:
    """Return the size of a block of at most ``chunk_size`` vectors of the stored axis."""
    if engine == "reference":
        chunk_size = min(chunk_size, max(1, DENSE_VALUES // source.storage.n_minor))
    return BlockBounds(max_major=chunk_size)


def count_expressed(
    cache: ChunkCache, engine: Engine, cells: np.ndarray | None = None
) -> ExpressionCounts:
    """Count expressed genes and expressing cells among ``cells`` (n_cells,) bool, or all of them.

    A first pass checks every value; later ones skip blocks of cells without any in use.

    Raises
    ------
    InputError
        A value is negative, NaN or infinite.
    """
    source = cache.source
    by_cell = source.layout != "csc"
    counts = ExpressionCounts.zeros(source.shape)
    summary = source.empty_summary()
    use = np.ones(source.shape[0], dtype=bool) if cells is None else cells
    for block in cache.blocks(use if by_cell else None, summary):
        require_nonnegative(source, summary, "quality control")
        counts.add(block, use, by_cell=by_cell, engine=engine)
    return counts


def count_rich_cells(
    cache: ChunkCache, engine: Engine, candidates: np.ndarray, min_genes: int
) -> ExpressionCounts:
    """Count expressed genes of all cells, and the cells that may be kept expressing each gene.

    One pass decides over a cell of a matrix stored by rows as soon as it is seen. In one stored by
    columns a cell is complete at the end only: the counts of the genes are over all cells there.

    Parameters
    ----------
    cache : ChunkCache
        The matrix.
    engine : {"compiled", "reference"}
        Which definition runs.
    candidates : numpy.ndarray (n_cells,) bool
        Cells that may be kept if they express ``min_genes`` genes.
    min_genes : int
        Inclusive.

    Raises
    ------
    InputError
        A value is negative, NaN or infinite.
    """
    source = cache.source
    if source.layout == "csc":
        return count_expressed(cache, engine)
    counts = ExpressionCounts.zeros(source.shape)
    summary = source.empty_summary()
    for block in cache.blocks(None, summary):
        require_nonnegative(source, summary, "quality control")
        counts.add_rich_cells(block, candidates, min_genes, engine=engine)
    return counts
