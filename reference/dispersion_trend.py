r"""The trend of dispersion over mean expression.

.. math::  \alpha_{\mathrm{trend}}(\bar q) = a_0 + a_1 / \bar q

fitted to the genewise dispersions as means of gamma variables, in rounds that leave out genes far
from the curve. Where the curve cannot be fitted, one trimmed mean serves all genes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

Vector = NDArray[np.float64]

FAR_BELOW, FAR_ABOVE = 1e-4, 15.0
SMALLEST_COEFFICIENT = 1e-10
TRIMMED_SHARE = 0.001
SMALLEST_IN_MEAN = 1e-7
MAX_ROUNDS = 100
# SciPy's defaults, which PyDESeq2 stops at, and a stop that leaves only rounding.
LITERAL_STOP = {"ftol": 2.2204460492503131e-09, "gtol": 1e-5}
EXACT_STOP = {"ftol": 1e-15, "gtol": 1e-11}


class DispersionTrend(NamedTuple):
    """The fitted curve; ``slope`` is 0 where one mean serves all genes.

    Attributes
    ----------
    asymptote : a0, dispersion at high means
    slope : a1
    parametric : False where the curve could not be fitted
    """

    asymptote: float
    slope: float
    parametric: bool

    def at(self, base_mean: ArrayLike) -> Vector:
        """Return the dispersions expected at means (n_genes,) > 0."""
        mean = np.asarray(base_mean, dtype=np.float64)
        if not self.parametric:
            return np.full(mean.shape, self.asymptote)
        return self.asymptote + self.slope / mean


def fit_trend(
    genewise: ArrayLike, base_mean: ArrayLike, *, literal: bool = False
) -> DispersionTrend:
    r"""Fit the curve by minimizing the gamma deviance.

    .. math::

        \min_{a_0, a_1 \ge 10^{-12}} \frac1G \sum_g \Big(\frac{\hat\alpha_g}{t_g} + \log t_g\Big),
        \qquad t_g = a_0 + a_1 / \bar q_g

    Each round starts at (1, 1); then genes with :math:`\hat\alpha_g / t_g` below 1e-4 or from 15 on
    are left out, until the squared changes of the log coefficients add up to less than 1e-6.

    Parameters
    ----------
    genewise : (n_genes,), NaN for genes without counts
    base_mean : (n_genes,), mean of normalized counts over all cells used
    literal : stop the minimizer where PyDESeq2 does, about 1e-5 from the minimum

    Returns
    -------
    DispersionTrend; not parametric when a coefficient falls to 1e-10 or no gene is left.

    Notes
    -----
    Source: Love, Huber and Anders, Genome Biology 15 (2014) 550, equation 5.
    """
    alpha, mean = np.asarray(genewise, dtype=float), np.asarray(base_mean, dtype=float)
    used = np.isfinite(alpha) & (mean > 0)
    target, inverse = alpha[used], 1 / mean[used]
    old, new = np.array([0.1, 0.1]), np.array([1.0, 1.0])
    for _ in range(MAX_ROUNDS):
        if np.sum(np.log(np.abs(new / old)) ** 2) < 1e-6:
            return DispersionTrend(float(new[0]), float(new[1]), True)
        if not target.size:
            break
        old = new
        new, success = _minimize_deviance(target, inverse, LITERAL_STOP if literal else EXACT_STOP)
        if not success or (new <= SMALLEST_COEFFICIENT).any():
            break
        ratio = target / (new[0] + new[1] * inverse)
        near = (ratio >= FAR_BELOW) & (ratio < FAR_ABOVE)
        target, inverse = target[near], inverse[near]
    return DispersionTrend(_trimmed_mean(alpha[alpha > SMALLEST_IN_MEAN]), 0.0, False)


def _minimize_deviance(
    target: Vector, inverse: Vector, stop: dict[str, float]
) -> tuple[Vector, bool]:
    design = np.column_stack([np.ones_like(inverse), inverse])

    def loss(coefficients: Vector) -> float:
        trend = design @ coefficients
        return float(np.mean(target / trend + np.log(trend)))

    def gradient(coefficients: Vector) -> Vector:
        trend = design @ coefficients
        return -np.mean(((target / trend - 1)[:, None] * design) / trend[:, None], axis=0)

    found = minimize(
        loss,
        np.ones(2),
        jac=gradient,
        method="L-BFGS-B",
        bounds=[(1e-12, math.inf)] * 2,
        options=stop,
    )
    return found.x, bool(found.success)


def _trimmed_mean(values: Vector) -> float:
    """Return the mean without the 0.1 % at each end; NaN for no values."""
    n_cut = int(TRIMMED_SHARE * values.size)
    middle = np.sort(values)[n_cut : values.size - n_cut]
    return float(middle.mean()) if middle.size else math.nan
