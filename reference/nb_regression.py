r"""The negative binomial model of one gene on any design.

.. math::  \log \mu_i = o_i + x_i^T \beta, \qquad \operatorname{var} y_i = \mu_i + \alpha \mu_i^2

with offsets o, such as log size factors, and a design of p columns. Two columns that name two arms
are the model of :mod:`reference.nb_coefficients`, which needs no more than sums over each arm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from reference.apeglm import INTERCEPT_SPREAD, lower_mode, prior_slopes
from reference.dispersion import SMALLEST, SMALLEST_START, minimize_on_interval
from reference.nb_coefficients import RIDGE
from reference.nb_likelihood import dispersion_slopes, log_likelihood

Vector = NDArray[np.float64]

LARGEST_STEP = 2.0
LARGEST_ETA = 30.0
PSEUDOCOUNT = 0.1
INNER_ITERATIONS, INNER_TOLERANCE = 100, 1e-9


class Regression(NamedTuple):
    """Fitted coefficients (p,), natural log, with the dispersion they were fitted at."""

    coefficients: Vector
    dispersion: float
    iterations: int
    converged: bool


def means(design: ArrayLike, offset: ArrayLike, coefficients: Vector, min_mu: float = 0) -> Vector:
    """Return ``max(exp(offset + design @ coefficients), min_mu)`` (n_cells,)."""
    eta = np.asarray(offset) + np.asarray(design) @ coefficients
    return np.maximum(np.exp(np.clip(eta, -LARGEST_ETA, LARGEST_ETA)), min_mu)


def least_squares(counts: Vector, design: Vector, offset: Vector) -> Vector:
    """Return the ordinary least squares fit (p,) of ``log(y / exp(offset) + 0.1)``."""
    response = np.log(counts * np.exp(-offset) + PSEUDOCOUNT)
    return np.asarray(np.linalg.lstsq(design, response, rcond=None)[0], dtype=np.float64)


def regress(
    counts: ArrayLike,
    design: ArrayLike,
    offset: ArrayLike,
    dispersion: float | Callable[[Vector], float],
    start: ArrayLike,
    *,
    min_mu: float = 0.0,
    ridge: float = RIDGE,
    max_iterations: int = 50,
    tolerance: float = 1e-6,
) -> Regression:
    r"""Fit by Fisher scoring, with means held at ``min_mu`` or above.

    .. math::

        w_i = \frac{\mu_i}{1 + \alpha \mu_i}, \quad
        z_i = \log \mu_i - o_i + \frac{y_i - \mu_i}{\mu_i}, \quad
        \beta \leftarrow (X^T W X + \lambda I)^{-1} X^T W z

    Without a clamp the fixed point is the maximum of the likelihood less
    :math:`\lambda |\beta|^2 / 2`. Steps that move a linear predictor by more than 2 are shortened.

    Parameters
    ----------
    counts : (n_cells,) int
    design : (n_cells, p)
    offset : (n_cells,)
    dispersion : alpha, or a function of the means that estimates it before every step
    start : (p,), first coefficients
    min_mu : smallest fitted mean
    ridge : lambda
    max_iterations, tolerance : stop after a step whose largest change is no more than the tolerance

    Returns
    -------
    Regression
    """
    y, x, o = (np.asarray(a, dtype=np.float64) for a in (counts, design, offset))
    beta, alpha = np.array(start, dtype=np.float64), math.nan
    for iteration in range(1, max_iterations + 1):
        mu = means(x, o, beta, min_mu)
        alpha = dispersion(mu) if callable(dispersion) else dispersion
        w = mu / (1 + alpha * mu)
        z = np.log(mu) - o + (y - mu) / mu
        gram = (x.T * w) @ x + ridge * np.eye(x.shape[1])
        step = np.linalg.solve(gram, (x.T * w) @ z) - beta
        step *= min(1.0, LARGEST_STEP / max(float(np.abs(x @ step).max()), 1e-300))
        beta = beta + step
        if np.abs(step).max() <= tolerance:
            return Regression(beta, alpha, iteration, bool(np.isfinite(beta).all()))
    return Regression(beta, alpha, max_iterations, False)


def standard_errors(design: ArrayLike, mu: Vector, alpha: float, ridge: float = RIDGE) -> Vector:
    r"""Return the roots of the diagonal of :math:`(X^T W X + \lambda I)^{-1}` (p,)."""
    return np.sqrt(np.diag(_inverse(np.asarray(design, dtype=np.float64), mu, alpha, ridge)))


def deviance(counts: ArrayLike, mu: Vector, alpha: float) -> float:
    r"""Return twice the log-likelihood ratio of the saturated model to this one.

    .. math::

        2 \sum_i y_i \log\frac{y_i}{\mu_i}
        - (y_i + r) \log\frac{1 + \alpha y_i}{1 + \alpha \mu_i}

    with its limit at :math:`\alpha = 0`.
    """
    y = np.asarray(counts, dtype=np.float64)
    if alpha == 0:
        return float(2 * np.sum(xlogy(y, y / mu) - (y - mu)))
    spread = (y + 1 / alpha) * (np.log1p(alpha * y) - np.log1p(alpha * mu))
    return float(2 * np.sum(xlogy(y, y / mu) - spread))


def cooks_distances(
    counts: ArrayLike, design: ArrayLike, mu: Vector, alpha: float, ridge: float = RIDGE
) -> Vector:
    r"""Return Cook's distance of every cell (n_cells,).

    .. math::

        D_i = \frac{(y_i - \mu_i)^2}{p (\mu_i + \alpha \mu_i^2)} \frac{h_i}{(1 - h_i)^2},
        \qquad h_i = w_i x_i^T (X^T W X + \lambda I)^{-1} x_i
    """
    y, x = np.asarray(counts, dtype=np.float64), np.asarray(design, dtype=np.float64)
    w = mu / (1 + alpha * mu)
    leverage = w * np.sum((x @ _inverse(x, mu, alpha, ridge)) * x, axis=1)
    squares = (y - mu) ** 2 / (mu + alpha * mu**2)
    return squares / x.shape[1] * leverage / (1 - leverage) ** 2


def moments_dispersion(
    counts: ArrayLike, mu: Vector, n_coefficients: int, low: float, high: float
) -> float:
    r"""Return :math:`\sum ((y - \mu)^2 - \mu) / \mu^2 / (n - p)`, kept within its bounds.

    Parameters
    ----------
    counts, mu : (n_cells,)
    n_coefficients : p
    low, high : bounds
    """
    y = np.asarray(counts, dtype=np.float64)
    excess = np.sum(((y - mu) ** 2 - mu) / mu**2)
    return float(np.clip(excess / max(y.size - n_coefficients, 1), low, high))


def adjusted_slopes(
    log_alpha: float, counts: Vector, mu: Vector, design: Vector
) -> tuple[float, float]:
    r"""Return both derivatives in :math:`a = \log \alpha` of the Cox-Reid adjusted loss.

    .. math::  -\ell(\mu, e^a) + \tfrac12 \log\det X^T W X

    With :math:`v = \alpha\mu / (1 + \alpha\mu)`, W has the derivatives :math:`-W v` and
    :math:`W v (2 v - 1)`, and with :math:`A = X^T W X` the correction has
    :math:`\tfrac12 \operatorname{tr} A^{-1} A'` and
    :math:`\tfrac12 (\operatorname{tr} A^{-1} A'' - \operatorname{tr} A^{-1} A' A^{-1} A')`.

    Parameters
    ----------
    log_alpha : a
    counts, mu : (n_cells,)
    design : (n_cells, p)
    """
    alpha = math.exp(log_alpha)
    first, second = dispersion_slopes(counts, mu, alpha)
    v = alpha * mu / (1 + alpha * mu)
    w = mu / (1 + alpha * mu)
    inverse = _inverse(design, mu, alpha, 0.0)
    one = inverse @ ((design.T * (-w * v)) @ design)
    two = inverse @ ((design.T * (w * v * (2 * v - 1))) @ design)
    slope, curvature = np.trace(one) / 2, (np.trace(two) - np.trace(one @ one)) / 2
    return float(slope) - first, float(curvature) - second


def cox_reid_dispersion(
    counts: ArrayLike,
    mu: Vector,
    design: ArrayLike,
    low: float = SMALLEST,
    high: float = 1e3,
    start: float = 0.1,
) -> float:
    """Return the dispersion that minimizes the adjusted loss at held means.

    Parameters
    ----------
    counts, mu : (n_cells,)
    design : (n_cells, p), of full rank
    low, high : bounds
    start : first dispersion, raised to 1e-4 where the loss is flat

    Notes
    -----
    Source: D. R. Cox and N. Reid, J R Stat Soc B 49 (1987) 1-39.
    """
    y, x = np.asarray(counts, dtype=np.float64), np.asarray(design, dtype=np.float64)
    first = min(max(start, SMALLEST_START, low), high)
    found = minimize_on_interval(
        lambda a: adjusted_slopes(a, y, mu, x), math.log(first), math.log(low), math.log(high)
    )
    return math.exp(found)


def group_dispersion(
    counts: ArrayLike,
    mu: Vector,
    group: NDArray[np.int_],
    covariates: ArrayLike,
    low: float = SMALLEST,
    high: float = 1e3,
    start: float = 0.1,
) -> float:
    r"""Return :func:`cox_reid_dispersion` for a design of many groups and a few covariates.

    With D the diagonal matrix of the sums of w over groups, B those of :math:`w z^T` and
    :math:`C = Z^T W Z`,

    .. math::  \log\det X^T W X = \sum_k \log D_k + \log\det (C - B^T D^{-1} B)

    Parameters
    ----------
    counts, mu : (n_cells,)
    group : (n_cells,), number of each cell's group; groups without a cell are allowed
    covariates : (n_cells, q), Z; q may be 0
    low, high, start : as in :func:`cox_reid_dispersion`

    Notes
    -----
    The second derivative of the covariates' term is left out of Newton's steps; where they end does
    not depend on it.
    """
    y, z = np.asarray(counts, dtype=np.float64), np.asarray(covariates, dtype=np.float64)
    products = [(z[:, i] * z[:, j]) for i in range(z.shape[1]) for j in range(z.shape[1])]

    def sums(w: Vector) -> tuple[Vector, Vector, Vector]:
        d = np.asarray(np.bincount(group, w), dtype=np.float64)
        b = np.array([np.bincount(group, w * column) for column in z.T]).reshape(-1, d.size).T
        c = np.array([np.sum(w * product) for product in products])
        return d, b, c.reshape(z.shape[1], z.shape[1])

    def slopes(a: float) -> tuple[float, float]:
        alpha = math.exp(a)
        first, second = dispersion_slopes(y, mu, alpha)
        v = alpha * mu / (1 + alpha * mu)
        w = mu / (1 + alpha * mu)
        (d, b, c), (d1, b1, c1), d2 = sums(w), sums(-w * v), np.bincount(group, w * v * (2 * v - 1))
        there = d > 0
        d, d1, d2, b, b1 = d[there], d1[there], d2[there], b[there], b1[there]
        slope, curvature = float(np.sum(d1 / d)), float(np.sum(d2 / d - (d1 / d) ** 2))
        if z.shape[1]:
            rest = c - b.T @ (b / d[:, None])
            moved = c1 - b1.T @ (b / d[:, None]) - b.T @ (b1 / d[:, None])
            moved += b.T @ (b * (d1 / d**2)[:, None])
            slope += float(np.trace(np.linalg.solve(rest, moved)))
        return slope / 2 - first, curvature / 2 - second

    first = min(max(start, SMALLEST_START, low), high)
    return math.exp(minimize_on_interval(slopes, math.log(first), math.log(low), math.log(high)))


def shrink_coefficient(
    counts: ArrayLike,
    design: ArrayLike,
    offset: ArrayLike,
    alpha: float,
    start: ArrayLike,
    scale: float,
    index: int = 1,
    *,
    spread: float = INTERCEPT_SPREAD,
    min_mu: float = 0.0,
    max_iterations: int = 100,
    tolerance: float = 1e-8,
) -> tuple[Vector, float, bool]:
    """Return the mode under a Cauchy prior of one coefficient and normal priors of the others.

    Two arms are :func:`reference.apeglm.shrink_counts`; the search is the same one, with all other
    coefficients following.

    Parameters
    ----------
    counts, design, offset : as in :func:`regress`
    alpha : dispersion
    start : (p,), fitted coefficients
    scale : of the Cauchy prior
    index : which coefficient is shrunk
    spread : standard deviation of the normal priors
    min_mu : means are held at or above it; cells that are held have no slope
    max_iterations, tolerance : stop after a step no longer than the tolerance

    Returns
    -------
    tuple of coefficients (p,), standard error of the shrunk one, whether the stop rule was met
    """
    y, x, o = (np.asarray(a, dtype=np.float64) for a in (counts, design, offset))
    others = np.arange(x.shape[1]) != index
    beta, weight = np.array(start, dtype=np.float64), 1 / spread**2

    def follow(value: float) -> tuple[float, float]:
        """Fit the other coefficients; return score and information on the shrunk one."""
        beta[index] = value
        score, hessian = _slopes(y, x, o, alpha, beta, min_mu)
        for _ in range(INNER_ITERATIONS):
            inner = hessian[np.ix_(others, others)] + weight * np.eye(int(others.sum()))
            step = np.linalg.solve(inner, score[others] - weight * beta[others])
            step *= min(1.0, LARGEST_STEP / max(float(np.abs(step).max(initial=0)), 1e-300))
            beta[others] += step
            score, hessian = _slopes(y, x, o, alpha, beta, min_mu)
            if np.abs(step).max(initial=0) <= INNER_TOLERANCE:
                break
        inner = hessian[np.ix_(others, others)] + weight * np.eye(int(others.sum()))
        cross = hessian[others, index]
        return float(score[index]), float(
            hessian[index, index] - cross @ np.linalg.solve(inner, cross)
        )

    def slopes(value: float) -> tuple[float, float]:
        score, information = follow(value)
        slope, curvature = prior_slopes(value, scale)
        return slope - score, information + curvature

    def loss(value: float) -> float:
        follow(value)
        penalty = weight * float(np.sum(beta[others] ** 2)) / 2 + math.log1p((value / scale) ** 2)
        return penalty - log_likelihood(y, means(x, o, beta, min_mu), alpha)

    value, _, converged = lower_mode(slopes, loss, float(beta[index]), max_iterations, tolerance)
    curvature = slopes(value)[1]
    return beta, 1 / math.sqrt(curvature) if curvature > 0 else math.nan, converged


def _slopes(
    y: Vector, x: Vector, o: Vector, alpha: float, beta: Vector, min_mu: float
) -> tuple[Vector, Vector]:
    """Return score (p,) and observed information (p, p) of the cells whose mean is not held."""
    mu = means(x, o, beta)
    free = mu >= min_mu
    y, x, mu = y[free], x[free], mu[free]
    weight = mu * (1 + alpha * y) / (1 + alpha * mu) ** 2
    return x.T @ ((y - mu) / (1 + alpha * mu)), (x.T * weight) @ x


def _inverse(design: Vector, mu: Vector, alpha: float, ridge: float) -> Vector:
    gram = (design.T * (mu / (1 + alpha * mu))) @ design
    return np.asarray(np.linalg.inv(gram + ridge * np.eye(design.shape[1])), dtype=np.float64)
