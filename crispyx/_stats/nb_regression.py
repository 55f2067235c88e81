"""Negative binomial regression of many genes on one design, all genes of a block at once.

Reference: ``reference.nb_regression``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crispyx.settings import Engine
from reference.dispersion import SMALLEST
from reference.nb_regression import (
    INTERCEPT_SPREAD,
    LARGEST_ETA,
    LARGEST_STEP,
    PSEUDOCOUNT,
    cooks_distances,
    cox_reid_dispersion,
    deviance,
    group_dispersion,
    least_squares,
    means,
    moments_dispersion,
    regress,
    shrink_coefficient,
    standard_errors,
)

__all__ = [
    "INTERCEPT_SPREAD",
    "SMALLEST",
    "Regressions",
    "Scoring",
    "cooks_distances",
    "cox_reid_dispersion",
    "deviance",
    "dispersions_of_block",
    "dispersions_of_groups",
    "least_squares",
    "means",
    "means_of_block",
    "moments_dispersion",
    "regress",
    "regress_block",
    "shrink_coefficient",
    "standard_errors",
    "standard_errors_of_block",
    "start_of_block",
]


@dataclass(frozen=True)
class Scoring:
    """How coefficients are fitted: smallest mean, ridge, and when to stop."""

    min_mu: float
    ridge: float
    max_iterations: int
    tolerance: float


@dataclass(frozen=True)
class Regressions:
    """Fits of a block.

    Attributes
    ----------
    coefficients : numpy.ndarray (n_genes, p) float64
        Natural log.
    iterations : numpy.ndarray (n_genes,) int64
        Steps.
    converged : numpy.ndarray (n_genes,) bool
        Whether the stop rule was met.
    """

    coefficients: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray


def start_of_block(counts: np.ndarray, design: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return the least squares fits (n_genes, p) of the logs of counts (n_genes, n_cells)."""
    response = np.log(counts * np.exp(-offset) + PSEUDOCOUNT)
    inverse = np.linalg.pinv(design)
    return np.stack([(response * row).sum(axis=-1) for row in inverse], axis=1)


def regress_block(
    counts: np.ndarray,
    design: np.ndarray,
    offset: np.ndarray,
    alpha: np.ndarray,
    start: np.ndarray,
    scoring: Scoring,
    engine: Engine,
) -> Regressions:
    """Fit every gene of a block by Fisher scoring.

    Sums run along the cells of one gene, so that the other genes of a block change no digit.

    Parameters
    ----------
    counts : numpy.ndarray (n_genes, n_cells) float64
        Genes are rows.
    design : numpy.ndarray (n_cells, p) float64
        Shared by all genes.
    offset : numpy.ndarray (n_cells,) or (n_genes, n_cells) float64
        Added to the linear predictor.
    alpha : numpy.ndarray (n_genes,) float64
        Dispersions, 0 for Poisson counts.
    start : numpy.ndarray (n_genes, p) float64
        First coefficients.
    scoring : Scoring
        Method.
    engine : {"compiled", "reference"}
        All genes at once, or one by one by the definition.
    """
    if engine == "reference":
        return _reference_block(counts, design, offset, alpha, start, scoring)
    n_genes, p = start.shape
    beta = np.array(start, dtype=np.float64)
    iterations = np.full(n_genes, scoring.max_iterations, dtype=np.int64)
    converged, active = np.zeros(n_genes, dtype=bool), np.arange(n_genes)
    pairs = [(i, j) for i in range(p) for j in range(i, p)]
    ridge = scoring.ridge * np.eye(p)
    for iteration in range(1, scoring.max_iterations + 1):
        o = offset if offset.ndim == 1 else offset[active]
        mu = _means(design, o, beta[active], scoring.min_mu)
        w = mu / (1 + alpha[active, None] * mu)
        wz = w * (np.log(mu) - o + (counts[active] - mu) / mu)
        gram = np.empty((len(active), p, p))
        for i, j in pairs:
            gram[:, i, j] = gram[:, j, i] = (w * (design[:, i] * design[:, j])).sum(axis=-1)
        right = np.stack([(wz * column).sum(axis=-1) for column in design.T], axis=1)
        step = np.linalg.solve(gram + ridge, right[..., None])[..., 0] - beta[active]
        reach = np.abs(_predictor(design, step)).max(axis=1)
        step *= np.minimum(1.0, LARGEST_STEP / np.maximum(reach, 1e-300))[:, None]
        beta[active] += step
        done = np.abs(step).max(axis=1) <= scoring.tolerance
        iterations[active[done]], converged[active[done]] = iteration, True
        active = active[~done]
        if not len(active):
            break
    return Regressions(beta, iterations, converged & np.isfinite(beta).all(axis=1))


def dispersions_of_block(
    counts: np.ndarray,
    mu: np.ndarray,
    design: np.ndarray,
    method: str,
    low: float,
    high: float,
) -> np.ndarray:
    """Return the dispersion of every gene (n_genes,) at held means (n_genes, n_cells).

    Parameters
    ----------
    counts, mu : numpy.ndarray (n_genes, n_cells) float64
        The block.
    design : numpy.ndarray (n_cells, p) float64
        What was fitted.
    method : {"cox-reid", "moments"}
        Estimator.
    low, high : float
        Bounds.
    """
    found = np.empty(len(counts))
    for g, (y, m) in enumerate(zip(counts, mu, strict=True)):
        found[g] = moments_dispersion(y, m, design.shape[1], low, high)
        if method == "cox-reid":
            found[g] = cox_reid_dispersion(y, m, design, low, high, found[g])
    return found


def dispersions_of_groups(
    counts: np.ndarray,
    mu: np.ndarray,
    group: np.ndarray,
    covariates: np.ndarray,
    method: str,
    low: float,
    high: float,
) -> np.ndarray:
    """Return the dispersion of every gene (n_genes,) for many groups and a few covariates.

    Parameters
    ----------
    counts, mu, method, low, high
        As in :func:`dispersions_of_block`; genes without counts get the upper bound.
    group : numpy.ndarray (n_cells,) int64
        Number of each cell's group.
    covariates : numpy.ndarray (n_cells, q) float64
        What was fitted beside one mean for each group.
    """
    n_coefficients = len(np.unique(group)) + covariates.shape[1]
    found = np.full(len(counts), float(high))
    for g in np.flatnonzero(counts.any(axis=1)).tolist():
        found[g] = moments_dispersion(counts[g], mu[g], n_coefficients, low, high)
        if method == "cox-reid":
            found[g] = group_dispersion(counts[g], mu[g], group, covariates, low, high, found[g])
    return found


def standard_errors_of_block(
    design: np.ndarray, mu: np.ndarray, alpha: np.ndarray, ridge: float
) -> np.ndarray:
    """Return the standard errors (n_genes, p) at means (n_genes, n_cells)."""
    found = np.empty((len(mu), design.shape[1]))
    for g, m in enumerate(mu):
        found[g] = standard_errors(design, m, float(alpha[g]), ridge)
    return found


def means_of_block(
    design: np.ndarray, offset: np.ndarray, coefficients: np.ndarray, min_mu: float
) -> np.ndarray:
    """Return fitted means (n_genes, n_cells), held at ``min_mu`` or above."""
    return _means(design, offset, coefficients, min_mu)


def _predictor(design: np.ndarray, beta: np.ndarray) -> np.ndarray:
    eta = np.zeros((len(beta), len(design)))
    for column, value in zip(design.T, beta.T, strict=True):
        eta += value[:, None] * column
    return eta


def _means(design: np.ndarray, offset: np.ndarray, beta: np.ndarray, min_mu: float) -> np.ndarray:
    eta = offset + _predictor(design, beta)
    return np.maximum(np.exp(np.clip(eta, -LARGEST_ETA, LARGEST_ETA)), min_mu)


def _reference_block(
    counts: np.ndarray,
    design: np.ndarray,
    offset: np.ndarray,
    alpha: np.ndarray,
    start: np.ndarray,
    scoring: Scoring,
) -> Regressions:
    fits = [
        regress(
            y,
            design,
            offset if offset.ndim == 1 else offset[g],
            float(alpha[g]),
            start[g],
            min_mu=scoring.min_mu,
            ridge=scoring.ridge,
            max_iterations=scoring.max_iterations,
            tolerance=scoring.tolerance,
        )
        for g, y in enumerate(counts)
    ]
    return Regressions(
        np.array([fit.coefficients for fit in fits]).reshape(start.shape),
        np.array([fit.iterations for fit in fits], dtype=np.int64),
        np.array([fit.converged for fit in fits], dtype=bool),
    )
