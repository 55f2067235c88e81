r"""Energy distance of two clouds of cells, and its permutation test.

Example: one cell at 0 against two cells at 1 and 3. The mean distance between the clouds is 2, that
within the second one, each cell's distance to itself counted, is 1: the energy is 2 * 2 - 1 = 3.

>>> energy_distance([[0]], [[1], [3]])
3.0

Choosing the cell at 1 or the one at 3 for the first cloud instead gives 2 * 1.5 - 1.5 = 1.5 and
2 * 2.5 - 0.5 = 4.5. One of these two is as far apart as the labels say; with the labels themselves
that is two of three.

>>> round(permutation_pvalue(3.0, [1.5, 4.5]), 4)
0.6667
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

TIED = 1e-9  # relative difference below which two energies are the same but for rounding


def energy_distance(perturbed: ArrayLike, control: ArrayLike) -> float:
    r"""Return the energy distance of two clouds of points.

    .. math::

        E = \frac{2}{n_1 n_0} \sum_{i,j} |x_i - y_j|
        - \frac{1}{n_1^2} \sum_{i,i'} |x_i - x_{i'}|
        - \frac{1}{n_0^2} \sum_{j,j'} |y_j - y_{j'}|

    Parameters
    ----------
    perturbed : (n1, d), coordinates :math:`x_i`
    control : (n0, d), coordinates :math:`y_j`

    Returns
    -------
    float >= 0, in the unit of the coordinates; 0 exactly when both clouds are the same distribution

    Notes
    -----
    Source: G. J. Szekely and M. L. Rizzo, Journal of Statistical Planning and Inference 143 (2013)
    1249-1272; its use on screens: S. Peidli et al., Nature Methods 21 (2024) 531-540.
    """
    x, y = (np.asarray(cloud, dtype=np.float64) for cloud in (perturbed, control))
    energy = 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)
    return max(energy, 0.0)  # below 0 by rounding only


def permutation_pvalue(observed: float, permuted: ArrayLike) -> float:
    r"""Return the share of relabelled screens whose clouds are as far apart, or farther.

    .. math:: p = \frac{1 + \#\{b : E_b \ge E\}}{1 + B}

    Parameters
    ----------
    observed : E of the cells as they are labelled
    permuted : (B,), E of the same cells with labels drawn at random, groups of the same size

    Returns
    -------
    float, never 0: the labels as they are count as one of the draws; NaN when ``observed`` is

    Notes
    -----
    Energies equal but for rounding count as equal. Source: B. Phipson and G. K. Smyth, Statistical
    Applications in Genetics and Molecular Biology 9 (2010) 39.
    """
    if math.isnan(observed):
        return math.nan
    energies = np.asarray(permuted, dtype=np.float64)
    n_as_far = int(np.count_nonzero(energies >= observed * (1 - TIED)))
    return (1 + n_as_far) / (1 + energies.size)


def _mean_distance(x: np.ndarray, y: np.ndarray) -> float:
    # One row at a time: no table of all differences is needed.
    return float(np.mean([np.sqrt(((y - point) ** 2).sum(axis=1)).mean() for point in x]))
