"""Guide calls by rule: a minimum count, the largest count, the largest proportion, the top cells.

``y_ij`` is the UMI count of guide ``j`` in cell ``i`` and ``s_i`` the guide UMIs of the cell. A
guide that was not seen in a cell is never assigned to it, whatever the threshold.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray


def assign_umi(counts: ArrayLike, threshold: int = 5) -> NDArray[np.bool_]:
    r"""Assign every guide with at least ``threshold`` UMIs.

    .. math::  a_{ij} = [\, y_{ij} \ge t \,]

    Parameters
    ----------
    counts : (n_cells, n_guides) int, UMI
    threshold : inclusive, UMI

    Returns
    -------
    (n_cells, n_guides) bool; a cell may have no guide or several.
    """
    y = np.asarray(counts)
    return (y > 0) & (y >= threshold)


def assign_max(counts: ArrayLike, umi_threshold: int = 0) -> NDArray[np.bool_]:
    r"""Assign the guide with the largest count of the cell, if it is the only one.

    .. math::

        a_{ij} = [\, y_{ij} > y_{ik} \; \forall k \ne j \,] \wedge
        [\, y_{ij} \ge t \,] \wedge [\, y_{ij} > 0 \,]

    Parameters
    ----------
    counts : (n_cells, n_guides) int, UMI
    umi_threshold : floor for the winning count, inclusive, UMI

    Returns
    -------
    (n_cells, n_guides) bool, at most one guide a cell; cells whose maximum is shared have none.
    """
    y = np.asarray(counts)
    largest = _is_largest(y)
    alone = np.count_nonzero(largest, axis=1, keepdims=True) == 1
    return largest & alone & (y > 0) & (y >= umi_threshold)


def assign_ratio(counts: ArrayLike, threshold: float = 0.3) -> NDArray[np.bool_]:
    r"""Assign the guides with the largest proportion of the cell, if it exceeds ``threshold``.

    .. math::

        a_{ij} = [\, y_{ij} = \max_k y_{ik} \,] \wedge [\, y_{ij} / s_i > t \,],
        \qquad s_i = \sum_k y_{ik}

    Parameters
    ----------
    counts : (n_cells, n_guides) int, UMI
    threshold : strict, in [0, 1)

    Returns
    -------
    (n_cells, n_guides) bool; guides that share the maximum are all assigned.

    Notes
    -----
    Source: crispat's ``ratios`` (Braunger and Velten, Bioinformatics 40, 2024, btae535).

    The proportion is compared as a float64 quotient. Division is correctly rounded, and so is the
    reading of the literal 0.3: 3 UMIs of 10 give the very same float64 as 0.3 and are *not* above
    it. The rearrangement ``y > t s`` loses this: 57 UMIs of 100 would exceed 0.57, because the
    rounded product 0.57 * 100 lies below 57.
    """
    y = np.asarray(counts)
    s = y.sum(axis=1, keepdims=True, dtype=np.float64)
    proportion = y / np.where(s > 0, s, 1.0)
    return _is_largest(y) & (y > 0) & (proportion > threshold)


def assign_quantiles(counts: ArrayLike, quantile: float = 0.1) -> NDArray[np.bool_]:
    r"""Assign each guide to the cells in which its proportion is highest.

    .. math::

        a_{ij} = [\, \operatorname{rank}_j(i) \le \lfloor q\, n_j \rfloor \,], \qquad
        n_j = |\{ i : y_{ij} > 0 \}|

    where the ``n_j`` cells that have guide ``j`` are ranked by descending proportion
    :math:`y_{ij} / s_i`, equal proportions by the order of the cells.

    Parameters
    ----------
    counts : (n_cells, n_guides) int, UMI
    quantile : q in (0, 1], read as the decimal number it is written as: 0.29 of 100 cells are 29,
        although the float64 product is 28.999999999999996

    Returns
    -------
    (n_cells, n_guides) bool; a cell may have no guide or several.

    Notes
    -----
    Source: crispat's ``quantiles`` (Braunger and Velten, Bioinformatics 40, 2024, btae535). Its
    order of equal proportions is that of its sort.
    """
    y = np.asarray(counts)
    s = y.sum(axis=1, dtype=np.float64)
    assigned = np.zeros(y.shape, dtype=bool)
    for guide in range(y.shape[1]):
        cells = np.flatnonzero(y[:, guide] > 0)
        order = np.argsort(-(y[cells, guide] / s[cells]), kind="stable")
        n_taken = math.floor(Fraction(repr(float(quantile))) * cells.size)
        assigned[cells[order[:n_taken]], guide] = True
    return assigned


def _is_largest(y: NDArray[np.generic]) -> NDArray[np.bool_]:
    if y.shape[1] == 0:
        return np.zeros(y.shape, dtype=bool)
    return y == y.max(axis=1, keepdims=True)
