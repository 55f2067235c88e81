"""Means, variances and expressing cells of every group for a block of genes.

Reference: ``reference.moments``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import reference.moments
from crispyx._kernels import moments as kernel
from crispyx._kernels.layout import GroupedGenes
from crispyx.settings import Engine


@dataclass(frozen=True)
class GroupMoments:
    """Moments of a block of genes; row 0 is the control.

    Attributes
    ----------
    mean, variance : numpy.ndarray (n_groups, n_genes) float64
        Mean and unbiased variance; NaN below one and two cells.
    n_expressing : numpy.ndarray (n_groups, n_genes) int64
        Cells with a value above 0.
    sizes : numpy.ndarray (n_groups,) int64
        Cells of each group.
    """

    mean: np.ndarray
    variance: np.ndarray
    n_expressing: np.ndarray
    sizes: np.ndarray

    @property
    def fraction_expressing(self) -> np.ndarray:
        """Fraction of cells with a value above 0 (n_groups, n_genes); NaN for an empty group."""
        sizes = self.sizes[:, None].astype(float)
        return np.divide(
            self.n_expressing, sizes, out=np.full(self.mean.shape, np.nan), where=sizes > 0
        )


def group_moments(block: GroupedGenes, engine: Engine, n_threads: int = 1) -> GroupMoments:
    """Return the moments of every (group, gene) of a block."""
    shape = (block.n_groups, block.n_genes)
    mean, variance = np.empty(shape), np.empty(shape)
    n_expressing = np.empty(shape, dtype=np.int64)
    if engine == "reference":
        for k, g in np.ndindex(shape):
            values = block.dense(g, k)
            mean[k, g] = reference.moments.mean(values)
            variance[k, g] = reference.moments.variance(values)
            n_expressing[k, g] = np.count_nonzero(values > 0)
    else:
        kernel.group_moments(
            block.values, block.run_ptr, block.group_sizes, mean, variance, n_expressing, n_threads
        )
    return GroupMoments(mean, variance, n_expressing, block.group_sizes)
