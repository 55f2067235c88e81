"""Welch's t-test of every perturbation against its control for a block of genes.

Reference: ``reference.welch``.
"""

from __future__ import annotations

import numpy as np

from crispyx._kernels import welch as kernel
from crispyx._kernels.layout import GroupedGenes
from crispyx._stats.moments import Arm
from crispyx.settings import Engine

FOLD_CHANGE_PSEUDOCOUNT = 1e-9


def welch_tests(
    block: GroupedGenes, control: Arm, perturbed: Arm, engine: Engine, n_threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return t and the two-sided p of every (perturbation, gene) of a block.

    Parameters
    ----------
    block : GroupedGenes
        Values by group, read by the reference engine.
    control, perturbed : Arm
        Moments of the block, read by the compiled engine.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.

    Returns
    -------
    tuple of numpy.ndarray (n_groups - 1, n_genes) float64
        NaN where an arm has fewer than two cells or neither varies.
    """
    if engine == "reference":
        import reference.welch

        statistic, pvalue = np.empty((2, block.n_groups - 1, block.n_genes))
        for k, g in np.ndindex(statistic.shape):
            test = reference.welch.welch_t(block.dense_control(g, k + 1), block.dense(g, k + 1))
            statistic[k, g], pvalue[k, g] = test.statistic, test.pvalue
        return statistic, pvalue
    statistic, pvalue = np.empty((2, *perturbed.mean.shape))
    kernel.welch(
        control.mean,
        control.variance,
        control.n_cells[:, 0],
        perturbed.mean,
        perturbed.variance,
        perturbed.n_cells[:, 0],
        statistic,
        pvalue,
        n_threads,
    )
    return statistic, pvalue


def log_fold_changes(
    control: Arm, perturbed: Arm, engine: Engine, n_threads: int = 1
) -> np.ndarray:
    """Return log2 fold changes of back-transformed log1p means (n_groups - 1, n_genes) float64."""
    if engine == "reference":
        import reference.welch

        low, high = np.broadcast_arrays(control.mean, perturbed.mean)
        table = np.empty(high.shape)
        for at in np.ndindex(table.shape):
            table[at] = reference.welch.log_fold_change(float(low[at]), float(high[at]))
        return table
    change = np.empty(perturbed.mean.shape)
    with np.errstate(over="ignore"):
        before = np.expm1(control.mean) + FOLD_CHANGE_PSEUDOCOUNT
    kernel.log_fold_changes(before, perturbed.mean, FOLD_CHANGE_PSEUDOCOUNT, change, n_threads)
    return change
