"""Shrinkage of log fold changes, from counts or from fits."""

from __future__ import annotations

import numpy as np

from crispyx._run.threads import resolve_threads
from crispyx._run.workers import in_parallel
from crispyx._stats.apeglm import (
    Searching,
    prior_variance,
    shrink_counts,
    shrink_statistics,
)
from crispyx._stats.apeglm import (
    prior_scale as scale_of,
)
from crispyx._stats.nb_regression import shrink_coefficient
from crispyx.errors import InputError
from crispyx.glm.arms import arm_of_cells
from crispyx.glm.fitter import design_matrix as check_design
from crispyx.glm.matrices import batches, counts_matrix, gene_block, of_two_arms, part_of
from crispyx.settings import settings


def shrink_lfc_apeglm(
    counts: np.ndarray,
    design_matrix: np.ndarray,
    size_factors: np.ndarray,
    dispersion: np.ndarray,
    mle_coef: np.ndarray,
    mle_se: np.ndarray,
    *,
    shrink_index: int = 1,
    prior_scale: float | None = None,
    prior_no_shrink_scale: float = 15.0,
    max_iter: int = 100,
    tol: float = 1e-6,
    n_jobs: int = -1,
    batch_size: int = 128,
    min_mu: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the modes of coefficients under a Cauchy prior of one of them.

    The mode of lower loss is found by a safeguarded Newton search, so no grid has to stand in. Two
    arms need no start; other designs begin at the fitted coefficients.

    Parameters
    ----------
    counts : array or SciPy sparse matrix (n_cells, n_genes)
        Counts.
    design_matrix : array (n_cells, n_params)
        Design.
    size_factors : array (n_cells,)
        Above 0.
    dispersion : array (n_genes,)
        Dispersions; genes without one get NaN.
    mle_coef : array (n_params, n_genes)
        Fitted coefficients, natural log.
    mle_se : array (n_genes,)
        Standard errors of the coefficient to shrink.
    shrink_index : int
        Which coefficient.
    prior_scale : float or None
        Of the Cauchy prior; None estimates it from the fits.
    prior_no_shrink_scale : float
        Standard deviation of the normal priors of the other coefficients.
    max_iter, tol
        Most steps, and the step below which the search stops.
    n_jobs : int
        Threads; -1 takes all cores. Never a number.
    batch_size : int
        Genes laid out at a time. Memory only.
    min_mu : float
        Means are held at or above it.

    Returns
    -------
    tuple
        Coefficients (n_params, n_genes), standard errors (n_genes,) of the shrunk one, and whether
        the search ended (n_genes,) bool.

    Notes
    -----
    Reference: ``reference.apeglm.shrink_counts``, ``reference.nb_regression.shrink_coefficient``.

    Examples
    --------
    >>> import numpy as np
    >>> from crispyx.glm import NBGLMBatchFitter, shrink_lfc_apeglm
    >>> rng = np.random.default_rng(0)
    >>> design = np.column_stack([np.ones(60), np.repeat([0, 1], 30)])
    >>> counts = rng.poisson(2.0, (60, 20))
    >>> fits = NBGLMBatchFitter(design, min_mu=0).fit_batch(counts)
    >>> shrunk, error, converged = shrink_lfc_apeglm(
    ...     counts, design, np.ones(60), fits.dispersion, fits.coef.T, fits.se[:, 1]
    ... )
    >>> bool((abs(shrunk[1]) <= abs(fits.coef[:, 1]) + 1e-4).all()), bool(converged.all())
    (True, True)
    """
    matrix, x = counts_matrix(counts), check_design(design_matrix)
    n_cells, n_genes = matrix.shape
    s = np.asarray(size_factors, dtype=np.float64)
    alpha = np.asarray(dispersion, dtype=np.float64)
    start = np.asarray(mle_coef, dtype=np.float64)
    error = np.asarray(mle_se, dtype=np.float64)
    wanted = {
        "size_factors": (s, (n_cells,)),
        "dispersion": (alpha, (n_genes,)),
        "mle_coef": (start, (x.shape[1], n_genes)),
        "mle_se": (error, (n_genes,)),
    }
    for name, (found, shape) in wanted.items():
        if found.shape != shape:
            raise InputError(f"{name} has shape {found.shape}; give {shape}")
    if not 0 <= shrink_index < x.shape[1]:
        raise InputError(f"shrink_index is {shrink_index}; the design has {x.shape[1]} columns")
    if prior_scale is None:
        prior_scale = scale_of(prior_variance(lambda: [(start[shrink_index], error)]))
    perturbed = arm_of_cells(x) if shrink_index == 1 else None
    coef, se = np.full(start.shape, np.nan), np.full(n_genes, np.nan)
    converged = np.zeros(n_genes, dtype=bool)
    if perturbed is not None:
        block, offset = gene_block(matrix), np.log(s)
        searching = Searching(min_mu, prior_no_shrink_scale, max_iter, tol)
        for first, last in batches(n_genes, n_cells, batch_size):
            part = shrink_counts(
                of_two_arms(part_of(block, first, last), perturbed, offset),
                alpha[None, first:last],
                np.array([prior_scale]),
                searching,
                settings.engine,
                resolve_threads(n_jobs),
            )
            coef[:, first:last] = part.intercept[0], part.log_fold_change[0]
            se[first:last] = part.standard_error[0]
            converged[first:last] = part.converged[0]
        return coef, se, converged

    def shrink(span: tuple[int, int]) -> None:
        part = matrix[:, span[0] : span[1]]
        dense = part.toarray() if hasattr(part, "toarray") else part
        for gene, y in enumerate(dense.T, start=span[0]):
            if np.isfinite(start[:, gene]).all() and np.isfinite(alpha[gene]) and y.any():
                coef[:, gene], se[gene], converged[gene] = shrink_coefficient(
                    y,
                    x,
                    np.log(s),
                    float(alpha[gene]),
                    start[:, gene],
                    prior_scale,
                    shrink_index,
                    spread=prior_no_shrink_scale,
                    min_mu=min_mu,
                    max_iterations=max_iter,
                    tolerance=tol,
                )

    in_parallel(shrink, list(batches(n_genes, n_cells, batch_size)), n_jobs)
    return coef, se, converged


def shrink_lfc_apeglm_from_stats(
    mle_lfc: np.ndarray,
    mle_se: np.ndarray,
    xtwx_diag: np.ndarray | None = None,
    *,
    base_mean: np.ndarray | None = None,
    prior_scale: float | None = None,
    max_iter: int = 100,
    tol: float = 1e-8,
    use_gene_specific_prior: bool = True,
    hybrid_fallback: bool = True,
    hybrid_mle_se_threshold: float = 3.0,
    hybrid_base_mean_threshold: float = 10.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    r"""Return the modes of fold changes under a Cauchy prior, from fits and their errors alone.

    .. math::

        \arg\min_\beta \frac{(\beta - \mathrm{lfc})^2}{2\,\mathrm{se}^2}
        + \log\Big(1 + \frac{\beta^2}{\sigma^2}\Big)

    An effect never becomes larger and never turns its sign.

    Parameters
    ----------
    mle_lfc, mle_se : array (n_genes,)
        Fitted fold changes and standard errors, natural log.
    xtwx_diag : array (n_genes,) or None
        Information on the fold change; it replaces 1 / se^2 in the standard error returned.
    base_mean : array (n_genes,) or None
        Mean normalized counts.
    prior_scale : float or None
        sigma; None estimates it from the fits.
    max_iter, tol
        Most steps, and the step below which the search stops.
    use_gene_specific_prior : bool
        Multiply sigma by the root of ``base_mean`` where that is below 1, so that rare genes are
        shrunk more; without ``base_mean`` all genes have one sigma.
    hybrid_fallback : bool
        Mark genes that deserve a fit of their counts.
    hybrid_mle_se_threshold, hybrid_base_mean_threshold : float
        Those with a larger \|lfc / se\| or a smaller ``base_mean``.

    Returns
    -------
    tuple of numpy.ndarray (n_genes,)
        Fold changes, standard errors, whether the search ended, and the marks.

    Notes
    -----
    Reference: ``reference.apeglm.shrink_statistics``.

    Examples
    --------
    >>> import numpy as np
    >>> from crispyx.glm import shrink_lfc_apeglm_from_stats
    >>> shrunk, error, converged, refit = shrink_lfc_apeglm_from_stats(
    ...     np.array([0.2, 2.0]), np.array([0.5, 0.1]), prior_scale=0.3
    ... )
    >>> shrunk.round(3).tolist(), converged.tolist(), refit.tolist()
    ([0.031, 1.99], [True, True], [False, True])
    """
    lfc, error = (np.asarray(values, dtype=np.float64) for values in (mle_lfc, mle_se))
    if lfc.ndim != 1 or lfc.shape != error.shape:
        raise InputError(
            f"mle_lfc and mle_se have shapes {lfc.shape} and {error.shape}; give equal"
        )
    mean = None if base_mean is None else _like("base_mean", base_mean, lfc)
    if prior_scale is None:
        prior_scale = scale_of(prior_variance(lambda: [(lfc, error)]))
    scale = np.full(lfc.shape, float(prior_scale))
    if use_gene_specific_prior and mean is not None:
        scale *= np.sqrt(np.clip(mean, 1e-6, 1.0))
    found = shrink_statistics(
        lfc[None], error[None], scale[None], settings.engine, resolve_threads(), max_iter, tol
    )
    shrunk, shrunk_error = found.log_fold_change[0], found.standard_error[0]
    if xtwx_diag is not None:
        information = _like("xtwx_diag", xtwx_diag, lfc)
        square = scale**2 + shrunk**2
        curvature = information + 2 * (scale**2 - shrunk**2) / square**2
        with np.errstate(invalid="ignore"):
            shrunk_error = np.where(curvature > 0, 1 / np.sqrt(curvature), np.nan)
    refit = np.zeros(lfc.shape, dtype=bool)
    if hybrid_fallback:
        with np.errstate(divide="ignore", invalid="ignore"):
            refit |= np.abs(lfc) / error > hybrid_mle_se_threshold
        if mean is not None:
            refit |= mean < hybrid_base_mean_threshold
    return shrunk, shrunk_error, found.converged[0], refit


def _like(name: str, values: np.ndarray, other: np.ndarray) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    if found.shape != other.shape:
        raise InputError(f"{name} has shape {found.shape}; give {other.shape}")
    return found
