"""Size factors of the cells of a file, streamed by cells from any layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.compressed import joined
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.ranges import in_ranges
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.executor import Workers
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


@dataclass(frozen=True)
class CellRatios:
    """The second pass: what every range of cells is divided by.

    Attributes
    ----------
    data, layer
        The matrix, see :func:`crispyx._io.source.open_source`.
    used_cells : numpy.ndarray (n_cells,) bool
        Cells that take part.
    log_means : numpy.ndarray (n_genes,) float64
        Of the first pass.
    method : str
        Estimator.
    """

    data: Any
    layer: str | None
    used_cells: np.ndarray
    log_means: np.ndarray
    method: SizeFactorMethod


@dataclass(frozen=True)
class Factors:
    """Unscaled size factors of the used cells of a range."""

    values: np.ndarray


def factors_of_range(ratios: CellRatios, start: int, stop: int, n_threads: int) -> Factors:
    """Return the size factors of the used cells from ``start`` to ``stop``."""
    with open_source(ratios.data, ratios.layer) as source:
        parts = [
            cell_size_factors(
                cells_of(block, ratios.used_cells[block.start : block.stop]),
                ratios.log_means,
                ratios.method,
                n_threads,
            )
            for block in source.native_blocks(start=start, stop=stop)
        ]
    return Factors(np.concatenate([np.empty(0), *parts]))


@dataclass(frozen=True)
class Reach:
    """How workers come to the matrix.

    Attributes
    ----------
    data, layer
        The matrix, see :func:`crispyx._io.source.open_source`.
    edges : numpy.ndarray (n_ranges + 1,) int64
        Ranges of cells, one a task.
    workers : Workers
        Who computes.
    folder : pathlib.Path
        One that they can write to.
    """

    data: Any
    layer: str | None
    edges: np.ndarray
    workers: Workers
    folder: Path

    def factors(self, ratios: CellRatios) -> list[np.ndarray]:
        """Return the size factors of every range."""
        found: list[Factors] = in_ranges(
            factors_of_range,
            ratios,
            self.edges.tolist(),
            self.workers,
            folder=self.folder,
            label="size factors",
        )
        return [part.values for part in found]


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
    reach: Reach | None = None,
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
    reach : Reach or None
        Who makes the second pass over a matrix that is stored by cells; None does it here.

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
            everything,
            source.shape[1],
            method,
            scale=scale,
            engine=engine,
            among=control_genes,
        )
        return found
    means = gene_sums(blocks(), source.shape[1]).log_means(method, control_genes)
    if reach is not None and source.layout != "csc":
        parts = reach.factors(CellRatios(reach.data, reach.layer, used_cells, means, method))
    else:
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
