"""Mean, variance and fraction of expressing cells of one gene in one group of cells.

Sums are correctly rounded (:func:`math.fsum`): the result depends on the values only, not on the
order of the cells.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def mean(values: ArrayLike) -> float:
    """Return the arithmetic mean.

    Parameters
    ----------
    values : (n,), one gene in the cells of one group, zeros included

    Returns
    -------
    float, in the unit of the values; NaN for no cells.
    """
    x = np.asarray(values, dtype=np.float64)
    return math.fsum(x.tolist()) / x.size if x.size else math.nan


def variance(values: ArrayLike) -> float:
    r"""Return the unbiased variance, in two passes.

    .. math::  v = \frac{1}{n - 1} \sum_i (x_i - \bar x)^2

    The second pass runs over deviations from the mean, because the textbook difference
    ``sum(x^2) - n mean^2`` cancels for values far from zero.

    Parameters
    ----------
    values : (n,), one gene in the cells of one group, zeros included

    Returns
    -------
    float, squared unit of the values; NaN below two cells, exactly 0 for equal values.

    Notes
    -----
    Equal values take their own branch: the rounded mean of three times 0.1 is not 0.1, and the
    variance of about 1e-34 that follows would turn into a t statistic out of nothing.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size < 2:
        return math.nan
    if x.min() == x.max():
        return 0.0
    return math.fsum(np.square(x - mean(x)).tolist()) / (x.size - 1)


def fraction_expressing(values: ArrayLike) -> float:
    """Return the fraction of cells with a value above 0.

    Parameters
    ----------
    values : (n,), one gene in the cells of one group, zeros included

    Returns
    -------
    float in [0, 1]; NaN for no cells. A zero is not expression, however a file stores it.
    """
    x = np.asarray(values, dtype=np.float64)
    return np.count_nonzero(x > 0) / x.size if x.size else math.nan
