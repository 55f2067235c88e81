"""Comparisons that rest on one count, and the counts that replace it.

Reference: ``reference.cooks``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crispyx._kernels import cooks as kernel
from crispyx._stats.nb_coefficients import Coefficients
from crispyx._stats.nb_likelihood import Counts
from crispyx.settings import Engine
from reference import cooks as reference
from reference.nb_coefficients import Arm

SLACK = 1 - 1e-9  # of the bound, for the rounding of its sums


cutoff = reference.cutoff
distances_from_means = reference.distances_from_means
trimmed_mean = reference.trimmed_mean
TRIM_OF_REPLACEMENT = reference.TRIM_OF_REPLACEMENT


@dataclass(frozen=True)
class OutlyingPair:
    """One comparison with a count beyond the cutoff.

    Attributes
    ----------
    group, gene : int
        Row and column in the tables of the block.
    control, perturbed : reference.nb_coefficients.Arm
        Both arms with outlying counts replaced, cells by rank.
    withheld : bool
        The p-value rests on one count, as the data stand.
    withheld_after_refit : bool
        The same once the replaced counts have been fitted.
    """

    group: int
    gene: int
    control: Arm
    perturbed: Arm
    withheld: bool
    withheld_after_refit: bool


def outlying_pairs(
    counts: Counts,
    alpha: np.ndarray,
    fits: Coefficients,
    min_mu: float,
    engine: Engine,
    n_threads: int = 1,
) -> Iterator[OutlyingPair]:
    """Yield the comparisons of a block with a Cook's distance beyond the cutoff.

    Parameters
    ----------
    counts : Counts
        The block.
    alpha : numpy.ndarray (n_groups - 1, n_genes) float64
        Dispersions of the fits.
    fits : Coefficients
        The fits.
    min_mu : float
        Smallest mean in the leverages.
    engine : {"compiled", "reference"}
        "compiled" looks only at comparisons whose bound exceeds the cutoff; the numbers of both are
        the definition's.
    n_threads : int
        Threads of the kernel.
    """
    sizes = counts.table.n_cells
    cutoffs = np.array([reference.cutoff(int(sizes[0] + n)) for n in sizes[1:]])
    suspect = np.isfinite(fits.intercept)
    if engine == "compiled":
        bound = np.empty(alpha.shape)
        kernel.bound_distances(
            counts.values,
            counts.ranks,
            counts.run_ptr,
            *counts.table.arrays,
            fits.intercept,
            fits.log_fold_change,
            alpha,
            min_mu,
            np.empty((n_threads, counts.table.rows.shape[1])),
            bound,
            n_threads,
        )
        suspect &= bound > SLACK * cutoffs[:, None]
    for k, g in np.argwhere(suspect).tolist():
        arms = [Arm(counts.dense(g, j), counts.table.of_group(j)) for j in (0, k + 1)]
        distances = reference.cooks_distances(
            arms[0],
            arms[1],
            float(fits.intercept[k, g]),
            float(fits.log_fold_change[k, g]),
            float(alpha[k, g]),
            min_mu,
        )
        control, perturbed, beyond = reference.without_outliers(arms[0], arms[1], distances)
        if beyond:
            withheld, after = (
                reference.is_outlier(arms[0], arms[1], distances, refitted)
                for refitted in (False, True)
            )
            yield OutlyingPair(k, g, control, perturbed, withheld, after)
