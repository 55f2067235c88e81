"""Fits of two arms, by the kernels of the negative binomial test."""

from __future__ import annotations

import math

import numpy as np

from crispyx._stats.dispersion import (
    genewise_dispersions,
    normalized_moments,
    within_group_moments,
)
from crispyx._stats.nb_coefficients import SMALLEST_DISPERSION, Fitting, Start, fit_coefficients
from crispyx._stats.nb_likelihood import Counts
from crispyx._stats.nb_regression import deviance
from crispyx._stats.wald import RIDGE
from crispyx.glm.results import NBGLMBatchResult
from crispyx.settings import Engine


def arm_of_cells(design: np.ndarray) -> np.ndarray | None:
    """Return which cells are perturbed (n_cells,), where the design is ``[1, 0 or 1]``."""
    if design.shape[1] != 2 or not (design[:, 0] == 1).all():
        return None
    perturbed = design[:, 1] == 1
    if not (perturbed | (design[:, 1] == 0)).all() or perturbed.all() or not perturbed.any():
        return None
    return perturbed


def fit_arms(
    counts: Counts,
    dispersion: np.ndarray | None,
    dispersion_method: str,
    *,
    min_mu: float,
    max_iter: int,
    tol: float,
    poisson_init_iter: int,
    engine: Engine,
    n_threads: int = 1,
) -> NBGLMBatchResult:
    """Fit a block of genes of two groups.

    Parameters
    ----------
    counts : Counts
        The block; group 0 is the control.
    dispersion : numpy.ndarray (n_genes,) float64 or None
        Held; None estimates it.
    dispersion_method : {"cox-reid", "moments"}
        How, with the means of the arms held at those of the normalized counts.
    min_mu, max_iter, tol, poisson_init_iter
        As in :class:`crispyx.glm.NBGLMBatchFitter`.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernels.
    """
    if dispersion is None:
        dispersion = _dispersions(counts, dispersion_method, min_mu, engine, n_threads)
    alpha = np.ascontiguousarray(dispersion, dtype=np.float64)[None]
    start: Start = "poisson" if poisson_init_iter else "zero"
    # The clamped iteration stops by the deviance, whose change is the square of a step.
    tolerance = tol**2 if min_mu > 0 else tol
    fits = fit_coefficients(
        counts,
        alpha,
        Fitting(min_mu > 0, start, min_mu, max_iter, tolerance, False),
        engine,
        n_threads,
    )
    w0, w1 = fits.control_information[0], fits.perturbed_information[0]
    det = w0 * w1 + RIDGE * (w0 + 2 * w1 + RIDGE)
    coef = np.stack([fits.intercept[0], fits.log_fold_change[0]], axis=1)
    return NBGLMBatchResult(
        coef=coef,
        se=np.sqrt(np.stack([w1 + RIDGE, w0 + w1 + RIDGE], axis=1) / det[:, None]),
        dispersion=np.where(np.isfinite(coef[:, 0]), alpha[0], np.nan),
        converged=fits.converged[0],
        n_iter=fits.iterations[0],
        deviance=np.array(
            [
                _deviance(counts, g, float(alpha[0, g]), *map(float, coef[g]))
                for g in range(len(coef))
            ]
        ),
    )


def _dispersions(
    counts: Counts, method: str, min_mu: float, engine: Engine, n_threads: int
) -> np.ndarray:
    moments = normalized_moments(counts, engine, n_threads)
    start = within_group_moments(counts, moments, [[0, 1]], engine)
    if method == "moments":
        return start[0]
    found = genewise_dispersions(
        counts,
        start,
        shared=True,
        min_mu=min_mu,
        stop_where_flat=False,
        engine=engine,
        n_threads=n_threads,
    )
    return found[0]


def _deviance(counts: Counts, gene: int, alpha: float, intercept: float, change: float) -> float:
    if not math.isfinite(intercept):
        return math.nan
    alpha = max(alpha, SMALLEST_DISPERSION)
    return sum(
        deviance(counts.dense(gene, k), counts.table.of_group(k) * math.exp(eta), alpha)
        for k, eta in ((0, intercept), (1, intercept + change))
    )
