"""The negative binomial model of one gene at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from crispyx._stats.nb_regression import (
    SMALLEST,
    cooks_distances,
    cox_reid_dispersion,
    deviance,
    least_squares,
    means,
    moments_dispersion,
    regress,
    standard_errors,
)
from crispyx.errors import InputError
from crispyx.glm.matrices import batches, counts_matrix
from crispyx.glm.results import NBGLMResult

DispersionMethod = Literal["moments", "cox-reid"]
LARGEST_DISPERSION = 1e3


def design_matrix(design: ArrayLike) -> np.ndarray:
    """Return a design as (n_samples, n_features) float64.

    Raises
    ------
    InputError
        Not a matrix, a value that is not finite, or columns that are no more than others combined.
    """
    x = np.asarray(design, dtype=np.float64)
    if x.ndim != 2 or not x.shape[1] or len(x) < x.shape[1]:
        raise InputError(f"design has shape {x.shape}; give samples x features, samples in excess")
    if not np.isfinite(x).all():
        raise InputError("design holds values that are not finite; leave those samples out")
    rank = int(np.linalg.matrix_rank(x))
    if rank < x.shape[1]:
        raise InputError(
            f"design has {x.shape[1]} columns of rank {rank}: a column is a combination of others; "
            "leave it out"
        )
    return x


def offset_vector(offset: ArrayLike | None, n_samples: int) -> np.ndarray:
    """Return offsets (n_samples,), 0 by default.

    Raises
    ------
    InputError
        Another length, or a value that is not finite.
    """
    if offset is None:
        return np.zeros(n_samples)
    o = np.asarray(offset, dtype=np.float64)
    if o.shape != (n_samples,) or not np.isfinite(o).all():
        raise InputError(
            f"offset has shape {o.shape}; give {n_samples} finite log size factors, one per sample"
        )
    return o


def check_method(dispersion_method: str) -> None:
    """Refuse an unknown estimator of the dispersion."""
    if dispersion_method not in ("moments", "cox-reid"):
        raise InputError(
            f"dispersion_method is {dispersion_method!r}; choose 'moments' or 'cox-reid'"
        )


class NBGLMFitter:
    r"""Negative binomial regression of single genes on a design.

    .. math::  \log \mu_i = o_i + x_i^T \beta, \qquad \operatorname{var} y_i = \mu_i + \alpha\mu_i^2

    Fisher scoring with means held at ``min_mu`` or above. With ``min_mu=0`` that is the point of
    highest likelihood, the one that L-BFGS-B looks for; with more, see
    ``docs/methods/nb_coefficients.md`` for what the clamp does to rare genes.

    Parameters
    ----------
    design : array (n_samples, n_features)
        Design matrix of full rank.
    offset : array (n_samples,) or None
        Log size factors; None takes 0.
    dispersion : float or None
        alpha; None estimates it before every step.
    max_iter : int
        Most steps.
    tol : float
        Stop after a step whose largest change of a coefficient is no more than this.
    poisson_init_iter : int
        Most steps of the Poisson fit that comes first; 0 begins with all coefficients at 0.
    ridge_penalty : float
        Added to the diagonal of the normal equations.
    min_mu : float
        Smallest fitted mean.
    min_total_count : float
        Genes with fewer counts are not fitted (NaN, ``converged=False``).
    compute_cooks : bool
        Also find the largest Cook's distance.
    dispersion_method : {"moments", "cox-reid"}
        How the dispersion is estimated.

    Raises
    ------
    InputError
        A design or offset of another shape, of missing rank, or not finite.

    Notes
    -----
    Reference: ``reference.nb_regression``.

    Examples
    --------
    >>> import numpy as np
    >>> from crispyx.glm import NBGLMFitter
    >>> design = np.column_stack([np.ones(6), [0, 0, 0, 1, 1, 1]])
    >>> fit = NBGLMFitter(design, dispersion=0.1, min_mu=0).fit_gene([2, 3, 4, 6, 7, 5])
    >>> bool(fit.converged), fit.coef.round(3).tolist()
    (True, [1.099, 0.693])
    """

    def __init__(
        self,
        design: ArrayLike,
        *,
        offset: ArrayLike | None = None,
        dispersion: float | None = None,
        max_iter: int = 50,
        tol: float = 1e-6,
        poisson_init_iter: int = 20,
        ridge_penalty: float = 1e-6,
        min_mu: float = 0.5,
        min_total_count: float = 1.0,
        compute_cooks: bool = False,
        dispersion_method: DispersionMethod = "cox-reid",
    ) -> None:
        check_method(dispersion_method)
        if dispersion is not None and not dispersion >= 0:
            raise InputError(f"dispersion is {dispersion}; give a number >= 0 or None")
        self.design = design_matrix(design)
        self.offset = offset_vector(offset, len(self.design))
        self.dispersion = dispersion
        self.max_iter = max_iter
        self.tol = tol
        self.poisson_init_iter = poisson_init_iter
        self.ridge_penalty = ridge_penalty
        self.min_mu = min_mu
        self.min_total_count = min_total_count
        self.compute_cooks = compute_cooks
        self.dispersion_method = dispersion_method

    def fit_gene(self, counts: ArrayLike) -> NBGLMResult:
        """Fit one gene.

        Parameters
        ----------
        counts : array (n_samples,)
            Counts.

        Returns
        -------
        NBGLMResult
        """
        y = np.asarray(counts, dtype=np.float64)
        if y.shape != (len(self.design),):
            raise InputError(f"counts has shape {y.shape}; give {len(self.design)}, one per sample")
        n_features = self.design.shape[1]
        if y.sum() < max(self.min_total_count, 1e-300):
            nothing = np.full(n_features, math.nan)
            return NBGLMResult(nothing, nothing.copy(), math.nan, False, 0, math.nan)
        fit = regress(
            y,
            self.design,
            self.offset,
            self._dispersion_of(y) if self.dispersion is None else self.dispersion,
            self._start(y),
            min_mu=self.min_mu,
            ridge=self.ridge_penalty,
            max_iterations=self.max_iter,
            tolerance=self.tol,
        )
        mu = means(self.design, self.offset, fit.coefficients)
        result = NBGLMResult(
            coef=fit.coefficients,
            se=standard_errors(self.design, mu, fit.dispersion, self.ridge_penalty),
            dispersion=fit.dispersion,
            converged=fit.converged,
            n_iter=fit.iterations,
            deviance=deviance(y, mu, fit.dispersion),
        )
        if self.compute_cooks:
            distances = cooks_distances(y, self.design, mu, fit.dispersion, self.ridge_penalty)
            result.max_cooks = float(distances.max())
        return result

    def fit_matrix(self, matrix: Any, *, batch_size: int | None = None) -> list[NBGLMResult]:
        """Fit every gene of a matrix.

        Parameters
        ----------
        matrix : array or SciPy sparse matrix (n_samples, n_genes)
            Counts.
        batch_size : int or None
            Genes of a sparse matrix made dense at a time; None takes all. Memory only.

        Returns
        -------
        list of NBGLMResult
            In the order of the columns.
        """
        counts = counts_matrix(matrix, "matrix")
        found = []
        for start, stop in batches(counts.shape[1], counts.shape[0], batch_size):
            part = counts[:, start:stop]
            dense = part.toarray() if hasattr(part, "toarray") else part
            found += [self.fit_gene(column) for column in np.asarray(dense, np.float64).T]
        return found

    def estimate_dispersion_cox_reid(
        self,
        y: np.ndarray,
        mu: np.ndarray,
        weights: np.ndarray,
        *,
        initial_alpha: float = 0.1,
        bounds: tuple[float, float] = (1e-8, 1e3),
    ) -> float:
        """Return the dispersion of highest Cox-Reid adjusted likelihood at held means.

        Parameters
        ----------
        y, mu : array (n_samples,)
            Counts and fitted means.
        weights : array (n_samples,)
            Weights of the fit: samples of weight 0 take no part. The weights of the adjustment
            itself follow the dispersion and are computed at each.
        initial_alpha : float
            First dispersion.
        bounds : tuple of float
            Smallest and largest dispersion.
        """
        kept = np.asarray(weights) > 0
        return cox_reid_dispersion(
            np.asarray(y, dtype=np.float64)[kept],
            np.asarray(mu, dtype=np.float64)[kept],
            self.design[kept],
            bounds[0],
            bounds[1],
            initial_alpha,
        )

    def _start(self, y: np.ndarray) -> np.ndarray:
        if not self.poisson_init_iter:
            return np.zeros(self.design.shape[1])
        fit = regress(
            y,
            self.design,
            self.offset,
            0.0,
            least_squares(y, self.design, self.offset),
            min_mu=self.min_mu,
            ridge=self.ridge_penalty,
            max_iterations=self.poisson_init_iter,
            tolerance=self.tol,
        )
        return fit.coefficients

    def _dispersion_of(self, y: np.ndarray) -> Callable[[np.ndarray], float]:
        def estimate(mu: np.ndarray) -> float:
            low, high = SMALLEST, LARGEST_DISPERSION
            rough = moments_dispersion(y, mu, self.design.shape[1], low, high)
            if self.dispersion_method == "moments":
                return rough
            return cox_reid_dispersion(y, mu, self.design, low, high, rough)

        return estimate
