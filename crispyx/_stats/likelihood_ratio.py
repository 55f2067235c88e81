"""Likelihood ratio of every perturbation for a block of genes.

Reference: ``reference.likelihood_ratio``.
"""

from __future__ import annotations

import numpy as np

from crispyx._kernels import likelihood_ratio as kernel
from crispyx._stats.nb_coefficients import SMALLEST_DISPERSION
from crispyx._stats.nb_likelihood import Counts
from crispyx.settings import Engine


def likelihood_ratio_roots(
    counts: Counts, alpha: np.ndarray, engine: Engine, n_threads: int = 1
) -> np.ndarray:
    """Return the signed roots (n_groups - 1, n_genes) float64; ``p = erfc(|z| / sqrt(2))``.

    Parameters
    ----------
    counts : Counts
        The block.
    alpha : numpy.ndarray (n_groups - 1, n_genes) float64
        Dispersions; NaN leaves a pair out. So does a pair without any count.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.
    """
    alpha = np.maximum(alpha, SMALLEST_DISPERSION)
    out = np.full(alpha.shape, np.nan)
    if engine == "reference":
        from reference.likelihood_ratio import likelihood_ratio_root
        from reference.nb_coefficients import Arm

        for k, g in np.argwhere(np.isfinite(alpha)).tolist():
            control, perturbed = (
                Arm(counts.dense(g, group), counts.table.of_group(group)) for group in (0, k + 1)
            )
            counted = control.counts.any() or perturbed.counts.any()
            if counted and perturbed.counts.size:
                out[k, g] = likelihood_ratio_root(control, perturbed, float(alpha[k, g]))
        return out
    kernel.likelihood_ratio_roots(
        counts.values,
        counts.ranks,
        counts.run_ptr,
        *counts.table.arrays,
        alpha,
        np.empty((n_threads, 4 * counts.table.rows.shape[1])),
        out,
        n_threads,
    )
    return out
