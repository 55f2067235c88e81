"""Counts as the fitters take them: genes of a matrix in memory, or of a file, block after block."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from crispyx._io.genes import GeneStream
from crispyx._io.source import MatrixSource, open_source
from crispyx._kernels.densify import densify
from crispyx._kernels.layout import CompressedBlock, Membership
from crispyx._run.budget import working_memory
from crispyx._run.threads import resolve_threads
from crispyx._stats.nb_likelihood import Counts, grouped_cells
from crispyx.errors import InputError
from crispyx.settings import settings

BATCH_BYTES = 100_000_000
ARRAYS_OF_A_FIT = 8  # of cells x genes float64, that a step of a regression holds at once
BYTES_PER_TURNED = 10  # of a non-zero of the turned matrix


def counts_matrix(values: Any, name: str = "counts") -> Any:
    """Return a matrix of counts (n_cells, n_genes), dense float64 or SciPy CSC.

    Raises
    ------
    InputError
        Not two dimensions, or a value that is negative or not finite.
    """
    from scipy import sparse

    is_sparse = sparse.issparse(values)
    matrix = sparse.csc_matrix(values) if is_sparse else np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2:
        raise InputError(f"{name} has {matrix.ndim} dimensions; give cells x genes")
    held = np.asarray(matrix.data if is_sparse else matrix)
    bad = ~np.isfinite(held) | (held < 0)
    if bad.any():
        raise InputError(f"{name} holds {held[bad][0]}; give counts, finite and not negative")
    return matrix


def gene_block(matrix: Any) -> CompressedBlock:
    """Return a counts matrix (n_cells, n_genes) gene by gene, without stored zeros."""
    from scipy import sparse

    csc = sparse.csc_matrix(matrix, dtype=np.float64)
    csc.sort_indices()
    csc.eliminate_zeros()
    return CompressedBlock(
        0, csc.shape[1], csc.data, csc.indices.astype(np.int32), csc.indptr.astype(np.int64)
    )


def part_of(block: CompressedBlock, start: int, stop: int) -> CompressedBlock:
    """Return some genes of a block."""
    values = slice(block.ptr[start], block.ptr[stop])
    ptr = block.ptr[start : stop + 1] - block.ptr[start]
    return CompressedBlock(0, stop - start, block.values[values], block.minor[values], ptr)


def batches(n_genes: int, n_cells: int, size: int | str | None) -> Iterator[tuple[int, int]]:
    """Yield the first and last gene of each batch.

    Parameters
    ----------
    n_genes, n_cells : int
        Shape of the matrix.
    size : int, "auto" or None
        Genes of a batch; "auto" keeps the arrays of a fit within 100 MB, None takes all at once.

    Raises
    ------
    InputError
        ``size`` is none of these.
    """
    if size == "auto":
        size = max(1, BATCH_BYTES // (8 * ARRAYS_OF_A_FIT * max(1, n_cells)))
    if size is None:
        size = max(1, n_genes)
    if isinstance(size, (str, bool)) or int(size) != size or size < 1:
        raise InputError(f"the batch size is {size!r}; give a whole number >= 1, 'auto' or None")
    for start in range(0, n_genes, int(size)):
        yield start, min(start + int(size), n_genes)


def of_two_arms(block: CompressedBlock, perturbed: np.ndarray, offset: np.ndarray) -> Counts:
    """Group a block of genes by arm (n_cells,) bool, with log size factors (n_cells,)."""
    return in_groups(block, perturbed.astype(np.int64), offset)


def in_groups(block: CompressedBlock, group: np.ndarray, offset: np.ndarray) -> Counts:
    """Group a block of genes by the number of each cell's group (n_cells,)."""
    membership = Membership.from_labels(group, int(group.max()) + 1)
    table = grouped_cells(np.exp(offset), membership)
    return Counts.of_block(block, membership, table, resolve_threads())


class CountStream:
    """Genes of some cells of a file or AnnData, block after block.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData
        The counts.
    used : numpy.ndarray (n_cells,) bool or None
        Cells that take part; None takes all.
    chunk_size : int
        Cells whose dense counts fill as much memory as one block does.
    """

    def __init__(self, data: Any, used: np.ndarray | None, chunk_size: int) -> None:
        if chunk_size < 1:
            raise InputError(f"chunk_size is {chunk_size}; give a whole number >= 1")
        self.source: MatrixSource = open_source(data)
        n_cells, self.n_genes = self.source.shape
        mask = np.ones(n_cells, dtype=bool) if used is None else np.asarray(used)
        if mask.dtype != bool or mask.shape != (n_cells,):
            self.source.close()
            raise InputError(
                f"the mask of cells has shape {mask.shape} and type {mask.dtype}; "
                f"{self.source.where} needs {n_cells} booleans"
            )
        self.n_cells = int(mask.sum())
        self.width = max(1, min(self.n_genes, chunk_size * self.n_genes // max(1, self.n_cells)))
        self._place = np.cumsum(mask) - 1
        membership = Membership.from_labels(np.where(mask, 0, -1), 1)
        turned = 0 if self.source.layout == "csc" else self.source.storage.n_stored
        scratch = None
        if BYTES_PER_TURNED * turned > working_memory():
            folder = self.source.path.parent if self.source.path else None
            scratch = settings.scratch_dir or folder
        self._stream = GeneStream(
            self.source, membership, scratch_dir=scratch, n_threads=resolve_threads()
        )

    def blocks(self) -> Generator[CompressedBlock, None, None]:
        """Yield blocks of genes; cells are numbered among those that take part."""
        with closing(self._stream.blocks(self.width)) as blocks:
            for block in blocks:
                yield self._of_used(block)

    def dense(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the place of each block and its counts (n_genes, n_cells) float64."""
        for block in self.blocks():
            yield slice(block.start, block.stop), densify(block, self.n_cells, np.float64)

    def close(self) -> None:
        """Let go of the input."""
        self._stream.close()
        self.source.close()

    def __enter__(self) -> CountStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _of_used(self, block: CompressedBlock) -> CompressedBlock:
        """Return a block with its cells numbered among those used; CSC inputs hold the others."""
        used = self._stream.membership.used_cells[block.minor]
        kept = np.concatenate([[0], np.cumsum(used)])[block.ptr]
        minor = self._place[block.minor[used]].astype(np.int32)
        return CompressedBlock(
            block.start, block.stop, block.values[used], minor, kept.astype(np.int64)
        )
