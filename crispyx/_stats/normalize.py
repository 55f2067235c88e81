"""Scaling of cells to one total and log1p.

Reference: ``reference.normalize``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import reference.normalize
from crispyx._kernels import normalize as kernel
from crispyx._kernels.densify import densify, positions
from crispyx._kernels.layout import CompressedBlock
from crispyx.errors import InputError
from crispyx.settings import Engine


@dataclass(frozen=True)
class Scaling:
    """What happens to each count.

    Attributes
    ----------
    normalize : bool
        Scale each cell to ``target_sum``.
    log1p : bool
        Take ln(1 + value), afterwards.
    target_sum : float
        Total of each cell.
    """

    normalize: bool
    log1p: bool
    target_sum: float


def scaled_values(
    block: CompressedBlock,
    library_sizes: np.ndarray,
    n_genes: int,
    scaling: Scaling,
    engine: Engine,
    n_threads: int = 1,
) -> np.ndarray:
    """Return the values of a block of cells after scaling, computed in float64.

    Parameters
    ----------
    block : CompressedBlock
        Cells with all their genes, no stored zeros, nothing negative.
    library_sizes : numpy.ndarray (block.n_major,) float64
        Total of each cell.
    n_genes : int
        Genes of the matrix.
    scaling : Scaling
        What to do.
    engine : {"compiled", "reference"}
        Which definition runs; the reference takes the totals from the block itself.
    n_threads : int
        Threads of the kernel.

    Returns
    -------
    numpy.ndarray (nnz,) float32
    """
    if engine == "reference":
        dense = densify(block, n_genes, np.float64)
        if scaling.normalize:
            dense = reference.normalize.normalize_total(dense, scaling.target_sum)
        values = dense[positions(block), block.minor]
        return (np.log1p(values) if scaling.log1p else values).astype(np.float32)
    out = np.empty(len(block.values), dtype=np.float32)
    totals, target = library_sizes, scaling.target_sum
    if not scaling.normalize:
        totals, target = np.ones(block.n_major), 1.0
    kernel.scale_rows(block.values, block.ptr, totals, target, scaling.log1p, out, n_threads)
    return out


def normalize_dense(
    counts: np.ndarray, library_size: np.ndarray | None, target_sum: float, engine: Engine
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return dense counts scaled to one total per cell, and the totals.

    .. math::  x_{ij} = y_{ij} T / s_i

    Parameters
    ----------
    counts : numpy.ndarray (n_cells, n_genes) float64
        Nothing negative.
    library_size : numpy.ndarray (n_cells,) float64 or None
        Totals; None takes the row sums.
    target_sum : float
        Total of each cell afterwards.
    engine : {"compiled", "reference"}
        Which definition runs.

    Returns
    -------
    tuple of numpy.ndarray (n_cells, n_genes), (n_cells,) float64
        A cell without counts stays at 0.

    Raises
    ------
    InputError
        A cell with counts has a total that is not above 0.
    """
    sizes = counts.sum(axis=1) if library_size is None else library_size
    filled = counts.any(axis=1)
    impossible = np.flatnonzero(filled & ~(sizes > 0))
    if impossible.size:
        cell = int(impossible[0])
        raise InputError(
            f"row {cell} of the block has counts but library_size {sizes[cell]:g}; give the total "
            "of each cell, or None to sum the block"
        )
    if engine == "reference":
        return reference.normalize.normalize_total(counts, target_sum, sizes), sizes
    return counts * target_sum / np.where(filled, sizes, 1.0)[:, None], sizes
