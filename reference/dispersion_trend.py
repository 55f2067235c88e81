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
LOCAL_SHARE = 0.4
LOCAL_POINTS = 100
POLISHING_STEPS = 3


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
    genewise: ArrayLike,
    base_mean: ArrayLike,
    *,
    literal: bool = False,
    max_rounds: int = MAX_ROUNDS,
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
    literal : stay where SciPy's L-BFGS-B stops, as PyDESeq2 does, about 1e-5 from the minimum;
        otherwise Newton steps go on to the minimum
    max_rounds : rounds after which the curve counts as not fitted

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
    for _ in range(max_rounds):
        if np.sum(np.log(np.abs(new / old)) ** 2) < 1e-6:
            return DispersionTrend(float(new[0]), float(new[1]), True)
        if not target.size:
            break
        old = new
        new, success = _minimize_deviance(target, inverse)
        if not success or (new <= SMALLEST_COEFFICIENT).any():
            break
        if not literal:
            new = _polished(new, target, inverse)
        ratio = target / (new[0] + new[1] * inverse)
        near = (ratio >= FAR_BELOW) & (ratio < FAR_ABOVE)
        target, inverse = target[near], inverse[near]
    return DispersionTrend(_trimmed_mean(alpha[alpha > SMALLEST_IN_MEAN]), 0.0, False)


def local_trend(genewise: ArrayLike, base_mean: ArrayLike, at: ArrayLike) -> Vector:
    """Return a trend by local lines of log dispersion over log mean.

    A line is fitted about each of 100 means, evenly spaced in the log, to the nearest 40 % of the
    genes with tricube weights; between those means the log trend is interpolated.

    Parameters
    ----------
    genewise : (n_genes,), NaN for genes that take no part
    base_mean : (n_genes,)
    at : (n,), means > 0 to give the trend at; beyond the means of the genes it is constant

    Returns
    -------
    (n,); the median where fewer than three genes take part or all have one mean

    Notes
    -----
    Source: W. S. Cleveland, JASA 74 (1979) 829-836, without the robust rounds.
    """
    alpha, mean = np.asarray(genewise, dtype=float), np.asarray(base_mean, dtype=float)
    used = np.isfinite(alpha) & (alpha > SMALLEST_IN_MEAN) & (mean > 0)
    x, y = np.log(mean[used]), np.log(alpha[used])
    if x.size < 3 or x.min() == x.max():
        return np.full(np.shape(at), median_trend(alpha))
    points = np.linspace(x.min(), x.max(), LOCAL_POINTS)
    n_near = max(3, math.ceil(LOCAL_SHARE * x.size))
    levels = np.empty(LOCAL_POINTS)
    for i, point in enumerate(points):
        distance = np.abs(x - point)
        reach = max(float(np.partition(distance, n_near - 1)[n_near - 1]), 1e-12)
        weight = np.clip(1 - (distance / reach) ** 3, 0, None) ** 3 + 1e-12 * (distance <= reach)
        center = np.average(x, weights=weight)
        spread = np.average((x - center) ** 2, weights=weight)
        level = np.average(y, weights=weight)
        tilt = np.average((x - center) * (y - level), weights=weight)
        levels[i] = level + (tilt / spread * (point - center) if spread > 0 else 0)
    return np.exp(np.interp(np.log(np.asarray(at, dtype=float)), points, levels))


def median_trend(genewise: ArrayLike) -> float:
    """Return the median of the dispersions above 1e-7; NaN where there is none."""
    alpha = np.asarray(genewise, dtype=float)
    alpha = alpha[np.isfinite(alpha) & (alpha > SMALLEST_IN_MEAN)]
    return float(np.median(alpha)) if alpha.size else math.nan


def _polished(coefficients: Vector, target: Vector, inverse: Vector) -> Vector:
    """Take Newton steps from where L-BFGS-B stopped, while they stay inside and downhill."""
    best = coefficients
    for _ in range(POLISHING_STEPS):
        trend = best[0] + best[1] * inverse
        first = (1 - target / trend) / trend
        second = (2 * target / trend - 1) / trend**2
        slope = np.array([first.sum(), (first * inverse).sum()])
        cross = (second * inverse).sum()
        curvature = np.array([[second.sum(), cross], [cross, (second * inverse**2).sum()]])
        if not (np.linalg.eigvalsh(curvature) > 0).all():
            break
        step = np.linalg.solve(curvature, slope)
        if (np.abs(step) > best / 2).any():
            break
        best = best - step
    return best


def _minimize_deviance(target: Vector, inverse: Vector) -> tuple[Vector, bool]:
    def loss(coefficients: Vector) -> tuple[float, Vector]:
        trend = coefficients[0] + coefficients[1] * inverse
        ratio = target / trend
        slope = (1 - ratio) / trend
        gradient = np.array([np.mean(slope), np.mean(slope * inverse)])
        return float(np.mean(ratio + np.log(trend))), gradient

    found = minimize(
        loss,
        np.ones(2),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1e-12, math.inf)] * 2,
    )
    return found.x, bool(found.success)


def _trimmed_mean(values: Vector) -> float:
    """Return the mean without the 0.1 % at each end; NaN for no values."""
    n_cut = int(TRIMMED_SHARE * values.size)
    middle = np.sort(values)[n_cut : values.size - n_cut]
    return float(middle.mean()) if middle.size else math.nan
