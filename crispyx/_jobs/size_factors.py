"""Size factors of the cells of a file, streamed by cells from any layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from crispyx._io.compressed import joined
from crispyx._io.source import MatrixSource
from crispyx._kernels.layout import CompressedBlock
from crispyx._stats.size_factors import (
    METHODS,
    SizeFactorMethod,
    cell_size_factors,
    gene_sums,
    scaled,
    size_factors,
)
from crispyx.errors import InputError
from crispyx.settings import Engine


def stream_size_factors(
    source: MatrixSource,
    used_cells: np.ndarray,
    method: SizeFactorMethod,
    *,
    scale: bool,
    control_genes: np.ndarray | None = None,
    scratch_dir: Path | None = None,
    engine: Engine = "compiled",
    n_threads: int = 1,
) -> np.ndarray:
    """Return the size factor of every used cell, in two passes over the cells.

    Parameters
    ----------
    source : MatrixSource
        Counts.
    used_cells : numpy.ndarray (n_cells,) bool
        Cells that take part; the others neither get a size factor nor change one.
    method : {"sparse", "deseq2", "poscounts", "total"}
        See ``reference.size_factors``.
    scale : bool
        Divide by the geometric mean; "poscounts" always is.
    control_genes : numpy.ndarray (n_genes,) bool or None
        Genes whose counts follow depth alone; None takes all.
    scratch_dir : pathlib.Path or None
        Where a CSC matrix is turned around; None is memory.
    engine : {"compiled", "reference"}
        Which definition runs; "reference" holds all cells densely.
    n_threads : int
        Threads of the kernels.

    Returns
    -------
    numpy.ndarray (n_cells,) float64
        NaN for cells that do not take part, or have no count of a usable gene.

    Raises
    ------
    InputError
        An unknown method, or no gene that all cells express ("deseq2").
    """
    require_method(method)

    def blocks() -> Iterator[CompressedBlock]:
        for block in source.row_blocks(scratch_dir=scratch_dir):
            yield cells_of(block, used_cells[block.start : block.stop])

    found = np.full(source.shape[0], np.nan)
    if engine == "reference":
        everything = joined(list(blocks()))
        found[used_cells] = size_factors(
            everything, source.shape[1], method, scale=scale, engine=engine
        )
        return found
    means = gene_sums(blocks(), source.shape[1]).log_means(method, control_genes)
    parts = [cell_size_factors(block, means, method, n_threads) for block in blocks()]
    found[used_cells] = np.concatenate(parts) if parts else []
    return scaled(found) if scale or method == "poscounts" else found


def require_method(method: str) -> None:
    """Raise InputError for a method of size factors that does not exist."""
    if method not in METHODS:
        raise InputError(f"size_factor_method is {method!r}; choose one of {METHODS}")


def cells_of(block: CompressedBlock, used: np.ndarray) -> CompressedBlock:
    """Return the used cells of a block; positions within the matrix are lost."""
    if used.all():
        return block
    lengths = np.diff(block.ptr)
    kept = np.repeat(used, lengths)
    ptr = np.concatenate([[0], np.cumsum(lengths[used])]).astype(np.int64)
    n_cells = int(used.sum())
    return CompressedBlock(0, n_cells, block.values[kept], block.minor[kept], ptr)
