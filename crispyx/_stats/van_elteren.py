"""Wilcoxon's rank-sum test within batches (van Elteren's test) for a block of genes.

Reference: ``reference.van_elteren``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from crispyx._kernels import van_elteren as kernel
from crispyx._kernels.layout import GroupedGenes
from crispyx._stats.rank_sum import rank_sum_statistics
from crispyx.settings import Engine

Alternative = Literal["two-sided", "greater", "less"]
SIDES: dict[str, int] = {"two-sided": 0, "greater": 1, "less": -1}


def van_elteren_tests(
    batches: Sequence[GroupedGenes],
    tie_correct: bool,
    alternative: Alternative,
    engine: Engine,
    n_threads: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return U, z, p and effect size of every (perturbation, gene) of a block.

    Parameters
    ----------
    batches : sequence of GroupedGenes
        The same genes and groups, with the cells of one batch each.
    tie_correct : bool
        Subtract the ties from the variances.
    alternative : {"two-sided", "greater", "less"}
        What p is the probability of.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernels.

    Returns
    -------
    tuple of numpy.ndarray (n_groups - 1, n_genes) float64
        NaN where no batch has both arms.
    """
    shape = (batches[0].n_groups - 1, batches[0].n_genes)
    u, z, pvalue, effect_size = np.empty((4, *shape))
    if engine == "reference":
        import reference.van_elteren

        for k, g in np.ndindex(shape):
            arms = [(batch.dense_control(g, k + 1), batch.dense(g, k + 1)) for batch in batches]
            test = reference.van_elteren.van_elteren(arms, tie_correct, alternative)
            u[k, g], z[k, g], pvalue[k, g], effect_size[k, g] = test
        return u, z, pvalue, effect_size
    n_perturbed = np.array([batch.group_sizes[1:] for batch in batches])
    n_control = np.array([batch.group_sizes[:1] for batch in batches])
    if batches[0].pooled:
        n_control = n_control - n_perturbed
    statistics = [rank_sum_statistics(b, tie_correct, engine, n_threads) for b in batches]
    kernel.combine_batches(
        np.stack([twice_excess for twice_excess, _ in statistics]),
        np.stack([variance for _, variance in statistics]),
        _weights(n_control, n_perturbed),
        n_control * n_perturbed,
        SIDES[alternative],
        u,
        z,
        pvalue,
        effect_size,
        n_threads,
    )
    return u, z, pvalue, effect_size


def _weights(n_control: np.ndarray, n_perturbed: np.ndarray) -> np.ndarray:
    """Return 1 / (N_b + 1) scaled to the sum 1 over batches, 0 without one of the arms."""
    both = (n_control > 0) & (n_perturbed > 0)
    weights = np.where(both, 1 / (n_control + n_perturbed + 1.0), 0)
    total = weights.sum(axis=0)
    return np.divide(weights, total, out=np.zeros(weights.shape), where=total > 0)
