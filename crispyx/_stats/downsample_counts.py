"""Molecules drawn from the cells of a block.

Reference: ``reference.downsample_counts``.
"""

from __future__ import annotations

import numpy as np

import reference.downsample_counts as reference
from crispyx._kernels import downsample_counts as kernel
from crispyx._kernels.layout import CompressedBlock
from crispyx.settings import Engine


def downsampled_values(
    block: CompressedBlock,
    n_kept: np.ndarray,
    seed: int,
    replace: bool,
    engine: Engine,
    n_threads: int = 1,
) -> np.ndarray:
    """Return what is left of every value of a block of cells (nnz,), zeros included.

    Parameters
    ----------
    block : CompressedBlock
        Counts of whole cells.
    n_kept : numpy.ndarray (block.n_major,) int64
        Molecules to keep of each cell.
    seed : int
        Below 2**63.
    replace : bool
        Draw with replacement.
    engine : {"compiled", "reference"}
        Which definition runs; both draw the same molecules.
    n_threads : int
        Threads of the kernel.
    """
    out = np.empty_like(block.values)
    if engine == "reference":
        for row in range(block.n_major):
            span = slice(block.ptr[row], block.ptr[row + 1])
            out[span] = reference.downsampled(
                block.values[span], int(n_kept[row]), seed, block.start + row, replace
            )
        return out
    kernel.downsample_rows(
        block.values, block.ptr, n_kept, block.start, seed, replace, out, n_threads
    )
    return out
