r"""Dispersion of one gene: moments, Cox-Reid adjusted likelihood, and the empirical Bayes mode.

The arms of a gene are its groups of cells: two in one comparison, all groups of the screen where
one dispersion serves every comparison. The mean of group k is fitted first, as the mean of
:math:`q = y / s` in the group, and held while :math:`a = \log \alpha` varies:

.. math::

    \hat\mu_i = \max(s_i\, \bar q_{k(i)},\, \mu_{\min}), \qquad
    L(a) = -\ell(\hat\mu, e^a) + \frac{1}{2} \sum_k \log W_k(e^a)
    + \frac{(a - \log \alpha_{\mathrm{trend}})^2}{2 \tau^2}

The second term is Cox and Reid's correction for having fitted the means; the third is there in the
posterior mode only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, polygamma

from reference.nb_coefficients import Arm
from reference.nb_likelihood import dispersion_slopes, log_likelihood

Vector = NDArray[np.float64]

SMALLEST = 1e-8
SMALLEST_LARGEST = 10.0
SMALLEST_START = 1e-4
TOLERANCE = 1e-7
LARGEST_STEP = 2.0
MAX_ITERATIONS = 200
FLAT_GRADIENT = 1e-5
SMALLEST_PRIOR_VARIANCE = 0.25


class Prior(NamedTuple):
    """Spread of log dispersions about the trend.

    Attributes
    ----------
    variance : of the normal prior of log alpha, after the sampling variance is taken off
    outlier_distance : residuals above this keep their own dispersion
    """

    variance: float
    outlier_distance: float


def largest_dispersion(n_cells: int) -> float:
    """Return DESeq2's upper bound, the larger of 10 and the number of cells."""
    return max(SMALLEST_LARGEST, float(n_cells))


def fitted_means(arm: Arm, min_mu: float = 0.0) -> Vector:
    """Return ``max(s mean(y / s), min_mu)`` (n_cells,)."""
    mean = float(np.mean(arm.counts / arm.size_factors))
    return np.maximum(arm.size_factors * mean, min_mu)


def rough_moments(arms: Sequence[Arm], upper: float) -> float:
    r"""Return PyDESeq2's first guess, the smaller of two moment estimates.

    .. math::

        \alpha_1 = \frac{\operatorname{var} q - \bar q\, \overline{1/s}}{\bar q^2}, \qquad
        \alpha_2 = \max\Big(0, \sum_i \frac{(q_i - m_i)^2 - m_i}{(n - K)\, m_i^2}\Big), \qquad
        m_i = \max(\bar q_{k(i)}, 1)

    Parameters
    ----------
    arms : (K,), at least one count above 0
    upper : upper bound

    Returns
    -------
    float in [1e-8, upper]
    """
    q = np.concatenate([arm.counts / arm.size_factors for arm in arms])
    inverse = np.concatenate([1 / arm.size_factors for arm in arms])
    center = np.concatenate(
        [np.full(arm.counts.size, max(np.mean(arm.counts / arm.size_factors), 1)) for arm in arms]
    )
    whole = (q.var(ddof=1) - inverse.mean() * q.mean()) / q.mean() ** 2
    within = np.sum(((q - center) ** 2 - center) / ((q.size - len(arms)) * center**2))
    return float(np.clip(min(whole, max(within, 0)), SMALLEST, upper))


def within_group_moments(arms: Sequence[Arm], upper: float) -> float:
    r"""Return the method-of-moments dispersion within groups.

    .. math::

        \hat\alpha = \frac{\sum_k n_k (v_k - \bar q_k\, \overline{1 / s}_k)}
        {\sum_k n_k \bar q_k^2}

    with :math:`v_k` the unbiased variance of q in group k: the variance of q has expectation
    :math:`\bar q_k\,\overline{1/s}_k + \alpha \bar q_k^2`. Groups of one cell do not take part.

    Parameters
    ----------
    arms : (K,), at least one count above 0
    upper : upper bound

    Returns
    -------
    float in [1e-8, upper]; 1e-8 also where no group of two cells has a count.
    """
    excess = squares = 0.0
    for arm in arms:
        n = arm.counts.size
        if n < 2:
            continue
        q = arm.counts / arm.size_factors
        excess += n * (q.var(ddof=1) - q.mean() * np.mean(1 / arm.size_factors))
        squares += n * q.mean() ** 2
    return float(np.clip(excess / squares, SMALLEST, upper)) if squares > 0 else SMALLEST


def adjusted_loss(log_alpha: float, arms: Sequence[Arm], means: Sequence[Vector]) -> float:
    """Return L without the prior; arms whose means are 0 say nothing and are left out.

    Parameters
    ----------
    log_alpha : a
    arms : (K,)
    means : (K,) arrays (n_cells,)
    """
    alpha, total = math.exp(log_alpha), 0.0
    for arm, mu in zip(arms, means, strict=True):
        if mu.any():
            total -= log_likelihood(arm.counts, mu, alpha)
            total += 0.5 * math.log(np.sum(mu / (1 + alpha * mu)))
    return total


def adjusted_slopes(
    log_alpha: float, arms: Sequence[Arm], means: Sequence[Vector]
) -> tuple[float, float]:
    r"""Return the first and second derivative of L without the prior.

    With :math:`v = \alpha\mu / (1 + \alpha\mu)` the correction of an arm has

    .. math::

        \tfrac12 \Big(\frac{F_1}{F} - 1\Big), \qquad
        \tfrac12 \Big(\frac{F_2}{F} - \frac{F_1^2}{F^2}\Big), \qquad
        F = \sum v, \; F_1 = \sum v (1 - v), \; F_2 = \sum v (1 - v)(1 - 2 v)

    Parameters
    ----------
    log_alpha, arms, means : as in :func:`adjusted_loss`
    """
    alpha = math.exp(log_alpha)
    slope = curvature = 0.0
    for arm, mu in zip(arms, means, strict=True):
        if not mu.any():
            continue
        first, second = dispersion_slopes(arm.counts, mu, alpha)
        v = alpha * mu / (1 + alpha * mu)
        f, f1 = float(v.sum()), float((v * (1 - v)).sum())
        f2 = float((v * (1 - v) * (1 - 2 * v)).sum())
        slope += (f1 / f - 1) / 2 - first
        curvature += (f2 / f - (f1 / f) ** 2) / 2 - second
    return slope, curvature


def genewise_dispersion(
    arms: Sequence[Arm],
    upper: float,
    *,
    start: float,
    min_mu: float = 0.0,
    stop_where_flat: bool = False,
) -> float:
    r"""Return the dispersion that minimizes L without the prior.

    Parameters
    ----------
    arms : (K,), at least one count above 0
    upper : upper bound; the lower one is 1e-8
    start : first dispersion
    min_mu : smallest fitted mean
    stop_where_flat : do as L-BFGS-B does in PyDESeq2: return a start at which the slope in log
        alpha is at most 1e-5. At 1e-8 every slope is that small, so that a gene whose moments show
        no overdispersion keeps 1e-8 wherever its likelihood is highest. False begins at 1e-4 or
        above and always moves.

    Returns
    -------
    float in [1e-8, upper]

    Notes
    -----
    Source: D. R. Cox and N. Reid, J R Stat Soc B 49 (1987) 1-39; McCarthy, Chen and Smyth, Nucleic
    Acids Research 40 (2012) 4288-4297.
    """
    means = [fitted_means(arm, min_mu) for arm in arms]

    def slopes(a: float) -> tuple[float, float]:
        return adjusted_slopes(a, arms, means)

    low, high = math.log(SMALLEST), math.log(upper)
    first = min(math.log(start if stop_where_flat else max(start, SMALLEST_START)), high)
    if stop_where_flat and abs(_projected(slopes(first)[0], first, low, high)) <= FLAT_GRADIENT:
        return start
    return math.exp(minimize_on_interval(slopes, first, low, high))


def posterior_mode(
    arms: Sequence[Arm], trend: float, prior_variance: float, upper: float, min_mu: float = 0.0
) -> float:
    r"""Return the dispersion that minimizes L, the search beginning at the trend.

    Parameters
    ----------
    arms : (K,)
    trend : dispersion expected at the mean of this gene
    prior_variance : tau^2, of log alpha
    upper : upper bound; the lower one is 1e-8
    min_mu : smallest fitted mean

    Returns
    -------
    float in [1e-8, upper]

    Notes
    -----
    Source: Love, Huber and Anders, Genome Biology 15 (2014) 550, equation 6.
    """
    means = [fitted_means(arm, min_mu) for arm in arms]
    center = math.log(trend)

    def slopes(a: float) -> tuple[float, float]:
        slope, curvature = adjusted_slopes(a, arms, means)
        return slope + (a - center) / prior_variance, curvature + 1 / prior_variance

    low, high = math.log(SMALLEST), math.log(upper)
    return math.exp(minimize_on_interval(slopes, min(max(center, low), high), low, high))


def fit_prior(genewise: ArrayLike, trend: ArrayLike, degrees_of_freedom: float) -> Prior:
    r"""Return the spread of log dispersions about their trend.

    .. math::

        \mathrm{MAD} = \frac{\operatorname{median} |\rho - \operatorname{median} \rho|}
        {\Phi^{-1}(3/4)}, \qquad
        \tau^2 = \max\big(\mathrm{MAD}^2 - \psi'(\nu / 2),\, 1/4\big)

    over the residuals :math:`\rho = \log \hat\alpha - \log \alpha_{\mathrm{trend}}` of the genes
    with :math:`\hat\alpha \ge 10^{-6}`.

    Parameters
    ----------
    genewise, trend : (n_genes,), NaN for genes without counts
    degrees_of_freedom : nu, cells less fitted group means

    Returns
    -------
    Prior; of variance 1/4 and distance 0 where no gene has residuals.
    """
    alpha, expected = np.asarray(genewise, dtype=float), np.asarray(trend, dtype=float)
    used = (alpha >= 100 * SMALLEST) & np.isfinite(expected)
    if not used.any():
        return Prior(SMALLEST_PRIOR_VARIANCE, 0.0)
    residuals = np.log(alpha[used]) - np.log(expected[used])
    deviation = np.median(np.abs(residuals - np.median(residuals))) / ndtri(0.75)
    variance = deviation**2 - polygamma(1, degrees_of_freedom / 2)
    return Prior(max(float(variance), SMALLEST_PRIOR_VARIANCE), 2 * float(deviation))


def final_dispersion(genewise: float, trend: float, mode: float, prior: Prior) -> float:
    """Return the mode, but a gene's own dispersion where it lies far above the trend.

    Source: Love, Huber and Anders, Genome Biology 15 (2014) 550, section "Dispersion outliers".
    """
    outlier = math.log(genewise) > math.log(trend) + prior.outlier_distance
    return genewise if outlier else mode


def grid_mode(
    counts: ArrayLike,
    mu: ArrayLike,
    trend: float,
    prior_variance: float,
    low: float = SMALLEST,
    high: float = 10.0,
    n_grid: int = 25,
    refine: bool = True,
) -> float:
    r"""Return the posterior mode without Cox and Reid's term, for means from anywhere.

    .. math::  -\ell(\mu, e^a) + \frac{(a - \log \alpha_{\mathrm{trend}})^2}{2 \tau^2}

    is taken at points evenly spaced in a, and minimized about the best of them.

    Parameters
    ----------
    counts, mu : (n_cells,)
    trend, prior_variance : of the prior, as in :func:`posterior_mode`
    low, high : bounds of the dispersion
    n_grid : number of points, at least 2
    refine : go on to the minimum between the neighbors of the best point; False returns the point
    """
    y, m = np.asarray(counts, dtype=np.float64), np.asarray(mu, dtype=np.float64)
    center = math.log(trend)

    def loss(a: float) -> float:
        return (a - center) ** 2 / (2 * prior_variance) - log_likelihood(y, m, math.exp(a))

    def slopes(a: float) -> tuple[float, float]:
        first, second = dispersion_slopes(y, m, math.exp(a))
        return (a - center) / prior_variance - first, 1 / prior_variance - second

    points = np.linspace(math.log(low), math.log(high), n_grid)
    best = int(np.argmin([loss(float(a)) for a in points]))
    if not refine:
        return math.exp(float(points[best]))
    left, right = float(points[max(best - 1, 0)]), float(points[min(best + 1, n_grid - 1)])
    return math.exp(minimize_on_interval(slopes, float(points[best]), left, right))


def prior_weight(
    genewise: ArrayLike, trend: ArrayLike, outlier_distance: float = 2.0, n_rounds: int = 5
) -> float:
    r"""Return the weight of the trend against a gene's own dispersion, from residuals alone.

    The variance v of :math:`\log \hat\alpha - \log \alpha_{\mathrm{trend}}` is taken in rounds,
    each without the residuals farther from their mean than so many standard deviations of the last
    one; the weight is 1 / v. Where genes keep to the trend it is large.

    Parameters
    ----------
    genewise, trend : (n_genes,)
    outlier_distance : standard deviations
    n_rounds : rounds

    Returns
    -------
    float; infinite where the residuals have no variance, 0 for fewer than two genes
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.log(np.asarray(genewise, dtype=float)) - np.log(np.asarray(trend, dtype=float))
    rest = rest[np.isfinite(rest)]
    if rest.size < 2:
        return 0.0
    kept = rest
    for _ in range(n_rounds):
        near = np.abs(rest - kept.mean()) <= outlier_distance * kept.std()
        if near.sum() < 2:
            break
        kept = rest[near]
    variance = float(kept.var(ddof=1))
    return 1 / variance if variance > 0 else math.inf


def minimize_on_interval(
    slopes: Callable[[float], tuple[float, float]], start: float, low: float, high: float
) -> float:
    """Return a minimum of a function of one variable on an interval.

    Newton's method with steps of at most 2, downhill where the function is concave; a step beyond a
    point known to slope uphill is replaced by bisection. It stops after a step of at most 1e-7 or
    at an end of the interval that slopes outward.

    Parameters
    ----------
    slopes : x -> first and second derivative
    start : in [low, high]
    low, high : ends of the interval
    """
    x, left, right = start, low, high
    seen_left = seen_right = False
    for _ in range(MAX_ITERATIONS):
        slope, curvature = slopes(x)
        if _projected(slope, x, low, high) == 0:
            return x
        if slope > 0:
            right, seen_right = x, True
        else:
            left, seen_left = x, True
        step = -slope / curvature if curvature > 0 else -math.copysign(LARGEST_STEP, slope)
        new = x + min(max(step, -LARGEST_STEP), LARGEST_STEP)
        if new <= left:
            new = (left + x) / 2 if seen_left else left
        elif new >= right:
            new = (right + x) / 2 if seen_right else right
        if abs(new - x) <= TOLERANCE:
            return new
        x = new
    return x


def _projected(slope: float, x: float, low: float, high: float) -> float:
    """Return the slope, 0 where it points out of the interval."""
    return 0.0 if (x <= low and slope > 0) or (x >= high and slope < 0) else slope
