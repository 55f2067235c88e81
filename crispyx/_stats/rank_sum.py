"""Wilcoxon's rank-sum test of every perturbation against the control for a block of genes.

Reference: ``reference.rank_sum``.
"""

from __future__ import annotations

import numpy as np

from crispyx._kernels import rank_sum as kernel
from crispyx._kernels.layout import GroupedGenes
from crispyx.settings import Engine


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
    u, z, pvalue = np.empty((3, block.n_groups - 1, block.n_genes))
    if engine == "reference":
        import reference.rank_sum

        for g in range(block.n_genes):
            for k in range(1, block.n_groups):
                test = reference.rank_sum.rank_sum(
                    block.dense_control(g, k), block.dense(g, k), tie_correct
                )
                u[k - 1, g], z[k - 1, g], pvalue[k - 1, g] = test.u, test.z, test.pvalue
        return u, z, pvalue
    longest = int(np.diff(block.run_ptr, axis=1).max(initial=0))
    kernel.rank_sum(
        block.values,
        block.run_ptr,
        block.group_sizes,
        tie_correct,
        block.pooled,
        np.empty((n_threads, 3 * longest + 1), dtype=block.values.dtype),
        np.empty((n_threads, longest + 1), dtype=np.int64),
        u,
        z,
        pvalue,
        n_threads,
    )
    return u, z, pvalue
