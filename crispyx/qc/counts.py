"""Passes over a matrix that count expressed genes and expressing cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from crispyx._io.chunk_cache import BlockBounds, ChunkCache
from crispyx._io.source import MatrixSource, MatrixSummary
from crispyx._jobs.shared_input import Readers, SharedInput
from crispyx._kernels.layout import CompressedBlock
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
    cache: ChunkCache,
    engine: Engine,
    cells: np.ndarray | None = None,
    readers: Readers | None = None,
) -> ExpressionCounts:
    """Count expressed genes and expressing cells among ``cells`` (n_cells,) bool, or all of them.

    A first pass checks every value; later ones skip blocks of cells without any in use. ``readers``
    count in the place of this process.

    Raises
    ------
    InputError
        A value is negative, NaN or infinite.
    """
    source = cache.source
    use = np.ones(source.shape[0], dtype=bool) if cells is None else cells
    counting = Counting(engine, use, None)
    if readers is not None:
        return _count_elsewhere(cache, counting, readers)
    summary = source.empty_summary()
    return counting.count(
        source, cache.blocks(None if source.layout == "csc" else use, summary), summary
    )


def count_rich_cells(
    cache: ChunkCache,
    engine: Engine,
    candidates: np.ndarray,
    min_genes: int,
    readers: Readers | None = None,
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
    readers : Readers or None
        Who counts in the place of this process.

    Raises
    ------
    InputError
        A value is negative, NaN or infinite.
    """
    source = cache.source
    if source.layout == "csc":
        return count_expressed(cache, engine, readers=readers)
    counting = Counting(engine, candidates, min_genes)
    if readers is not None:
        return _count_elsewhere(cache, counting, readers)
    summary = source.empty_summary()
    return counting.count(source, cache.blocks(None, summary), summary)


@dataclass(frozen=True)
class Counting:
    """What is counted.

    Attributes
    ----------
    engine : {"compiled", "reference"}
        Which definition runs.
    cells : numpy.ndarray (n_cells,) bool
        Cells that count, for the genes at least.
    min_genes : int or None
        Genes that a cell must express to count for the genes; all its genes are counted then.
    """

    engine: Engine
    cells: np.ndarray
    min_genes: int | None

    def count(
        self, source: MatrixSource, blocks: Iterable[CompressedBlock], summary: MatrixSummary
    ) -> ExpressionCounts:
        """Return the counts of some blocks, which ``summary`` has seen."""
        by_cell = source.layout != "csc"
        counts = ExpressionCounts.zeros(source.shape)
        for block in blocks:
            require_nonnegative(source, summary, "quality control")
            if self.min_genes is None:
                counts.add(block, self.cells, by_cell=by_cell, engine=self.engine)
            else:
                counts.add_rich_cells(block, self.cells, self.min_genes, engine=self.engine)
        return counts


@dataclass(frozen=True)
class SharedCounting:
    """What is counted by others, and where."""

    shared: SharedInput
    bounds: BlockBounds
    counting: Counting


@dataclass(frozen=True)
class PartOfCounts:
    """Counts of a range of the stored axis, and what it adds to those of the other axis.

    Attributes
    ----------
    major : numpy.ndarray (n_vectors,) int64
        Of the range.
    minor : numpy.ndarray (n_minor,) int64
        Of the whole other axis.
    """

    major: np.ndarray
    minor: np.ndarray


def counts_of_range(task: SharedCounting, start: int, stop: int, n_threads: int) -> PartOfCounts:
    """Return the counts of vectors ``start`` to ``stop`` of the stored axis."""
    bounds = task.bounds
    with task.shared.opened() as source:
        summary = source.empty_summary()
        blocks = source.native_blocks(
            summary,
            start=start,
            stop=stop,
            max_values=bounds.max_values,
            max_major=bounds.max_major,
        )
        counts = task.counting.count(source, blocks, summary)
        major, minor = _along(counts, source)
    return PartOfCounts(major[start:stop], minor)


def _count_elsewhere(cache: ChunkCache, counting: Counting, readers: Readers) -> ExpressionCounts:
    """Let others count ranges of the stored axis: sums of integers, in whatever order."""
    source = cache.source
    edges = readers.major_edges(source)
    task = SharedCounting(readers.shared, cache.bounds, counting)
    parts: list[PartOfCounts] = readers.in_ranges(counts_of_range, task, edges)
    counts = ExpressionCounts.zeros(source.shape)
    major, minor = _along(counts, source)
    for part, (start, stop) in zip(parts, pairwise(edges), strict=True):
        major[start:stop] = part.major
        minor += part.minor
    return counts


def _along(counts: ExpressionCounts, source: MatrixSource) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of the stored axis and those of the other."""
    if source.layout == "csc":
        return counts.cells_per_gene, counts.genes_per_cell
    return counts.genes_per_cell, counts.cells_per_gene
