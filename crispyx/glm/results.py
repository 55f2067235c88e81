"""What the fitters return, and what they keep of the control cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class NBGLMResult:
    """Fit of one gene.

    Attributes
    ----------
    coef : numpy.ndarray (n_features,) float64
        Coefficients, natural log; NaN where the gene was not fitted.
    se : numpy.ndarray (n_features,) float64
        Standard errors, from the expected information.
    dispersion : float
        alpha, in ``var = mu + alpha mu^2``.
    converged : bool
        Whether the stop rule was met.
    n_iter : int
        Steps.
    deviance : float
        Twice the log-likelihood ratio of the saturated model.
    max_cooks : float or None
        Largest Cook's distance of a cell, where it was asked for.
    """

    coef: np.ndarray
    se: np.ndarray
    dispersion: float
    converged: bool
    n_iter: int
    deviance: float
    max_cooks: float | None = None


@dataclass
class NBGLMBatchResult:
    """Fits of many genes.

    Attributes
    ----------
    coef, se : numpy.ndarray (n_genes, n_features) float64
        Coefficients and standard errors, natural log; NaN where a gene was not fitted.
    dispersion, deviance : numpy.ndarray (n_genes,) float64
        As in :class:`NBGLMResult`.
    converged : numpy.ndarray (n_genes,) bool
        Whether the stop rule was met.
    n_iter : numpy.ndarray (n_genes,) int64
        Steps.
    """

    coef: np.ndarray
    se: np.ndarray
    dispersion: np.ndarray
    converged: np.ndarray
    n_iter: np.ndarray
    deviance: np.ndarray

    @classmethod
    def empty(cls, n_genes: int, n_features: int) -> NBGLMBatchResult:
        """Return the result of genes none of which is fitted."""
        return cls(
            coef=np.full((n_genes, n_features), np.nan),
            se=np.full((n_genes, n_features), np.nan),
            dispersion=np.full(n_genes, np.nan),
            converged=np.zeros(n_genes, dtype=bool),
            n_iter=np.zeros(n_genes, dtype=np.int64),
            deviance=np.full(n_genes, np.nan),
        )

    def put(self, genes: np.ndarray, part: NBGLMBatchResult) -> None:
        """Set the fits of some genes, given by number."""
        for name in ("coef", "se", "dispersion", "converged", "n_iter", "deviance"):
            getattr(self, name)[genes] = getattr(part, name)


@dataclass
class ControlStatisticsCache:
    """The control cells once for all comparisons; arrays over genes are (n_genes,) float64.

    Attributes
    ----------
    control_matrix : numpy.ndarray (n_control, n_genes) float64, or None when frozen
        Counts.
    control_n : int
        Number of control cells.
    control_offset : numpy.ndarray (n_control,) float64
        Log size factors.
    beta_intercept : numpy.ndarray
        Log mean per unit of size factor; NaN for genes that no control cell expresses.
    control_dispersion : numpy.ndarray
        Dispersion within the control cells.
    control_xtwx_intercept, control_xtwz_intercept : numpy.ndarray
        Sums of ``w`` and of ``w z`` at the fit, with z the working response less the offset.
    control_mean_expr : numpy.ndarray
        Mean of counts over size factors.
    control_expr_counts : numpy.ndarray (n_genes,) int64
        Control cells that express the gene.
    pts_rest : numpy.ndarray
        Their fraction.
    global_size_factors : numpy.ndarray (n_cells,) or None
        Size factors of all cells, as given.
    global_dispersion, global_dispersion_trend : numpy.ndarray or None
        Dispersions and trend of all cells, see :func:`crispyx.glm.precompute_global_dispersion`.
    global_disp_prior_var : float or None
        Variance of log dispersions about the trend.
    dispersion_scope : str or None
        ``"global"`` where ``global_dispersion`` is to be used.
    frozen_control_W_sum, frozen_control_Wz_sum, frozen_control_mu_sum : numpy.ndarray or None
        Sums of ``w``, ``w z`` and fitted means over the control cells.
    frozen_control_resid_sq_sum : numpy.ndarray or None
        Sum of squared residuals ``(y - mu)^2``.
    frozen_control_Y_sum : numpy.ndarray or None
        Total counts.
    use_frozen_control : bool
        Whether the sums stand for the counts.
    """

    control_matrix: np.ndarray | None
    control_n: int
    control_offset: np.ndarray
    beta_intercept: np.ndarray
    control_dispersion: np.ndarray
    control_xtwx_intercept: np.ndarray
    control_xtwz_intercept: np.ndarray
    control_mean_expr: np.ndarray
    control_expr_counts: np.ndarray
    pts_rest: np.ndarray
    global_size_factors: np.ndarray | None = None
    global_dispersion: np.ndarray | None = None
    global_dispersion_trend: np.ndarray | None = None
    global_disp_prior_var: float | None = None
    dispersion_scope: str | None = None
    frozen_control_W_sum: np.ndarray | None = None  # noqa: N815
    frozen_control_Wz_sum: np.ndarray | None = None  # noqa: N815
    frozen_control_mu_sum: np.ndarray | None = None
    frozen_control_resid_sq_sum: np.ndarray | None = None
    frozen_control_Y_sum: np.ndarray | None = None  # noqa: N815
    use_frozen_control: bool = False
