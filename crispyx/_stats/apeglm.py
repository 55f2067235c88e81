"""Shrunken fold changes of a block of genes, from fits alone or from the counts.

Reference: ``reference.apeglm``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from crispyx._kernels import apeglm as kernel
from crispyx._stats.nb_coefficients import SMALLEST_DISPERSION
from crispyx._stats.nb_likelihood import Counts
from crispyx.settings import Engine
from reference.apeglm import INTERCEPT_SPREAD, prior_scale, prior_variance

__all__ = [
    "INTERCEPT_SPREAD",
    "Searching",
    "Shrunk",
    "prior_scale",
    "prior_variance",
    "shrink_counts",
    "shrink_statistics",
]


@dataclass(frozen=True)
class Searching:
    """How the mode under the likelihood of the counts is found.

    Attributes
    ----------
    min_mu : float
        Means are held at or above it.
    intercept_spread : float
        Standard deviation of the prior of the intercept.
    max_iterations, tolerance
        When to stop.
    literal : bool
        PyDESeq2's mode and standard error.
    """

    min_mu: float = 0.0
    intercept_spread: float = INTERCEPT_SPREAD
    max_iterations: int = 100
    tolerance: float = 1e-8
    literal: bool = False


@dataclass(frozen=True)
class Shrunk:
    """Modes of a block (n_groups, n_genes), NaN where nothing was fitted; natural log.

    Attributes
    ----------
    intercept, log_fold_change, standard_error : numpy.ndarray float64
        The mode; the intercept is NaN without counts.
    iterations : numpy.ndarray int64
        Steps.
    converged : numpy.ndarray bool
        Whether the stop rule was met.
    """

    intercept: np.ndarray
    log_fold_change: np.ndarray
    standard_error: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray


def shrink_statistics(
    log_fold_change: np.ndarray,
    standard_error: np.ndarray,
    scale: np.ndarray,
    engine: Engine,
    n_threads: int = 1,
    max_iterations: int = 100,
    tolerance: float = 1e-8,
) -> Shrunk:
    """Shrink fitted fold changes by their standard errors.

    Parameters
    ----------
    log_fold_change, standard_error : numpy.ndarray (n_groups, n_genes) float64
        Natural log; NaN, or a standard error of 0, leaves a pair out.
    scale : numpy.ndarray (n_groups, n_genes) or (n_groups, 1) float64
        Of the prior.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.
    max_iterations, tolerance
        When to stop.
    """
    shape = log_fold_change.shape
    table = np.full((2, *shape), np.nan)
    iterations, converged = np.zeros(shape, np.int64), np.zeros(shape, np.uint8)
    scales = np.ascontiguousarray(np.broadcast_to(scale, shape))
    if engine == "reference":
        import reference.apeglm

        used = np.isfinite(log_fold_change) & np.isfinite(scales)
        used &= np.isfinite(standard_error) & (standard_error > 0)
        for k, g in np.argwhere(used).tolist():
            one = reference.apeglm.shrink_statistics(
                float(log_fold_change[k, g]),
                float(standard_error[k, g]),
                float(scales[k, g]),
                max_iterations,
                tolerance,
            )
            table[:, k, g] = one.log_fold_change, one.standard_error
            iterations[k, g], converged[k, g] = one.iterations, one.converged
    else:
        kernel.shrink_statistics(
            np.ascontiguousarray(log_fold_change, dtype=np.float64),
            np.ascontiguousarray(standard_error, dtype=np.float64),
            scales,
            max_iterations,
            tolerance,
            table,
            iterations,
            converged,
            n_threads,
        )
    nothing = np.full(shape, np.nan)
    return Shrunk(nothing, table[0], table[1], iterations, converged.astype(bool))


def shrink_counts(
    counts: Counts,
    alpha: np.ndarray,
    scale: np.ndarray,
    searching: Searching,
    engine: Engine,
    n_threads: int = 1,
) -> Shrunk:
    """Shrink the fold changes of every perturbation of a block against group 0.

    Parameters
    ----------
    counts : Counts
        The block.
    alpha : numpy.ndarray (n_groups - 1, n_genes) float64
        Dispersions; NaN leaves a pair out. So does a pair without any count.
    scale : numpy.ndarray (n_groups - 1,) float64
        Of the prior of each perturbation.
    searching : Searching
        Method.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.
    """
    alpha = np.ascontiguousarray(np.maximum(alpha, SMALLEST_DISPERSION))
    table = np.full((3, *alpha.shape), np.nan)
    iterations, converged = np.zeros(alpha.shape, np.int64), np.zeros(alpha.shape, np.uint8)
    if engine == "reference":
        for k, g in np.ndindex(*alpha.shape):
            one = _reference_pair(counts, g, k + 1, float(alpha[k, g]), float(scale[k]), searching)
            if one is not None:
                table[:, k, g] = one[:3]
                iterations[k, g], converged[k, g] = one[3:]
    else:
        kernel.shrink_counts(
            counts.values,
            counts.ranks,
            counts.run_ptr,
            *counts.table.arrays,
            alpha,
            np.ascontiguousarray(scale, dtype=np.float64),
            1 / searching.intercept_spread**2,
            searching.min_mu,
            searching.max_iterations,
            searching.tolerance,
            searching.literal,
            np.empty((n_threads, 4 * counts.table.rows.shape[1])),
            table,
            iterations,
            converged,
            n_threads,
        )
    return Shrunk(table[0], table[1], table[2], iterations, converged.astype(bool))


def _reference_pair(
    counts: Counts, gene: int, group: int, alpha: float, scale: float, searching: Searching
):  # type: ignore[no-untyped-def]
    from reference.apeglm import shrink_counts as defined
    from reference.nb_coefficients import Arm

    control, perturbed = (Arm(counts.dense(gene, k), counts.table.of_group(k)) for k in (0, group))
    nothing = not (control.counts.any() or perturbed.counts.any())
    if math.isnan(alpha) or math.isnan(scale) or nothing or perturbed.counts.size == 0:
        return None
    return defined(
        control,
        perturbed,
        alpha,
        scale,
        min_mu=searching.min_mu,
        intercept_spread=searching.intercept_spread,
        max_iterations=searching.max_iterations,
        tolerance=searching.tolerance,
        literal=searching.literal,
    )
