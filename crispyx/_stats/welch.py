"""Welch's t-test of every perturbation against its control for a block of genes.

Reference: ``reference.welch``.
"""

from __future__ import annotations

import numpy as np

from crispyx._kernels import welch as kernel
from crispyx._kernels.layout import GroupedGenes
from crispyx._stats.moments import Arm
from crispyx._stats.van_elteren import Alternative
from crispyx.settings import Engine

FOLD_CHANGE_PSEUDOCOUNT = 1e-9


def welch_tests(
    block: GroupedGenes, control: Arm, perturbed: Arm, engine: Engine, n_threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return t, the two-sided p and degrees of freedom of every (perturbation, gene) of a block.

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
    tuple of numpy.ndarray (n_groups - 1, n_genes)
        float64, degrees of freedom float32; NaN where an arm has fewer than two cells or neither
        varies.
    """
    if engine == "reference":
        import reference.welch

        statistic, pvalue = np.empty((2, block.n_groups - 1, block.n_genes))
        freedom = np.empty(statistic.shape, dtype=np.float32)
        for k, g in np.ndindex(statistic.shape):
            test = reference.welch.welch_t(block.dense_control(g, k + 1), block.dense(g, k + 1))
            statistic[k, g], pvalue[k, g] = test.statistic, test.pvalue
            freedom[k, g] = test.degrees_of_freedom
        return statistic, pvalue, freedom
    statistic, pvalue = np.empty((2, *perturbed.mean.shape))
    freedom = np.empty(statistic.shape, dtype=np.float32)
    kernel.welch(
        control.mean,
        control.variance,
        control.n_cells[:, 0],
        perturbed.mean,
        perturbed.variance,
        perturbed.n_cells[:, 0],
        statistic,
        pvalue,
        freedom,
        n_threads,
    )
    return statistic, pvalue, freedom


def log_student_tails(
    statistic: np.ndarray, degrees_of_freedom: np.ndarray, alternative: Alternative, engine: Engine
) -> np.ndarray:
    """Return the natural logs of the p-values of t statistics, also of p too small for a number.

    Parameters
    ----------
    statistic, degrees_of_freedom : numpy.ndarray (n,)
        Of the tests.
    alternative : {"two-sided", "greater", "less"}
        What p is the probability of.
    engine : {"compiled", "reference"}
        Which definition runs.
    """
    if engine == "reference":
        import reference.welch

        pairs = zip(statistic.tolist(), degrees_of_freedom.tolist(), strict=True)
        found = [reference.welch.log_student_tail(t, df, alternative) for t, df in pairs]
        return np.array(found, dtype=np.float64)
    logs = np.empty(statistic.shape)
    t, df = (np.ascontiguousarray(x, dtype=np.float64) for x in (statistic, degrees_of_freedom))
    kernel.log_student_tails(t, df, logs, 1)
    if alternative == "two-sided":
        return logs
    behind = t < 0 if alternative == "greater" else t > 0
    return np.where(behind, np.log1p(-0.5 * np.exp(logs)), logs - np.log(2))


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
