"""The t-test within batches for a block of genes.

Reference: ``reference.batch_welch``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crispyx._kernels import welch as kernel
from crispyx._kernels.layout import GroupedGenes
from crispyx._stats.moments import Arm, comparison_arms
from crispyx._stats.pseudobulk import batch_weights
from crispyx._stats.van_elteren import SIDES, Alternative
from crispyx.settings import Engine

MIN_CELLS = 2  # of an arm within a batch: one cell has no variance


def batch_welch_tests(
    batches: Sequence[GroupedGenes],
    alternative: Alternative,
    engine: Engine,
    n_threads: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return difference, t, p and degrees of freedom of every (perturbation, gene) of a block.

    Parameters
    ----------
    batches : sequence of GroupedGenes
        The same genes and groups, with the cells of one batch each.
    alternative : {"two-sided", "greater", "less"}
        What p is the probability of.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernels.

    Returns
    -------
    tuple of numpy.ndarray (n_groups - 1, n_genes) float64
        NaN where no batch has two cells of both arms; all but the difference also where no arm
        varies.
    """
    if engine == "reference":
        return _reference(batches, alternative)
    arms = [comparison_arms(batch, engine, n_threads) for batch in batches]
    n0, n1 = _cells_that_count(arms)
    weights = batch_weights(n0.T, n1.T, engine).T  # (n_batches, n_perturbations)
    difference, total = np.zeros((2, *arms[0][1].mean.shape))
    shares: list[tuple[np.ndarray, np.ndarray]] = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for w, pair in zip(weights[:, :, None], arms, strict=True):
            control, perturbed = pair
            left_out = w == 0
            difference += np.where(left_out, 0, w * (perturbed.mean - control.mean))
            for arm in pair:
                q = np.where(left_out, 0, w**2 * arm.variance / arm.n_cells)
                shares.append((q, np.where(left_out, 1, arm.n_cells - 1)))
                total += q
        statistic = difference / np.sqrt(total)
        df = 1 / sum((q / total) ** 2 / n for q, n in shares)
        statistic[~(total > 0)] = np.nan
        pvalue = np.empty(statistic.shape)
        kernel.student_tails(statistic, df, SIDES[alternative], pvalue, n_threads)
        return difference, statistic, pvalue, df


def _cells_that_count(arms: list[tuple[Arm, Arm]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells of both arms (n_batches, n_perturbations), 0 in batches left out."""
    n1 = np.array([perturbed.n_cells[:, 0] for _, perturbed in arms])
    n0 = np.array([np.broadcast_to(control.n_cells[:, 0], n1.shape[1]) for control, _ in arms])
    enough = (n0 >= MIN_CELLS) & (n1 >= MIN_CELLS)
    return np.where(enough, n0, 0), np.where(enough, n1, 0)


def _reference(
    batches: Sequence[GroupedGenes], alternative: Alternative
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    import reference.batch_welch

    shape = (batches[0].n_groups - 1, batches[0].n_genes)
    difference, statistic, pvalue, df = np.empty((4, *shape))
    for k, g in np.ndindex(shape):
        arms = [(batch.dense_control(g, k + 1), batch.dense(g, k + 1)) for batch in batches]
        test = reference.batch_welch.welch_in_batches(arms, alternative)
        difference[k, g], statistic[k, g] = test.difference, test.statistic
        pvalue[k, g], df[k, g] = test.pvalue, test.degrees_of_freedom
    return difference, statistic, pvalue, df
