"""The negative binomial model of many genes at once."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from crispyx._run.threads import resolve_threads
from crispyx._stats.nb_regression import (
    SMALLEST,
    Scoring,
    deviance,
    dispersions_of_block,
    means_of_block,
    regress_block,
    standard_errors_of_block,
    start_of_block,
)
from crispyx._stats.wald import RIDGE
from crispyx.errors import InputError
from crispyx.glm.arms import arm_of_cells, fit_arms
from crispyx.glm.fitter import (
    LARGEST_DISPERSION,
    DispersionMethod,
    check_method,
    design_matrix,
    offset_vector,
)
from crispyx.glm.matrices import batches, counts_matrix, gene_block, of_two_arms, part_of
from crispyx.glm.results import ControlStatisticsCache, NBGLMBatchResult
from crispyx.settings import Engine, settings


class NBGLMBatchFitter:
    """Negative binomial regression of many genes on one design.

    The model and its parameters are those of :class:`crispyx.glm.NBGLMFitter`. The dispersion is
    estimated once, between the Poisson fit and the negative binomial one. Two arms, a design of a
    column of ones and one of zeros and ones, are fitted from sums over the arms, as in
    ``crispyx.de.nb_glm_test``: their dispersion is estimated at the means of the normalized counts.

    Parameters
    ----------
    design : array (n_samples, n_features)
        Design matrix of full rank.
    offset : array (n_samples,) or None
        Log size factors; None takes 0.
    max_iter : int
        Most steps.
    tol : float
        Stop after a step whose largest change of a coefficient is no more than this.
    poisson_init_iter : int
        Most steps of the Poisson fit that comes first; 0 begins with all coefficients at 0.
    dispersion_method : {"moments", "cox-reid"}
        How the dispersion is estimated.
    min_mu : float
        Smallest fitted mean.
    min_total_count : float
        Genes with fewer counts are not fitted (NaN, ``converged`` False).
    ridge_penalty : float
        Added to the diagonal of the normal equations.

    Raises
    ------
    InputError
        A design or offset of another shape, of missing rank, or not finite.

    Notes
    -----
    Reference: ``reference.nb_regression``, ``reference.nb_coefficients``.

    Examples
    --------
    >>> import numpy as np
    >>> from crispyx.glm import NBGLMBatchFitter
    >>> design = np.column_stack([np.ones(6), [0, 0, 0, 1, 1, 1]])
    >>> counts = np.array([[2, 0], [3, 1], [4, 0], [6, 0], [7, 0], [5, 1]])
    >>> fits = NBGLMBatchFitter(design, min_mu=0).fit_batch(counts)
    >>> fits.coef.round(3).tolist()
    [[1.099, 0.693], [-1.099, 0.0]]
    """

    def __init__(
        self,
        design: ArrayLike,
        *,
        offset: ArrayLike | None = None,
        max_iter: int = 25,
        tol: float = 1e-6,
        poisson_init_iter: int = 5,
        dispersion_method: DispersionMethod = "cox-reid",
        min_mu: float = 0.5,
        min_total_count: float = 1.0,
        ridge_penalty: float = 1e-6,
    ) -> None:
        check_method(dispersion_method)
        self.design = design_matrix(design)
        self.offset = offset_vector(offset, len(self.design))
        self.max_iter = max_iter
        self.tol = tol
        self.poisson_init_iter = poisson_init_iter
        self.dispersion_method = dispersion_method
        self.min_mu = min_mu
        self.min_total_count = min_total_count
        self.ridge_penalty = ridge_penalty

    def fit_batch(
        self,
        counts: Any,
        gene_batch_size: int | Literal["auto"] | None = "auto",
        use_numba: bool = True,
    ) -> NBGLMBatchResult:
        """Fit every gene of a matrix.

        Parameters
        ----------
        counts : array or SciPy sparse matrix (n_samples, n_genes)
            Counts.
        gene_batch_size : int, "auto" or None
            Genes fitted at a time; "auto" keeps their arrays within 100 MB, None takes all. Memory
            only.
        use_numba : bool
            True runs the compiled engine, False the plain definitions (the name is the documented
            one; there is no Numba in either).

        Returns
        -------
        NBGLMBatchResult
        """
        engine: Engine = "compiled" if use_numba else "reference"
        matrix = self._matrix(counts)
        perturbed = arm_of_cells(self.design)
        if perturbed is None or self.ridge_penalty != RIDGE:
            return self._fit(matrix, self.offset, None, gene_batch_size, engine)
        block = gene_block(matrix)
        found = self._fit_arms(block, perturbed, self.offset, None, gene_batch_size, engine)
        return self._without_rare(found, matrix)

    def fit_batch_with_covariate_offset(
        self, counts: Any, covariate_offset: np.ndarray
    ) -> NBGLMBatchResult:
        """Fit with what covariates explain held.

        Parameters
        ----------
        counts : array or SciPy sparse matrix (n_samples, n_genes)
            Counts.
        covariate_offset : array (n_samples, n_genes)
            Added to the offset of every sample and gene.
        """
        return self.fit_batch_with_joint_offsets(counts, covariate_offset=covariate_offset)

    def fit_batch_with_joint_offsets(
        self,
        counts: Any,
        *,
        intercept_offset: np.ndarray | None = None,
        covariate_offset: np.ndarray | None = None,
        fixed_dispersion: np.ndarray | None = None,
    ) -> NBGLMBatchResult:
        """Fit with intercepts, covariate effects or dispersions held.

        Parameters
        ----------
        counts : array or SciPy sparse matrix (n_samples, n_genes)
            Counts.
        intercept_offset : array (n_genes,) or None
            Added to the offset of every sample; the design then has no column of ones.
        covariate_offset : array (n_samples, n_genes) or None
            Added to the offset of every sample and gene.
        fixed_dispersion : array (n_genes,) or None
            Dispersions; None estimates them.
        """
        matrix = self._matrix(counts)
        shape = matrix.shape
        offset = np.broadcast_to(self.offset, shape[::-1])
        if intercept_offset is not None:
            offset = offset + self._of_genes("intercept_offset", intercept_offset, shape)[:, None]
        if covariate_offset is not None:
            added = np.asarray(covariate_offset, dtype=np.float64)
            if added.shape != shape:
                raise InputError(f"covariate_offset has shape {added.shape}; give {shape}")
            offset = offset + added.T
        if fixed_dispersion is not None:
            fixed_dispersion = self._of_genes("fixed_dispersion", fixed_dispersion, shape)
        return self._fit(matrix, offset, fixed_dispersion, "auto", settings.engine)

    def fit_batch_with_control_cache(
        self,
        perturbation_matrix: Any,
        perturbation_offset: np.ndarray,
        control_cache: ControlStatisticsCache,
        *,
        perturbation_indicator: np.ndarray,
        valid_mask: np.ndarray | None = None,
    ) -> NBGLMBatchResult:
        """Fit one perturbation against the control cells of a cache.

        The result is that of :meth:`fit_batch` on both, with the dispersions of the cache where
        that has them.

        Parameters
        ----------
        perturbation_matrix : array or SciPy sparse matrix (n_pert, n_genes)
            Counts of the perturbed cells.
        perturbation_offset : array (n_pert,)
            Their log size factors.
        control_cache : ControlStatisticsCache
            From :func:`crispyx.glm.precompute_control_statistics`, not frozen.
        perturbation_indicator : array (n_control + n_pert,)
            1 for the perturbed cells, 0 for the control: the control cells come first.
        valid_mask : array (n_genes,) bool or None
            Genes to fit; None fits all.

        Returns
        -------
        NBGLMBatchResult
        """
        if control_cache.control_matrix is None:
            raise InputError(
                "the cache is frozen and holds no counts of the control; make it with "
                "freeze_control=False, or call fit_batch_with_frozen_control"
            )
        matrix = self._matrix(perturbation_matrix, None, "perturbation_matrix")
        n_control, n_pert = control_cache.control_n, matrix.shape[0]
        expected = np.repeat([0, 1], [n_control, n_pert])
        if not np.array_equal(np.asarray(perturbation_indicator), expected):
            raise InputError(
                f"perturbation_indicator must be 0 for the {n_control} control cells, then 1 for "
                f"the {n_pert} perturbed ones"
            )
        offset = np.concatenate(
            [control_cache.control_offset, offset_vector(perturbation_offset, n_pert)]
        )
        dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
        stacked = np.concatenate([control_cache.control_matrix, dense])
        found = self._fit_arms(
            gene_block(stacked),
            expected == 1,
            offset,
            control_cache.global_dispersion,
            "auto",
            settings.engine,
        )
        return self._only(valid_mask, self._without_rare(found, stacked))

    def fit_batch_with_frozen_control(
        self,
        perturbation_matrix: Any,
        perturbation_offset: np.ndarray,
        control_cache: ControlStatisticsCache,
        *,
        valid_mask: np.ndarray | None = None,
    ) -> NBGLMBatchResult:
        """Fit one perturbation against the sums that a frozen cache keeps of the control.

        The intercept is the control's own; the dispersion is that of the cache, of all cells where
        it has one and of the control otherwise. ``deviance`` is that of the perturbed cells.

        Parameters
        ----------
        perturbation_matrix : array or SciPy sparse matrix (n_pert, n_genes)
            Counts of the perturbed cells.
        perturbation_offset : array (n_pert,)
            Their log size factors.
        control_cache : ControlStatisticsCache
            With ``use_frozen_control=True``.
        valid_mask : array (n_genes,) bool or None
            Genes to fit; None fits all.

        Returns
        -------
        NBGLMBatchResult
        """
        w0 = control_cache.frozen_control_W_sum
        if not control_cache.use_frozen_control or w0 is None:
            raise InputError("the cache is not frozen; make it with freeze_control=True")
        matrix = self._matrix(perturbation_matrix, None, "perturbation_matrix")
        n_cells, n_genes = matrix.shape
        alpha = control_cache.global_dispersion
        if alpha is None:
            alpha = control_cache.control_dispersion
        intercept = control_cache.beta_intercept
        alone = NBGLMBatchFitter(
            np.ones((n_cells, 1)),
            offset=perturbation_offset,
            max_iter=self.max_iter,
            tol=self.tol,
            poisson_init_iter=self.poisson_init_iter,
            dispersion_method=self.dispersion_method,
            min_mu=self.min_mu,
            min_total_count=0.0,
            ridge_penalty=self.ridge_penalty,
        )
        used = np.isfinite(intercept) & np.isfinite(alpha)
        part = alone.fit_batch_with_joint_offsets(
            matrix[:, used], intercept_offset=intercept[used], fixed_dispersion=alpha[used]
        )
        w1 = 1 / part.se[:, 0] ** 2 - self.ridge_penalty
        ridge = self.ridge_penalty
        det = w0[used] * w1 + ridge * (w0[used] + 2 * w1 + ridge)
        found = NBGLMBatchResult.empty(n_genes, 2)
        found.put(
            np.flatnonzero(used),
            NBGLMBatchResult(
                coef=np.stack([intercept[used], part.coef[:, 0]], axis=1),
                se=np.sqrt(np.stack([w1 + ridge, w0[used] + w1 + ridge], axis=1) / det[:, None]),
                dispersion=part.dispersion,
                converged=part.converged,
                n_iter=part.n_iter,
                deviance=part.deviance,
            ),
        )
        return self._only(valid_mask, found)

    def _matrix(self, values: Any, n_samples: int | None = -1, name: str = "counts") -> Any:
        matrix = counts_matrix(values, name)
        wanted = len(self.design) if n_samples == -1 else n_samples
        if wanted is not None and matrix.shape[0] != wanted:
            raise InputError(f"{name} has {matrix.shape[0]} rows; the design has {wanted} samples")
        return matrix

    def _fit_arms(
        self,
        block: Any,
        perturbed: np.ndarray,
        offset: np.ndarray,
        dispersion: np.ndarray | None,
        size: int | str | None,
        engine: Engine,
    ) -> NBGLMBatchResult:
        found = NBGLMBatchResult.empty(block.n_major, 2)
        for start, stop in batches(block.n_major, len(perturbed), size):
            part = fit_arms(
                of_two_arms(part_of(block, start, stop), perturbed, offset),
                None if dispersion is None else dispersion[start:stop],
                self.dispersion_method,
                min_mu=self.min_mu,
                max_iter=self.max_iter,
                tol=self.tol,
                poisson_init_iter=self.poisson_init_iter,
                engine=engine,
                n_threads=resolve_threads(),
            )
            found.put(np.arange(start, stop), part)
        return found

    def _fit(
        self,
        matrix: Any,
        offset: np.ndarray,
        dispersion: np.ndarray | None,
        size: int | str | None,
        engine: Engine,
    ) -> NBGLMBatchResult:
        found = NBGLMBatchResult.empty(matrix.shape[1], self.design.shape[1])
        enough = np.asarray(matrix.sum(axis=0)).ravel() >= self.min_total_count
        for start, stop in batches(matrix.shape[1], matrix.shape[0], size):
            genes = np.flatnonzero(enough[start:stop]) + start
            part = matrix[:, genes]
            dense = part.toarray() if hasattr(part, "toarray") else part
            found.put(
                genes,
                self._fit_dense(
                    np.ascontiguousarray(dense.T, dtype=np.float64),
                    offset if offset.ndim == 1 else np.ascontiguousarray(offset[genes]),
                    None if dispersion is None else dispersion[genes],
                    engine,
                ),
            )
        return found

    def _fit_dense(
        self, y: np.ndarray, offset: np.ndarray, alpha: np.ndarray | None, engine: Engine
    ) -> NBGLMBatchResult:
        start = np.zeros((len(y), self.design.shape[1]))
        if self.poisson_init_iter:
            start = self._scored(
                y,
                offset,
                np.zeros(len(y)),
                start_of_block(y, self.design, offset),
                self.poisson_init_iter,
                engine,
            ).coefficients
        if alpha is None:
            alpha = self._dispersions(y, offset, start, engine)
        fits = self._scored(y, offset, alpha, start, self.max_iter, engine)
        mu = means_of_block(self.design, offset, fits.coefficients, 0.0)
        return NBGLMBatchResult(
            coef=fits.coefficients,
            se=standard_errors_of_block(self.design, mu, alpha, self.ridge_penalty),
            dispersion=np.array(alpha),
            converged=fits.converged,
            n_iter=fits.iterations,
            deviance=np.array([deviance(*one) for one in zip(y, mu, alpha, strict=True)]),
        )

    def _dispersions(
        self, y: np.ndarray, offset: np.ndarray, start: np.ndarray, engine: Engine
    ) -> np.ndarray:
        """Estimate at the Poisson means; for Cox and Reid again at means fitted with that."""
        bounds = SMALLEST, LARGEST_DISPERSION
        mu = means_of_block(self.design, offset, start, self.min_mu)
        alpha = dispersions_of_block(y, mu, self.design, self.dispersion_method, *bounds)
        if self.dispersion_method == "moments":
            return alpha
        fits = self._scored(y, offset, alpha, start, self.max_iter, engine)
        mu = means_of_block(self.design, offset, fits.coefficients, self.min_mu)
        return dispersions_of_block(y, mu, self.design, self.dispersion_method, *bounds)

    def _scored(self, y, offset, alpha, start, max_iter, engine):  # type: ignore[no-untyped-def]
        scoring = Scoring(self.min_mu, self.ridge_penalty, max_iter, self.tol)
        return regress_block(y, self.design, offset, alpha, start, scoring, engine)

    def _without_rare(self, found: NBGLMBatchResult, matrix: Any) -> NBGLMBatchResult:
        enough = np.asarray(matrix.sum(axis=0)).ravel() >= self.min_total_count
        return self._only(enough, found)

    def _only(self, mask: np.ndarray | None, found: NBGLMBatchResult) -> NBGLMBatchResult:
        if mask is None:
            return found
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (len(found.coef),):
            raise InputError(f"valid_mask has shape {mask.shape}; give {len(found.coef)} booleans")
        left_out = np.flatnonzero(~mask)
        found.put(left_out, NBGLMBatchResult.empty(len(left_out), found.coef.shape[1]))
        return found

    @staticmethod
    def _of_genes(name: str, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        found = np.asarray(values, dtype=np.float64)
        if found.shape != (shape[1],):
            raise InputError(f"{name} has shape {found.shape}; give {shape[1]}, one per gene")
        return found
