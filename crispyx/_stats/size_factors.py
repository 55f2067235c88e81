"""Size factors from blocks of cells, in two passes: sums of genes, then ratios of cells.

Reference: ``reference.size_factors``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from crispyx._kernels import size_factors as kernel
from crispyx._kernels.layout import CompressedBlock
from crispyx.errors import InputError
from crispyx.settings import Engine
from reference.size_factors import DOMINANT_SHARE, scaled

__all__ = ["METHODS", "GeneSums", "SizeFactorMethod", "cell_size_factors", "gene_sums", "scaled"]

SizeFactorMethod = Literal["sparse", "deseq2", "poscounts", "total"]
METHODS: tuple[SizeFactorMethod, ...] = ("sparse", "deseq2", "poscounts", "total")


@dataclass(frozen=True)
class GeneSums:
    """What size factors need to know of every gene; arrays are (n_genes,).

    Attributes
    ----------
    log_sums : numpy.ndarray float64
        Logs of the counts above 0, added in the order of the cells.
    totals : numpy.ndarray float64
        Counts.
    n_expressing : numpy.ndarray int64
        Cells with a count above 0.
    n_cells : int
        Cells seen.
    """

    log_sums: np.ndarray
    totals: np.ndarray
    n_expressing: np.ndarray
    n_cells: int

    @classmethod
    def of_nothing(cls, n_genes: int) -> GeneSums:
        """Return the sums over no cell."""
        sums = np.zeros((2, n_genes))
        return cls(sums[0], sums[1], np.zeros(n_genes, dtype=np.int64), 0)

    def add(self, block: CompressedBlock) -> GeneSums:
        """Add the cells of a block, stored cell by cell, in place; return the sums with them."""
        kernel.add_gene_sums(
            block.values, block.minor, self.log_sums, self.totals, self.n_expressing
        )
        return replace(self, n_cells=self.n_cells + block.n_major)

    def __add__(self, other: GeneSums) -> GeneSums:
        return GeneSums(
            self.log_sums + other.log_sums,
            self.totals + other.totals,
            self.n_expressing + other.n_expressing,
            self.n_cells + other.n_cells,
        )

    def log_means(self, method: SizeFactorMethod, among: np.ndarray | None = None) -> np.ndarray:
        """Return the log mean a cell's counts are divided by (n_genes,), NaN to leave a gene out.

        Parameters
        ----------
        method : {"sparse", "deseq2", "poscounts", "total"}
            For totals the values say only which genes are used.
        among : numpy.ndarray (n_genes,) bool or None
            Genes to choose from, such as control genes, dominant or not; None takes all.

        Raises
        ------
        InputError
            No gene is left: none is expressed in all cells ("deseq2"), or all are dominant or not
            chosen ("total").
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            if method == "sparse":
                means = self.log_sums / self.n_expressing
            else:
                means = self.log_sums / self.n_cells
            share = self.totals / self.totals.sum()
        used = self.n_expressing > 0
        if method == "deseq2":
            used &= self.n_expressing == self.n_cells
        elif method == "poscounts":
            used &= means > 0
        elif method == "total" and among is None:
            used &= share <= DOMINANT_SHARE
        if among is not None:
            used &= among
        if method == "deseq2" and not used.any():
            raise InputError(
                f"size_factor_method='deseq2' needs a gene that all {self.n_cells} cells express, "
                "and there is none; take size_factor_method='sparse' or 'total', or give "
                "size_factors="
            )
        if method == "total" and self.totals.any() and not used.any():
            raise InputError(
                f"size_factor_method='total' leaves out genes with more than {DOMINANT_SHARE:.0%} "
                "of all counts, and that is every gene here; name genes in control_genes=, or give "
                "size_factors="
            )
        return np.where(used, means, np.nan)


def gene_sums(blocks: Iterable[CompressedBlock], n_genes: int) -> GeneSums:
    """Add up blocks of cells, given in their order.

    Parameters
    ----------
    blocks : iterable of CompressedBlock
        Runs of cells, stored cell by cell.
    n_genes : int
        Number of genes.
    """
    sums = GeneSums.of_nothing(n_genes)
    for block in blocks:
        sums = sums.add(block)
    return sums


def cell_size_factors(
    block: CompressedBlock,
    log_means: np.ndarray,
    method: SizeFactorMethod,
    n_threads: int = 1,
    guess: np.ndarray | None = None,
) -> np.ndarray:
    """Return the unscaled size factors of a block of cells (n_cells,) float64.

    Parameters
    ----------
    block : CompressedBlock
        A run of cells, stored cell by cell.
    log_means : numpy.ndarray (n_genes,) float64
        See :meth:`GeneSums.log_means`.
    method : {"sparse", "deseq2", "poscounts", "total"}
        "poscounts" is divided by its geometric mean afterwards, see :func:`scaled`.
    n_threads : int
        Threads of the kernel.
    guess : numpy.ndarray (n_cells,) float64 or None
        Such as those by other log means. It saves time and changes no number.

    Returns
    -------
    numpy.ndarray
        NaN for a cell without a count of a usable gene.
    """
    found = np.full(block.n_major, np.nan) if guess is None else guess.copy()
    arrays = (block.values, block.minor, block.ptr, log_means)
    if method == "total":
        kernel.cell_totals(*arrays, found, n_threads)
        return np.where(found > 0, found, np.nan)
    longest = int(np.diff(block.ptr).max(initial=0))
    kernel.median_ratios(*arrays, np.empty((n_threads, max(1, longest))), found, n_threads)
    return found


def size_factors(
    block: CompressedBlock,
    n_genes: int,
    method: SizeFactorMethod,
    *,
    scale: bool,
    engine: Engine,
    n_threads: int = 1,
    among: np.ndarray | None = None,
) -> np.ndarray:
    """Return the size factors of cells that are all in one block (n_cells,) float64.

    Parameters
    ----------
    block : CompressedBlock
        The cells, stored cell by cell.
    n_genes : int
        Number of genes.
    method : {"sparse", "deseq2", "poscounts", "total"}
        See ``reference.size_factors``.
    scale : bool
        Divide by the geometric mean; "poscounts" always is.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.
    """
    if engine == "reference":
        import reference.nb_glm

        counts = np.zeros((block.n_major, n_genes))
        cell = np.repeat(np.arange(block.n_major), np.diff(block.ptr))
        counts[cell, block.minor] = block.values
        found = reference.nb_glm.SIZE_FACTORS[method](counts)
    else:
        means = gene_sums([block], n_genes).log_means(method)
        found = cell_size_factors(block, means, method, n_threads)
    return scaled(found) if scale or method == "poscounts" else found
