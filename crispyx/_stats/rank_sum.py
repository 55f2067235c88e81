"""Wilcoxon's rank-sum test of every perturbation against the control for a block of genes.

Reference: ``reference.rank_sum``.
"""

from __future__ import annotations

import numpy as np

from crispyx._kernels import rank_sum as kernel
from crispyx._kernels.layout import GroupedGenes
from crispyx.settings import Engine

PATH = kernel.best_path()  # loops for the instruction set of this processor


def rank_sum_tests(
    block: GroupedGenes, tie_correct: bool, engine: Engine, n_threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return U, z and the two-sided p of every (perturbation, gene) of a block.

    Parameters
    ----------
    block : GroupedGenes
        Values by group.
    tie_correct : bool
        Subtract the ties from the variance.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.

    Returns
    -------
    tuple of numpy.ndarray (n_groups - 1, n_genes) float64
        NaN where an arm is empty.
    """
    if engine == "reference":
        import reference.rank_sum

        u, z, pvalue = np.empty((3, block.n_groups - 1, block.n_genes))
        for k, g in np.ndindex(u.shape):
            test = reference.rank_sum.rank_sum(
                block.dense_control(g, k + 1), block.dense(g, k + 1), tie_correct
            )
            u[k, g], z[k, g], pvalue[k, g] = test.u, test.z, test.pvalue
        return u, z, pvalue
    twice_excess, variance = rank_sum_statistics(block, tie_correct, engine, n_threads)
    u, z, pvalue = np.empty((3, *variance.shape))
    n_control = block.group_sizes[0] - (block.group_sizes[1:] if block.pooled else 0)
    kernel.normal_tails(
        twice_excess, variance, n_control * block.group_sizes[1:], u, z, pvalue, n_threads
    )
    return u, z, pvalue


def rank_sum_statistics(
    block: GroupedGenes, tie_correct: bool, engine: Engine, n_threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the tests of a block rest on, before z and p.

    Parameters
    ----------
    block, tie_correct, engine, n_threads
        See :func:`rank_sum_tests`.

    Returns
    -------
    twice_excess : numpy.ndarray (n_groups - 1, n_genes) int64
        2 U - n0 n1, exact; 0 where an arm is empty.
    variance : numpy.ndarray (n_groups - 1, n_genes) float64
        Variance of U; 0 where all values are equal, NaN where an arm is empty.
    """
    shape = (block.n_groups - 1, block.n_genes)
    twice_excess, variance = np.empty(shape, dtype=np.int64), np.empty(shape)
    if engine == "reference":
        import reference.rank_sum

        for k, g in np.ndindex(shape):
            twice_excess[k, g], variance[k, g] = reference.rank_sum.statistic(
                block.dense_control(g, k + 1), block.dense(g, k + 1), tie_correct
            )
        return twice_excess, variance
    longest = int(np.diff(block.run_ptr, axis=1).max(initial=0))
    widest = int((block.run_ptr[:, -1] - block.run_ptr[:, 1]).max(initial=0))
    kernel.rank_sum(
        block.values,
        block.run_ptr,
        block.group_sizes,
        tie_correct,
        block.pooled,
        np.empty((n_threads, kernel.scratch_values(longest)), dtype=block.values.dtype),
        np.empty((n_threads, kernel.scratch_counts(longest, widest)), dtype=np.int32),
        longest,
        twice_excess,
        variance,
        PATH,
        n_threads,
    )
    return twice_excess, variance
