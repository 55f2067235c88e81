"""Size factors: how deeply each cell was sequenced, relative to the others.

A count of gene ``g`` in cell ``i`` has mean ``s_i`` times something that depends on the gene and
the group of the cell. Four estimators of ``s_i`` and one rule of scale.

Example: the second cell has twice the counts of the first in both genes.

>>> median_of_ratios([[1, 4], [2, 8]]).round(6).tolist()
[0.707107, 1.414214]
>>> total_counts([[1, 4], [2, 8]], dominant_share=1.0).tolist()
[5.0, 10.0]
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]

DOMINANT_SHARE = 0.05


def median_of_ratios(counts: ArrayLike) -> Vector:
    r"""Return DESeq2's size factors, from the genes that every cell expresses.

    .. math::

        \log s_i = \operatorname{median}_{g: \min_j y_{jg} > 0}
        \Big(\log y_{ig} - \frac1n \sum_j \log y_{jg}\Big)

    Parameters
    ----------
    counts : (n_cells, n_genes) int

    Returns
    -------
    (n_cells,), geometric mean near but not at 1.

    Raises
    ------
    ValueError
        If no gene is expressed in all cells.

    Notes
    -----
    Source: Anders and Huber, Genome Biology 11 (2010) R106, equation 5.
    """
    y = np.asarray(counts, dtype=np.float64)
    everywhere = (y > 0).all(axis=0)
    if not everywhere.any():
        raise ValueError(
            f"none of the {y.shape[1]} genes is expressed in all {y.shape[0]} cells, so the median "
            "of ratios has no gene to stand on; use the sparse median of ratios or total counts."
        )
    log_y = np.log(y[:, everywhere])
    return np.exp(np.median(log_y - log_y.mean(axis=0), axis=1))


def sparse_median_of_ratios(counts: ArrayLike) -> Vector:
    r"""Return size factors from the non-zero counts alone.

    .. math::

        \log s_i = \operatorname{median}_{g: y_{ig} > 0} \big(\log y_{ig} - \ell_g\big), \qquad
        \ell_g = \operatorname{mean}_{j: y_{jg} > 0} \log y_{jg}

    Parameters
    ----------
    counts : (n_cells, n_genes) int

    Returns
    -------
    (n_cells,), NaN for a cell without any count.
    """
    y = np.asarray(counts, dtype=np.float64)
    log_mean = np.full(y.shape[1], np.nan)
    for gene, column in enumerate(y.T):
        if (column > 0).any():
            log_mean[gene] = np.log(column[column > 0]).mean()
    return _medians(y, log_mean)


def positive_counts(counts: ArrayLike) -> Vector:
    r"""Return DESeq2's ``poscounts``: zeros count as 1 in the gene's mean, and not at all after.

    .. math::

        \log s_i = \operatorname{median}_{g: y_{ig} > 0,\, \ell_g > 0}
        \big(\log y_{ig} - \ell_g\big), \qquad
        \ell_g = \frac1n \sum_{j: y_{jg} > 0} \log y_{jg}

    divided by their geometric mean.

    Parameters
    ----------
    counts : (n_cells, n_genes) int

    Returns
    -------
    (n_cells,), NaN for a cell that expresses no gene with :math:`\ell_g > 0`; cells with NaN do not
    take part in the geometric mean.
    """
    y = np.asarray(counts, dtype=np.float64)
    log_mean = np.log(np.where(y > 0, y, 1)).mean(axis=0)
    return scaled(_medians(y, np.where(log_mean > 0, log_mean, np.nan)))


def total_counts(counts: ArrayLike, dominant_share: float = DOMINANT_SHARE) -> Vector:
    r"""Return each cell's total count, without the genes that dominate the screen.

    .. math::

        s_i = \sum_{g: c_g \le \delta} y_{ig}, \qquad
        c_g = \frac{\sum_j y_{jg}}{\sum_j \sum_h y_{jh}}

    On targeted panels one gene can hold nearly half of all counts; a perturbation of that gene
    would then look like a change of depth.

    Parameters
    ----------
    counts : (n_cells, n_genes) int
    dominant_share : share of all counts above which a gene is left out

    Returns
    -------
    (n_cells,), NaN for a cell without a count of the genes that remain.
    """
    y = np.asarray(counts, dtype=np.float64)
    share = y.sum(axis=0) / y.sum()
    totals = y[:, share <= dominant_share].sum(axis=1)
    return np.where(totals > 0, totals, np.nan)


def scaled(size_factors: ArrayLike) -> Vector:
    """Return size factors (n_cells,) divided by their geometric mean, NaN left out of it."""
    s = np.asarray(size_factors, dtype=np.float64)
    present = np.isfinite(s)
    return s / math.exp(np.log(s[present]).mean()) if present.any() else s


def _medians(y: Vector, log_mean: Vector) -> Vector:
    size_factors = np.full(y.shape[0], np.nan)
    for cell, row in enumerate(y):
        used = (row > 0) & np.isfinite(log_mean)
        if used.any():
            size_factors[cell] = math.exp(np.median(np.log(row[used]) - log_mean[used]))
    return size_factors
