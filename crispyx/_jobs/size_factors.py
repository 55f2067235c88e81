"""Size factors of the cells of a file, streamed by cells from any layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.compressed import joined
from crispyx._io.source import MatrixSource
from crispyx._jobs.ranges import in_ranges
from crispyx._jobs.stage import opened_stage
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.executor import Workers
from crispyx._stats.size_factors import (
    METHODS,
    GeneSums,
    SizeFactorMethod,
    cell_size_factors,
    gene_sums,
    scaled,
    size_factors,
)
from crispyx.errors import InputError
from crispyx.settings import Engine


@dataclass(frozen=True)
class StagedGenes:
    """The first pass: sums of ranges of genes, each over the cells in their order.

    Attributes
    ----------
    path, key : str
        Of the stage, see :func:`crispyx._jobs.stage.opened_stage`.
    """

    path: str
    key: str


def sums_of_range(staged: StagedGenes, start: int, stop: int, n_threads: int) -> GeneSums:
    """Return the sums of genes ``start`` to ``stop``; which cells take part is left open."""
    with opened_stage(staged.path, staged.key) as opened:
        source, turned = opened.source(), opened.turned()
        sums = GeneSums.of_nothing(stop - start)
        assert turned is not None  # the whole matrix was looked at
        blocks = (
            source.native_blocks(start=start, stop=stop)
            if turned.store is None
            else [turned.store.block(start, stop)]
        )
        for block in blocks:
            sums = sums.add(block.by_major(start))
        return sums


@dataclass(frozen=True)
class CellRatios:
    """The second pass: what every range of cells is divided by.

    Attributes
    ----------
    path, key : str
        Of the stage, see :func:`crispyx._jobs.stage.opened_stage`.
    used_cells : numpy.ndarray (n_cells,) bool
        Cells that take part.
    log_means : numpy.ndarray (n_genes,) float64
        Of the first pass.
    method : str
        Estimator.
    """

    path: str
    key: str
    used_cells: np.ndarray
    log_means: np.ndarray
    method: SizeFactorMethod


@dataclass(frozen=True)
class Factors:
    """Unscaled size factors of the used cells of a range."""

    values: np.ndarray


def factors_of_range(ratios: CellRatios, start: int, stop: int, n_threads: int) -> Factors:
    """Return the size factors of the used cells from ``start`` to ``stop``."""
    with opened_stage(ratios.path, ratios.key) as opened:
        parts = [
            cell_size_factors(
                cells_of(block, ratios.used_cells[block.start : block.stop]),
                ratios.log_means,
                ratios.method,
                n_threads,
            )
            for block in opened.source().native_blocks(start=start, stop=stop)
        ]
    return Factors(np.concatenate([np.empty(0), *parts]))


@dataclass(frozen=True)
class Reach:
    """How workers come to the matrix.

    Attributes
    ----------
    path, key : str
        Of a stage that holds every cell.
    cells, genes : numpy.ndarray (n_ranges + 1,) int64
        Ranges of cells and of genes, one a task.
    workers : Workers
        Who computes.
    """

    path: str
    key: str
    cells: np.ndarray
    genes: np.ndarray
    workers: Workers

    def gene_sums(self, n_cells: int) -> GeneSums:
        """Return the sums of all genes, over so many cells."""
        parts: list[GeneSums] = self._mapped(
            sums_of_range, StagedGenes(self.path, self.key), self.genes
        )
        return GeneSums(
            np.concatenate([part.log_sums for part in parts]),
            np.concatenate([part.totals for part in parts]),
            np.concatenate([part.n_expressing for part in parts]),
            n_cells,
        )

    def factors(
        self, used_cells: np.ndarray, means: np.ndarray, method: SizeFactorMethod
    ) -> list[np.ndarray]:
        """Return the size factors of every range of cells."""
        ratios = CellRatios(self.path, self.key, used_cells, means, method)
        found: list[Factors] = self._mapped(factors_of_range, ratios, self.cells)
        return [part.values for part in found]

    def _mapped(self, function: Any, value: Any, edges: np.ndarray) -> list[Any]:
        folder = Path(self.path)
        return in_ranges(
            function, value, edges.tolist(), self.workers, folder=folder, label="size factors"
        )


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
        Who makes the passes, but for that over the cells of a CSC matrix; None does it here.

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
    if reach is None:
        sums = gene_sums(blocks(), source.shape[1])
    else:
        sums = reach.gene_sums(int(np.count_nonzero(used_cells)))
    means = sums.log_means(method, control_genes)
    if reach is not None and source.layout != "csc":
        parts = reach.factors(used_cells, means, method)
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
