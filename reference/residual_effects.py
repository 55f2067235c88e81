r"""Effects of perturbations beside covariates and beside the other perturbations of a cell.

Log expression y of a gene is regressed on everything at once,

.. math::  y_i = \alpha + \sum_k d_{ik} \beta_k + z_i^T \gamma + \varepsilon_i

with :math:`d_{ik} = 1` where cell i carries perturbation k, and covariates z. By the theorem of
Frisch, Waugh and Lovell :math:`\beta_k` is the effect on what covariates and the other
perturbations leave of y. With :math:`D = (1, d, z)`, G the generalized inverse of
:math:`D^T D`, and :math:`s^2` the residual sum of squares over n - rank(D),

.. math::  \hat\beta = G D^T y, \qquad \mathrm{se}_k = s \sqrt{G_{kk}}

Errors are taken to be independent, with one variance in all cells of a gene. A coefficient that the
data do not determine (:math:`D v = 0` for some v with :math:`v_k \ne 0`: the perturbation is
confounded) is NaN; the other coefficients are those of any design without the redundant columns.

Source: Lovell, Journal of the American Statistical Association 58 (1963) 993-1010.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]
RANK = 1e-10  # share of the largest eigenvalue below which one counts as 0
BESIDE = 1e-6  # of a column that lies in the null space: what is found beside it is no effect


class Effects(NamedTuple):
    """Coefficients and standard errors (n_columns, n_genes); NaN where not determined."""

    coefficients: Float
    standard_errors: Float
    degrees_of_freedom: int


class Inverse(NamedTuple):
    """Generalized inverse (n_columns, n_columns), which columns are determined, and the rank."""

    matrix: Float
    determined: NDArray[np.bool_]
    rank: int


def residual_effects(design: ArrayLike, expression: ArrayLike) -> Effects:
    """Regress the genes (n_cells, n_genes) on a design (n_cells, n_columns)."""
    d, y = np.asarray(design, dtype=np.float64), np.asarray(expression, dtype=np.float64)
    return solved(inverted(d.T @ d), d.T @ y, (y**2).sum(axis=0), len(y))


def inverted(gram: Float) -> Inverse:
    """Invert the products of the columns of a design where they allow it."""
    scale = np.sqrt(np.diag(gram))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    kept = values > RANK * values.max()
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / np.outer(scale, scale)
    determined = (vectors[:, ~kept] ** 2).sum(axis=1) < BESIDE
    return Inverse(inverse, determined, int(kept.sum()))


def solved(inverse: Inverse, products: Float, squares: Float, n_cells: int) -> Effects:
    """Solve the normal equations.

    Parameters
    ----------
    inverse : of the products of the columns of the design
    products : (n_columns, n_genes), products of these columns and the genes
    squares : (n_genes,), sums of squares of the genes
    n_cells : number of cells
    """
    freedom = n_cells - inverse.rank
    coefficients = inverse.matrix @ products
    left = squares - (coefficients * products).sum(axis=0)
    left = np.where(left > 1e-12 * squares, left, 0.0)  # below is rounding
    variance = left / freedom if freedom > 0 else np.full(len(left), np.nan)
    errors = np.sqrt(np.diag(inverse.matrix).clip(0)[:, None] * variance)
    coefficients[~inverse.determined], errors[~inverse.determined] = np.nan, np.nan
    return Effects(coefficients, errors, freedom)
