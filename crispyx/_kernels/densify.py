"""Compressed blocks as dense arrays: for dense outputs and for the reference engine."""

from __future__ import annotations

import numpy as np

from crispyx._kernels.layout import CompressedBlock


def positions(block: CompressedBlock) -> np.ndarray:
    """Return the vector of the block, from 0, that each value stands in (nnz,) int64."""
    return np.repeat(np.arange(block.n_major), np.diff(block.ptr))


def densify(block: CompressedBlock, n_minor: int, dtype: np.dtype | type) -> np.ndarray:
    """Return the block as (n_major, n_minor) of ``dtype``."""
    dense = np.zeros((block.n_major, n_minor), dtype=dtype)
    dense[positions(block), block.minor] = block.values
    return dense
