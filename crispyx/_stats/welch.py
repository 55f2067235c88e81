"""Welch's t-test of every perturbation against the control for a block of genes.

Reference: ``reference.welch``.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtr

import reference.welch
from crispyx._kernels.layout import GroupedGenes
from crispyx._stats.moments import GroupMoments
from crispyx.settings import Engine

FOLD_CHANGE_PSEUDOCOUNT = 1e-9


def welch_tests(
    block: GroupedGenes, moments: GroupMoments, engine: Engine
) -> tuple[np.ndarray, np.ndarray]:
    """Return t and the two-sided p of every (perturbation, gene) of a block.

    Parameters
    ----------
    block : GroupedGenes
        Values by group, read by the reference engine.
    moments : GroupMoments
        Moments of the block, read by the compiled engine.
    engine : {"compiled", "reference"}
        Which definition runs.

    Returns
    -------
    tuple of numpy.ndarray (n_groups - 1, n_genes) float64
        NaN where an arm has fewer than two cells or neither varies.
    """
    if engine == "reference":
        statistic, pvalue = np.empty((2, block.n_groups - 1, block.n_genes))
        for g in range(block.n_genes):
            control = block.dense(g, 0)
            for k in range(1, block.n_groups):
                test = reference.welch.welch_t(control, block.dense(g, k))
                statistic[k - 1, g], pvalue[k - 1, g] = test.statistic, test.pvalue
        return statistic, pvalue
    sizes = moments.sizes[:, None].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = moments.variance / sizes
        total = q[0] + q[1:]
        statistic = (moments.mean[1:] - moments.mean[0]) / np.sqrt(total)
        # Shares of the total first: the squares of tiny variances would underflow.
        df = 1 / (
            (q[0] / total) ** 2 / (sizes[0] - 1) + (q[1:] / total) ** 2 / (sizes[1:] - 1)
        )
        undefined = ~(total > 0)
        statistic[undefined] = np.nan
        pvalue = 2 * stdtr(df, -np.abs(statistic))
    return statistic, pvalue


def log_fold_changes(moments: GroupMoments, engine: Engine) -> np.ndarray:
    """Return log2 fold changes of back-transformed log1p means (n_groups - 1, n_genes) float64."""
    if engine == "reference":
        table = np.empty((len(moments.sizes) - 1, moments.mean.shape[1]))
        for k, g in np.ndindex(table.shape):
            table[k, g] = reference.welch.log_fold_change(
                moments.mean[0, g], moments.mean[k + 1, g]
            )
        return table
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        counts = np.expm1(moments.mean) + FOLD_CHANGE_PSEUDOCOUNT
        return np.log2(counts[1:] / counts[0])
