r"""Log mean of each arm of one comparison, for one gene of known dispersion.

The model of both arms is :math:`\log \mu_i = \log s_i + \beta_0 + \beta_1 d_i` with d = 1 in the
perturbed cells. It has a mean of its own for each arm, so the maximum of the likelihood falls apart
into two problems of one unknown: :math:`\eta_0 = \beta_0` and :math:`\eta_1 = \beta_0 + \beta_1`.
PyDESeq2's iteration clamps small means and carries a ridge, which couples the arms a little; it is
kept literally in :func:`iterate_clamped`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from reference.nb_likelihood import log_likelihood, mean_slopes, working_weights

Vector = NDArray[np.float64]

LARGEST_STEP = 2.0
RIDGE = 1e-6
LARGEST_COEFFICIENT = 30.0


class Arm(NamedTuple):
    """One gene in the cells of one group: counts (n_cells,) and size factors (n_cells,)."""

    counts: Vector
    size_factors: Vector

    @classmethod
    def of(cls, counts: ArrayLike, size_factors: ArrayLike) -> Arm:
        """Convert to float64."""
        return cls(np.asarray(counts, dtype=np.float64), np.asarray(size_factors, dtype=np.float64))


class LogMean(NamedTuple):
    """A fitted log mean per unit of size factor."""

    eta: float
    iterations: int
    converged: bool


class Coefficients(NamedTuple):
    """Intercept and log fold change (natural log) of one comparison."""

    intercept: float
    log_fold_change: float
    iterations: int
    converged: bool


def best_log_mean(
    arm: Arm, alpha: float, start: float, max_iterations: int = 25, tolerance: float = 1e-6
) -> LogMean:
    r"""Return the log mean of highest likelihood, by Newton's method.

    .. math::  S(\eta) = \sum_i \frac{y_i - s_i e^\eta}{1 + \alpha s_i e^\eta} = 0

    Steps are at most 2 long and stay between points where S is known to be positive and negative.

    Parameters
    ----------
    arm : at least one count above 0; without one the maximum is at minus infinity
    alpha : dispersion
    start : first eta
    max_iterations, tolerance : stop after a step no longer than the tolerance

    Returns
    -------
    LogMean; the error is of the order of the square of the last step.
    """

    def slopes(eta: float) -> tuple[float, float]:
        return mean_slopes(arm.counts, arm.size_factors * math.exp(eta), alpha)

    return _root(slopes, start, max_iterations, tolerance)


def penalized_log_mean(
    arm: Arm, alpha: float, max_iterations: int = 25, tolerance: float = 1e-6
) -> LogMean:
    r"""Return the log mean of highest likelihood times the root of the information (Firth).

    .. math::

        S(\eta) + \frac{1}{2} \frac{d}{d\eta} \log W(\eta) = 0, \qquad
        W(\eta) = \sum_i \frac{s_i e^\eta}{1 + \alpha s_i e^\eta}

    It is finite for an arm without a single count: at :math:`\alpha = 0` the fitted total is 1/2.

    Parameters
    ----------
    arm, alpha, max_iterations, tolerance : as in :func:`best_log_mean`, counts may all be 0

    Notes
    -----
    Source: D. Firth, Biometrika 80 (1993) 27-38.
    """

    def slopes(eta: float) -> tuple[float, float]:
        mu = arm.size_factors * math.exp(eta)
        score, information = mean_slopes(arm.counts, mu, alpha)
        # The derivatives of W in eta: each differentiation multiplies by 1 / (1 + alpha mu), ...
        v = 1 / (1 + alpha * mu)
        w, w1, w2 = np.sum(mu * v), np.sum(mu * v**2), np.sum(mu * v**2 * (2 * v - 1))
        return score + float(w1 / w) / 2, information - float(w2 / w - (w1 / w) ** 2) / 2

    start = math.log((arm.counts.sum() + 0.5) / arm.size_factors.sum())
    return _root(slopes, start, max_iterations, tolerance)


def poisson_log_mean(arm: Arm) -> float:
    """Return the best log mean without overdispersion, ``log(sum y / sum s)``.

    An arm without counts gets half a count, so that the result is finite.
    """
    return math.log(max(float(arm.counts.sum()), 0.5) / float(arm.size_factors.sum()))


def ordinary_least_squares(arm: Arm) -> float:
    """Return PyDESeq2's first log mean, the mean of ``log(y / s + 0.1)``."""
    return float(np.mean(np.log(arm.counts / arm.size_factors + 0.1)))


def iterate_clamped(
    control: Arm,
    perturbed: Arm,
    alpha: float,
    start: tuple[float, float],
    *,
    min_mu: float = 0.5,
    max_iterations: int = 250,
    tolerance: float = 1e-8,
    rescue: bool = True,
) -> Coefficients:
    r"""Return PyDESeq2's coefficients: Fisher scoring with means held at ``min_mu`` or above.

    .. math::

        \mu_i = \max(s_i e^{x_i \beta}, \mu_{\min}), \quad
        w_i = \frac{\mu_i}{1 + \alpha \mu_i}, \quad
        z_i = \log\frac{\mu_i}{s_i} + \frac{y_i - \mu_i}{\mu_i}, \quad
        \beta \leftarrow (X^T W X + \lambda I)^{-1} X^T W z

    until :math:`|D - D_{\mathrm{old}}| \le \mathrm{tol}\,(|D| + 0.1)` with D twice the
    log-likelihood at the clamped means.

    The fixed point is not a maximum of any likelihood. Where all cells of an arm are clamped it is
    :math:`\eta = \log \mu_{\min} - \overline{\log s} + \bar y / \mu_{\min} - 1`, linear in the
    counts: a fold change of a rare gene comes out many times too small.

    Parameters
    ----------
    control, perturbed : the two arms
    alpha : dispersion
    start : first (eta of the control, eta of the perturbed arm)
    min_mu : smallest fitted mean, counts; 0 does not clamp
    max_iterations, tolerance : see above
    rescue : when the iteration leaves +-30 or its number of steps, minimize the clamped objective
        by L-BFGS-B as PyDESeq2 does; False returns where it stood, not converged

    Returns
    -------
    Coefficients
    """
    b0, b1 = start[0], start[1] - start[0]
    deviance = 1000.0
    for iteration in range(1, max_iterations + 1):
        w0, wz0 = _working_sums(control, b0, alpha, min_mu)
        w1, wz1 = _working_sums(perturbed, b0 + b1, alpha, min_mu)
        # The 2 x 2 system [[w0 + w1 + l, w1], [w1, w1 + l]] by its determinant.
        det = w0 * w1 + RIDGE * (w0 + 2 * w1 + RIDGE)
        new0 = ((w1 + RIDGE) * (wz0 + wz1) - w1 * wz1) / det
        new1 = ((w0 + w1 + RIDGE) * wz1 - w1 * (wz0 + wz1)) / det
        runaway = not max(abs(new0), abs(new1)) <= LARGEST_COEFFICIENT
        if rescue and (runaway or iteration == max_iterations):
            return _rescued(control, perturbed, alpha, start, min_mu, iteration)
        if runaway:
            return Coefficients(b0, b1, iteration, False)
        b0, b1 = new0, new1
        before = deviance
        deviance = 2 * log_likelihood(
            control.counts, clamped_means(control, b0, min_mu), alpha
        ) + 2 * log_likelihood(perturbed.counts, clamped_means(perturbed, b0 + b1, min_mu), alpha)
        if abs(deviance - before) <= tolerance * (abs(deviance) + 0.1):
            return Coefficients(b0, b1, iteration, True)
    return Coefficients(b0, b1, max_iterations, False)


def clamped_means(arm: Arm, eta: float, min_mu: float) -> Vector:
    """Return ``max(s exp(eta), min_mu)`` (n_cells,)."""
    return np.maximum(arm.size_factors * math.exp(eta), min_mu)


def _working_sums(arm: Arm, eta: float, alpha: float, min_mu: float) -> tuple[float, float]:
    mu = clamped_means(arm, eta, min_mu)
    w = working_weights(mu, alpha)
    # w z = w log(mu / s) + (y - mu) / (1 + alpha mu); log(mu / s) is eta where nothing is clamped.
    wz = w * np.log(mu / arm.size_factors) + (arm.counts - mu) / (1 + alpha * mu)
    return float(w.sum()), float(wz.sum())


def _rescued(
    control: Arm,
    perturbed: Arm,
    alpha: float,
    start: tuple[float, float],
    min_mu: float,
    iterations: int,
) -> Coefficients:
    def objective(beta: Vector) -> float:
        total = 0.5 * RIDGE * float(beta @ beta)
        for arm, eta in ((control, beta[0]), (perturbed, beta[0] + beta[1])):
            total -= log_likelihood(arm.counts, clamped_means(arm, eta, min_mu), alpha)
        return total

    def gradient(beta: Vector) -> Vector:
        # PyDESeq2's gradient: that of the likelihood, at clamped means.
        s0, _ = mean_slopes(control.counts, clamped_means(control, beta[0], min_mu), alpha)
        mu1 = clamped_means(perturbed, beta[0] + beta[1], min_mu)
        s1, _ = mean_slopes(perturbed.counts, mu1, alpha)
        return np.array([-(s0 + s1), -s1]) + RIDGE * beta

    bounds = [(-LARGEST_COEFFICIENT, LARGEST_COEFFICIENT)] * 2
    first = np.array([start[0], start[1] - start[0]])
    found = minimize(objective, first, jac=gradient, method="L-BFGS-B", bounds=bounds)
    return Coefficients(float(found.x[0]), float(found.x[1]), iterations, bool(found.success))


def _root(
    slopes: Callable[[float], tuple[float, float]],
    start: float,
    max_iterations: int,
    tolerance: float,
) -> LogMean:
    eta, low, high = start, -math.inf, math.inf
    for iteration in range(1, max_iterations + 1):
        score, information = slopes(eta)
        if score > 0:
            low = eta
        else:
            high = eta
        step = score / information if information > 0 else math.copysign(LARGEST_STEP, score)
        step = min(max(step, -LARGEST_STEP), LARGEST_STEP)
        if not low <= eta + step <= high:
            step = (low + high) / 2 - eta
        eta += step
        if abs(step) <= tolerance:
            return LogMean(eta, iteration, True)
    return LogMean(eta, max_iterations, False)
