"""Covariate effects and dispersions of a whole screen, streamed from its file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crispyx._stats.nb_regression import (
    SMALLEST,
    Scoring,
    dispersions_of_groups,
    means_of_block,
    regress_block,
    start_of_block,
)
from crispyx.errors import InputError
from crispyx.glm.design import covariates
from crispyx.glm.fitter import (
    LARGEST_DISPERSION,
    DispersionMethod,
    check_method,
    design_matrix,
)
from crispyx.glm.matrices import CountStream
from crispyx.settings import settings

RIDGE = 1e-6
LARGEST_STEP = 2.0


def estimate_covariate_effects_streaming(
    backed_adata: Any,
    *,
    obs_df: Any,
    perturbation_labels: np.ndarray,
    control_label: str,
    covariate_columns: Sequence[str],
    size_factors: np.ndarray,
    chunk_size: int = 2048,
    poisson_iter: int = 10,
    tol: float = 1e-6,
    return_intercept: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    r"""Fit intercept and covariates to the control cells of every gene, as Poisson counts.

    Without covariates the intercept is :math:`\log(\sum y / \sum s)`; a gene without counts gets
    the intercept of half a count.

    Parameters
    ----------
    backed_adata : path, crispyx.AnnData or anndata.AnnData
        Counts of all cells.
    obs_df : pandas.DataFrame
        Its obs.
    perturbation_labels : array (n_cells,)
        Label of every cell.
    control_label : str
        That of the control cells.
    covariate_columns : sequence of str
        Columns of ``obs_df``; see :func:`crispyx.glm.build_design_matrix` for levels.
    size_factors : array (n_cells,)
        Above 0.
    chunk_size : int
        Cells whose dense counts take as much memory as is used at once. Never a number.
    poisson_iter, tol
        Most steps, and the change of coefficients below which they stop.
    return_intercept : bool
        Also return the intercepts.

    Returns
    -------
    numpy.ndarray (n_covariates, n_genes) float64
        Effects, natural log. With ``return_intercept`` a tuple of these and of (n_genes,).

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from crispyx.glm import estimate_covariate_effects_streaming
    >>> obs = pd.DataFrame({"batch": ["a", "a", "b", "b", "a"]}, index=list("vwxyz"))
    >>> counts = np.array([[2.0], [2.0], [6.0], [6.0], [9.0]])
    >>> effects, intercept = estimate_covariate_effects_streaming(
    ...     anndata.AnnData(counts, obs=obs),
    ...     obs_df=obs,
    ...     perturbation_labels=np.array(["ctrl"] * 4 + ["MYC"]),
    ...     control_label="ctrl",
    ...     covariate_columns=["batch"],
    ...     size_factors=np.ones(5),
    ...     return_intercept=True,
    ... )
    >>> np.exp(effects).round(3).tolist(), np.exp(intercept).round(3).tolist()
    ([[3.0]], [2.0])
    """
    labels = np.asarray(perturbation_labels)
    s = _size_factors(size_factors, len(labels))
    columns, _ = covariates(obs_df, covariate_columns)
    used = _control(labels, control_label)
    x = design_matrix(np.column_stack([np.ones(len(labels)), *columns])[used])
    offset = np.log(s[used])
    with CountStream(backed_adata, used, chunk_size) as stream:
        found = np.zeros((x.shape[1], stream.n_genes))
        for genes, counts in stream.dense():
            found[:, genes] = _poisson(counts, x, offset, poisson_iter, tol)
    return (found[1:], found[0]) if return_intercept else found[1:]


def estimate_global_dispersion_streaming(
    backed_adata: Any,
    *,
    obs_df: Any,
    perturbation_labels: np.ndarray,
    control_label: str,
    covariate_columns: Sequence[str],
    size_factors: np.ndarray,
    beta_intercept: np.ndarray,
    beta_cov: np.ndarray | None = None,
    beta_perturbation: np.ndarray | None = None,
    chunk_size: int = 2048,
    dispersion_method: DispersionMethod = "cox-reid",
    poisson_iter: int = 10,
    tol: float = 1e-6,
) -> np.ndarray:
    """Return the dispersion of every gene from all cells, at means with all effects in them.

    Parameters
    ----------
    backed_adata, obs_df, perturbation_labels, control_label, covariate_columns, size_factors
        As in :func:`estimate_covariate_effects_streaming`.
    beta_intercept : array (n_genes,)
        Log means of the control per unit of size factor.
    beta_cov : array (n_covariates, n_genes) or None
        Effects of the covariates; None or none of them leaves them out.
    beta_perturbation : array (n_perturbations, n_genes) or None
        Effects of the perturbations in order of first appearance, the control left out; None fits
        them as Poisson counts about the other effects.
    chunk_size : int
        Cells whose dense counts take as much memory as is used at once. Never a number.
    dispersion_method : {"cox-reid", "moments"}
        Estimator at the fitted means, which are held.
    poisson_iter, tol
        Of the Poisson fit of the perturbations: most steps, and the change that ends them.

    Returns
    -------
    numpy.ndarray (n_genes,) float64
        NaN for genes without counts.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from crispyx.glm import estimate_global_dispersion_streaming
    >>> rng = np.random.default_rng(0)
    >>> counts = rng.poisson(4 * rng.gamma(2, 0.5, (600, 2))).astype(float)
    >>> obs = pd.DataFrame({"batch": ["a"] * 600}, index=[f"c{i}" for i in range(600)])
    >>> alpha = estimate_global_dispersion_streaming(
    ...     anndata.AnnData(counts, obs=obs),
    ...     obs_df=obs,
    ...     perturbation_labels=np.repeat(["ctrl", "MYC"], [500, 100]),
    ...     control_label="ctrl",
    ...     covariate_columns=[],
    ...     size_factors=np.ones(600),
    ...     beta_intercept=np.log([4.0, 4.0]),
    ... )
    >>> bool((abs(alpha - 0.5) < 0.15).all())
    True
    """
    check_method(dispersion_method)
    labels = np.asarray(perturbation_labels)
    s = _size_factors(size_factors, len(labels))
    _control(labels, control_label)
    groups = [name for name in dict.fromkeys(labels.tolist()) if name != control_label]
    columns, names = covariates(obs_df, covariate_columns)
    number = {name: k for k, name in enumerate([control_label, *groups])}
    group = np.array([number[name] for name in labels.tolist()])
    x = np.column_stack(columns) if columns else np.empty((len(labels), 0))
    with CountStream(backed_adata, None, chunk_size) as stream:
        shape = len(groups), stream.n_genes
        intercept = _effects("beta_intercept", beta_intercept, (stream.n_genes,))
        of_cov = np.zeros((x.shape[1], stream.n_genes))
        if beta_cov is not None and np.size(beta_cov):
            of_cov = _effects("beta_cov", beta_cov, (len(names), stream.n_genes))
        given = None
        if beta_perturbation is not None:
            given = _effects("beta_perturbation", beta_perturbation, shape)
        found = np.full(stream.n_genes, np.nan)
        for genes, counts in stream.dense():
            offset = np.log(s) + intercept[genes, None]
            mu = means_of_block(x, offset, of_cov[:, genes].T, 0.0)
            if given is None:
                effects = _perturbation_effects(counts, mu, group, shape[0], poisson_iter, tol)
            else:
                effects = given[:, genes].T
            mu *= np.exp(np.concatenate([np.zeros((len(mu), 1)), effects], axis=1))[:, group]
            alpha = dispersions_of_groups(
                counts, mu, group, x, dispersion_method, SMALLEST, LARGEST_DISPERSION
            )
            found[genes] = np.where(counts.any(axis=1), alpha, np.nan)
    return found


def _size_factors(size_factors: np.ndarray, n_cells: int) -> np.ndarray:
    s = np.asarray(size_factors, dtype=np.float64)
    if s.shape != (n_cells,) or not (np.isfinite(s) & (s > 0)).all():
        raise InputError(
            f"size_factors has shape {s.shape}; give {n_cells} numbers above 0, one per label"
        )
    return s


def _control(labels: np.ndarray, control_label: str) -> np.ndarray:
    used = labels == control_label
    if not used.any():
        raise InputError(f"no cell carries control_label {control_label!r}")
    return used


def _effects(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    if found.shape != shape:
        raise InputError(f"{name} has shape {found.shape}; give {shape}")
    return found


def _poisson(
    counts: np.ndarray, design: np.ndarray, offset: np.ndarray, max_iter: int, tol: float
) -> np.ndarray:
    """Return Poisson coefficients (n_features, n_genes) of a block."""
    found = np.zeros((design.shape[1], len(counts)))
    totals = np.maximum(counts.sum(axis=1), 0.5)
    found[0] = np.log(totals / np.exp(offset).sum())
    if design.shape[1] == 1:
        return found
    expressed = np.flatnonzero(counts.any(axis=1))
    y = counts[expressed]
    fits = regress_block(
        y,
        design,
        offset,
        np.zeros(len(y)),
        start_of_block(y, design, offset),
        Scoring(0.0, RIDGE, max_iter, tol),
        settings.engine,
    )
    found[:, expressed] = fits.coefficients.T
    return found


def _perturbation_effects(
    counts: np.ndarray, mu: np.ndarray, group: np.ndarray, n: int, max_iter: int, tol: float
) -> np.ndarray:
    """Return the Poisson effect of every perturbation (n_genes, n) about held means."""
    sums = [
        np.stack([np.bincount(group, row, n + 1)[1:] for row in table]) for table in (counts, mu)
    ]
    effects = np.zeros((len(counts), n))
    moving = np.ones(effects.shape, dtype=bool)
    for _ in range(max_iter):
        step = np.clip(sums[0] / (sums[1] * np.exp(effects)) - 1, -LARGEST_STEP, LARGEST_STEP)
        effects += np.where(moving, step, 0)  # each stops by itself, whatever the others do
        moving &= np.abs(step) > tol
        if not moving.any():
            break
    return effects
