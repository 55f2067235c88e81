"""Counts that carry a fit: Cook's distances where means and dispersions are known."""

from __future__ import annotations

import numpy as np

from crispyx._stats.cooks import (
    TRIM_OF_REPLACEMENT,
    cutoff,
    distances_from_means,
    trimmed_mean,
)
from crispyx.errors import InputError


def compute_cooks_distance_batch(
    Y: np.ndarray, mu: np.ndarray, dispersion: np.ndarray, n_params: int = 2
) -> np.ndarray:
    """Return Cook's distance of every cell and gene.

    Parameters
    ----------
    Y, mu : array (n_cells, n_genes)
        Counts and fitted means.
    dispersion : array (n_genes,)
        Dispersions.
    n_params : int
        Coefficients of the model. The design itself is not asked for: leverages, which add up to
        this number, are shared out by the weights of the cells.

    Returns
    -------
    numpy.ndarray (n_cells, n_genes) float64

    Notes
    -----
    Reference: ``reference.cooks.distances_from_means``.

    Examples
    --------
    >>> import numpy as np
    >>> from crispyx.glm import compute_cooks_distance_batch
    >>> counts = np.array([[3.0], [2.0], [4.0], [60.0]])
    >>> distance = compute_cooks_distance_batch(counts, np.full((4, 1), 3.0), np.array([0.1]))
    >>> int(distance[:, 0].argmax())
    3
    """
    counts, fitted, alpha = _checked(Y, mu, dispersion)
    found = np.empty(counts.shape)
    for gene in range(counts.shape[1]):
        y, m = counts[:, gene], fitted[:, gene]
        found[:, gene] = distances_from_means(y, m, float(alpha[gene]), n_params)
    return found


def filter_outliers_cooks(
    Y: np.ndarray,
    mu: np.ndarray,
    dispersion: np.ndarray,
    *,
    n_params: int = 2,
    threshold_quantile: float = 0.99,
) -> tuple[np.ndarray, np.ndarray]:
    """Replace outlying counts by a typical one of the gene.

    Parameters
    ----------
    Y, mu, dispersion, n_params
        As in :func:`compute_cooks_distance_batch`.
    threshold_quantile : float
        Quantile of F(p, n - p) above which a distance marks an outlier.

    Returns
    -------
    tuple of numpy.ndarray (n_cells, n_genes)
        Counts (float64) with outliers replaced by the integer part of the 20 % trimmed mean of the
        gene's other counts, and which were replaced (bool).

    Examples
    --------
    >>> import numpy as np
    >>> from crispyx.glm import filter_outliers_cooks
    >>> counts = np.array([[3.0], [2.0], [4.0], [3.0], [400.0]])
    >>> filtered, outlying = filter_outliers_cooks(
    ...     counts, np.full((5, 1), 3.0), np.array([0.1]), n_params=1
    ... )
    >>> filtered[:, 0].tolist(), outlying[:, 0].tolist()
    ([3.0, 2.0, 4.0, 3.0, 3.0], [False, False, False, False, True])
    """
    if not 0 < threshold_quantile < 1:
        raise InputError(f"threshold_quantile is {threshold_quantile}; give a number in (0, 1)")
    counts, fitted, alpha = _checked(Y, mu, dispersion)
    if len(counts) <= n_params:
        raise InputError(f"{len(counts)} cells are too few for {n_params} coefficients")
    distances = compute_cooks_distance_batch(counts, fitted, alpha, n_params)
    outlying = distances > cutoff(len(counts), n_params, threshold_quantile)
    filtered = counts.copy()
    for gene in np.flatnonzero(outlying.any(axis=0)).tolist():
        here = outlying[:, gene]
        rest = counts[~here, gene]
        typical = np.floor(trimmed_mean(rest, TRIM_OF_REPLACEMENT)) if len(rest) else 0.0
        filtered[here, gene] = typical
    return filtered, outlying


def _checked(
    Y: np.ndarray, mu: np.ndarray, dispersion: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts, fitted = np.asarray(Y, dtype=np.float64), np.asarray(mu, dtype=np.float64)
    alpha = np.asarray(dispersion, dtype=np.float64)
    if counts.ndim != 2 or counts.shape != fitted.shape or alpha.shape != counts.shape[1:]:
        raise InputError(
            f"Y, mu and dispersion have shapes {counts.shape}, {fitted.shape} and {alpha.shape}; "
            "give cells x genes twice, and one dispersion per gene"
        )
    return counts, fitted, alpha
