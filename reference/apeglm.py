r"""Shrinkage of log fold changes toward 0 under a Cauchy prior (apeGLM).

The prior of the fold change of one gene in one comparison (natural log) has scale :math:`\sigma`,
that of the intercept is normal with a spread of 15. The shrunk fold change is the mode of

.. math::

    L(\beta) = \frac{\beta_0^2}{2 \cdot 15^2} + \log\Big(1 + \frac{\beta_1^2}{\sigma^2}\Big)
    - \ell_0(\beta_0) - \ell_1(\beta_0 + \beta_1)

with the likelihoods :math:`\ell_k` of the two arms. Where only the fitted fold change b and its
standard error s are left of the counts, the two likelihoods become the normal one,
:math:`(\beta_1 - b)^2 / 2 s^2`.

The profile of :math:`\ell` over the intercept is concave in :math:`\beta_1`. The mode therefore
lies between 0 and the point where the prior of the fold change is taken away: shrinkage never
makes an effect larger and never turns its sign. With a narrow prior there can be a mode near 0 and
one near the fitted effect; the lower L decides.

Sources: Zhu, Ibrahim and Love, Bioinformatics 35 (2019) 2084-2092; the prior scale, Love, Huber and
Anders, Genome Biology 15 (2014) 550, and Efron and Morris, JASA 70 (1975) 311-319.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from reference.nb_coefficients import Arm, clamped_means, poisson_log_mean
from reference.nb_likelihood import log_likelihood, mean_slopes

Vector = NDArray[np.float64]

INTERCEPT_SPREAD = 15.0
SMALLEST_VARIANCE, LARGEST_VARIANCE = 1e-6, 400.0
LARGEST_SCALE = 1.0
LARGEST_STEP = 2.0
INNER_ITERATIONS, INNER_TOLERANCE = 100, 1e-9


class Shrunk(NamedTuple):
    """The mode of one gene in one comparison, natural log.

    Attributes
    ----------
    intercept, log_fold_change : the mode
    standard_error : from the curvature of L there
    iterations : steps of the fold change
    converged : whether the last step was short enough
    """

    intercept: float
    log_fold_change: float
    standard_error: float
    iterations: int
    converged: bool


def prior_variance(pairs: Callable[[], Iterable[tuple[ArrayLike, ArrayLike]]]) -> float:
    r"""Return the variance of true fold changes among fitted ones.

    The root in a of

    .. math::

        \frac{\sum_g c_g (b_g^2 - s_g^2)}{\sum_g c_g} = a, \qquad
        c_g = \frac{1}{2 (a + s_g^2)^2}

    in [1e-6, 400]; the nearer end where there is no root in it.

    Parameters
    ----------
    pairs : called for every evaluation; yields fitted fold changes and their standard errors,
        arrays (n_genes,) of one comparison after the other, NaN where nothing was fitted. Sums
        run over the genes of a comparison first, then over comparisons.

    Notes
    -----
    Source: the estimator of PyDESeq2's ``lfc_shrink``.
    """

    def excess(a: float) -> float:
        upper = lower = 0.0
        for fitted, error in pairs():
            b, s = np.asarray(fitted, dtype=np.float64), np.asarray(error, dtype=np.float64)
            used = np.isfinite(b) & np.isfinite(s)
            squares, variance = b[used] ** 2, s[used] ** 2
            weight = 1 / (2 * (a + variance) ** 2)
            upper += float(np.sum((squares - variance) * weight))
            lower += float(np.sum(weight))
        return upper / lower - a if lower > 0 else -1.0

    if excess(SMALLEST_VARIANCE) < 0:
        return SMALLEST_VARIANCE
    if excess(LARGEST_VARIANCE) > 0:
        return LARGEST_VARIANCE
    return float(brentq(excess, SMALLEST_VARIANCE, LARGEST_VARIANCE))


def prior_scale(variance: float) -> float:
    """Return the scale of the Cauchy prior, the root of the variance but at most 1."""
    return min(math.sqrt(variance), LARGEST_SCALE)


def shrink_statistics(
    log_fold_change: float,
    standard_error: float,
    scale: float,
    max_iterations: int = 100,
    tolerance: float = 1e-8,
) -> Shrunk:
    r"""Return the mode under a normal likelihood about the fitted fold change.

    It is a root between 0 and b of the cubic

    .. math::  (\beta - b)(\sigma^2 + \beta^2) + 2 s^2 \beta = 0

    Parameters
    ----------
    log_fold_change, standard_error : b and s, natural log
    scale : sigma
    max_iterations, tolerance : stop after a step no longer than the tolerance

    Returns
    -------
    Shrunk; the intercept is NaN.
    """
    b, precision = log_fold_change, 1 / standard_error**2

    def slopes(beta: float) -> tuple[float, float]:
        slope, curvature = prior_slopes(beta, scale)
        return precision * (beta - b) + slope, precision + curvature

    def loss(beta: float) -> float:
        return precision * (beta - b) ** 2 / 2 + math.log1p((beta / scale) ** 2)

    beta, iterations, converged = lower_mode(slopes, loss, b, max_iterations, tolerance)
    error = _error(slopes(beta)[1])
    return Shrunk(math.nan, beta, error, iterations, converged)


def shrink_counts(
    control: Arm,
    perturbed: Arm,
    alpha: float,
    scale: float,
    *,
    min_mu: float = 0.0,
    intercept_spread: float = INTERCEPT_SPREAD,
    max_iterations: int = 100,
    tolerance: float = 1e-8,
    literal: bool = False,
) -> Shrunk:
    r"""Return the mode under the negative binomial likelihood of both arms.

    The search is one in :math:`\beta_1`; the intercept follows as the best one for each value.

    Parameters
    ----------
    control, perturbed : the two arms, at least one count above 0
    alpha : dispersion
    scale : sigma
    min_mu : means are held at or above it; cells that are held have no slope
    intercept_spread : standard deviation of the normal prior of the intercept
    max_iterations, tolerance : stop after a step no longer than the tolerance
    literal : the answer of PyDESeq2 0.5. Its search begins near 0 and ends at the mode there, also
        where another one is lower. Its standard error adds the two curvatures of the prior to the
        rows of the information matrix where they belong on its diagonal.

    Returns
    -------
    Shrunk
    """
    weight = 1 / intercept_spread**2
    eta0, eta1 = poisson_log_mean(control), poisson_log_mean(perturbed)

    def at(beta: float) -> tuple[float, float, float, float]:
        """Return the best intercept, then slope and information of what is left."""
        nonlocal eta0
        eta0 = _best_intercept(control, perturbed, alpha, beta, weight, min_mu, eta0)
        _, j0 = _free_slopes(control, eta0, alpha, min_mu)
        s1, j1 = _free_slopes(perturbed, eta0 + beta, alpha, min_mu)
        return eta0, s1, j0, j1

    def slopes(beta: float) -> tuple[float, float]:
        _, s1, j0, j1 = at(beta)
        slope, curvature = prior_slopes(beta, scale)
        return slope - s1, j1 * (j0 + weight) / (j0 + j1 + weight) + curvature

    def loss(beta: float) -> float:
        return posterior_loss(control, perturbed, alpha, scale, at(beta)[0], beta, weight, min_mu)

    if literal:
        beta, iterations, converged = nearest_mode(slopes, 0.0, max_iterations, tolerance)
    else:
        fitted = eta1 - eta0
        beta, iterations, converged = lower_mode(slopes, loss, fitted, max_iterations, tolerance)
    intercept, _, j0, j1 = at(beta)
    _, curvature = prior_slopes(beta, scale)
    if literal:
        error = literal_error(j0, j1, curvature, weight)
    else:
        error = _error(j1 * (j0 + weight) / (j0 + j1 + weight) + curvature)
    return Shrunk(intercept, beta, error, iterations, converged)


def posterior_loss(
    control: Arm,
    perturbed: Arm,
    alpha: float,
    scale: float,
    intercept: float,
    log_fold_change: float,
    weight: float = 1 / INTERCEPT_SPREAD**2,
    min_mu: float = 0.0,
) -> float:
    """Return L; ``weight`` is one over the variance of the intercept's prior."""
    total = intercept**2 * weight / 2 + math.log1p((log_fold_change / scale) ** 2)
    for arm, eta in ((control, intercept), (perturbed, intercept + log_fold_change)):
        total -= log_likelihood(arm.counts, clamped_means(arm, eta, min_mu), alpha)
    return total


def literal_error(
    j0: float, j1: float, curvature: float, weight: float = 1 / INTERCEPT_SPREAD**2
) -> float:
    """Return PyDESeq2's standard error, given the information of both arms.

    It is of [[j + w, j1 + c], [j1 + w, j1 + c]] instead of [[j + w, j1], [j1, j1 + c]], with
    j = j0 + j1 and the curvature c of the Cauchy prior.
    """
    det = (j0 + j1 + weight) * (j1 + curvature) - (j1 + curvature) * (j1 + weight)
    return math.sqrt(abs((j0 + j1 + weight) / det)) if det != 0 else math.nan


def prior_slopes(beta: float, scale: float) -> tuple[float, float]:
    """Return both derivatives of log(1 + (beta / scale)^2), the loss of the Cauchy prior."""
    square = scale**2 + beta**2
    return 2 * beta / square, 2 * (scale**2 - beta**2) / square**2


def _error(curvature: float) -> float:
    return 1 / math.sqrt(curvature) if curvature > 0 else math.nan


def _free_slopes(arm: Arm, eta: float, alpha: float, min_mu: float) -> tuple[float, float]:
    mu = arm.size_factors * math.exp(eta)
    free = mu >= min_mu
    return mean_slopes(arm.counts[free], mu[free], alpha)


def _best_intercept(
    control: Arm,
    perturbed: Arm,
    alpha: float,
    beta: float,
    weight: float,
    min_mu: float,
    start: float,
) -> float:
    def slopes(eta: float) -> tuple[float, float]:
        s0, j0 = _free_slopes(control, eta, alpha, min_mu)
        s1, j1 = _free_slopes(perturbed, eta + beta, alpha, min_mu)
        return weight * eta - s0 - s1, j0 + j1 + weight

    return nearest_mode(slopes, start, INNER_ITERATIONS, INNER_TOLERANCE)[0]


def lower_mode(
    slopes: Callable[[float], tuple[float, float]],
    loss: Callable[[float], float],
    fitted: float,
    max_iterations: int,
    tolerance: float,
) -> tuple[float, int, bool]:
    """Return the mode of lower loss among those found from 0 and from a fitted value.

    Parameters
    ----------
    slopes : fold change -> first and second derivative of the loss
    loss : fold change -> loss
    fitted : fold change of highest likelihood, about
    max_iterations, tolerance : stop after a step no longer than the tolerance

    Returns
    -------
    tuple (fold change, steps, whether the stop rule was met)
    """
    near = nearest_mode(slopes, 0.0, max_iterations, tolerance)
    far = nearest_mode(slopes, fitted, max_iterations, tolerance)
    apart = abs(near[0] - far[0]) > 1e-3 * max(abs(near[0]), abs(far[0]))
    # Where both searches end at one mode, the one from the fitted value is reported.
    return near if apart and loss(near[0]) <= loss(far[0]) else far


def nearest_mode(
    slopes: Callable[[float], tuple[float, float]],
    start: float,
    max_iterations: int,
    tolerance: float,
) -> tuple[float, int, bool]:
    """Return the minimum that Newton steps of at most 2 reach; as :func:`lower_mode`.

    Once the minimum is enclosed, a step that would leave the enclosing interval, or that is longer
    than half of the last one, is replaced by one to the middle of the interval.
    """
    x, left, right, before = start, -math.inf, math.inf, math.inf
    for iteration in range(1, max_iterations + 1):
        slope, curvature = slopes(x)
        if slope > 0:
            right = x
        else:
            left = x
        step = -slope / curvature if curvature > 0 else -math.copysign(LARGEST_STEP, slope)
        step = min(max(step, -LARGEST_STEP), LARGEST_STEP)
        slow = right - left < math.inf and abs(step) > before / 2
        if abs(step) > tolerance and (slow or not left < x + step < right):
            step = (left + right) / 2 - x
        x, before = x + step, abs(step)
        if abs(step) <= tolerance:
            return x, iteration, True
    return x, max_iterations, False
