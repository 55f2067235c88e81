r"""Efficient score test of a log fold change of 0, its tail by a saddlepoint approximation.

Cells of a batch share a log mean :math:`\eta_b` under the null, fitted to both arms together. With
:math:`q_i = 1 / (1 + \alpha \mu_i)` at the null means and :math:`I_k = \sum_{i \in k} \mu_i q_i`
the information of each arm of a batch,

.. math::

    U = \sum_b \sum_{i \in \mathrm{perturbed}} q_i (y_i - \mu_i) = \sum_i a_i (y_i - \mu_i), \qquad
    a_i = \frac{I_0}{I_0 + I_1} q_i \;\text{or}\; -\frac{I_1}{I_0 + I_1} q_i

in perturbed and control cells. The second form does not change when the null mean moves a little
(it is the efficient score), and has variance
:math:`V = \sum_b I_0 I_1 / (I_0 + I_1)` and cumulant generating function

.. math::

    K(t) = \sum_i -\tfrac{1}{\alpha} \log\big(1 - \alpha \mu_i (e^{t a_i} - 1)\big) - t a_i \mu_i

A batch without cells of both arms, or without counts, has nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference.nb_coefficients import Arm, best_log_mean, poisson_log_mean
from reference.nb_likelihood import working_weights

Vector = NDArray[np.float64]
Batch = tuple[Arm, Arm]  # control and perturbed cells

NULL_ITERATIONS = 100
NULL_TOLERANCE = 1e-9
NORMAL_BELOW = 0.05
SOLVER_ITERATIONS = 200
SOLVER_TOLERANCE = 1e-7


class NullBatch(NamedTuple):
    """Cells of one batch under the null.

    Attributes
    ----------
    control, perturbed : null means (n_cells,) of each arm
    control_information, perturbed_information : I0 and I1
    score : sum of q (y - mu) over the perturbed cells
    """

    control: Vector
    perturbed: Vector
    control_information: float
    perturbed_information: float
    score: float


class ScoreTest(NamedTuple):
    """A score test.

    Attributes
    ----------
    score, variance : U and V
    overdispersion : phi, at least 1
    root : z of the sign of U with ``p = erfc(|z| / sqrt(2))``; NaN where no batch says anything
    """

    score: float
    variance: float
    overdispersion: float
    root: float


def score_test(batches: Sequence[Batch], alpha: float) -> ScoreTest:
    r"""Test whether the perturbed cells have the means of the control.

    .. math::  p = \min\big(1,\; 2\, P(U \ge |u|)\big), \qquad u = U / \sqrt{\phi}

    in the tail on which u lies. Doubling keeps the power of knock-downs: adding the far tail would
    let the long right tail of counts outweigh an observed absence. Where
    :math:`|u| < 0.05 \sqrt V` the tail is normal.

    Parameters
    ----------
    batches : control and perturbed cells of each batch; one pair without batches
    alpha : dispersion above 0

    Returns
    -------
    ScoreTest

    Notes
    -----
    Sources: O. E. Barndorff-Nielsen, Biometrika 73 (1986) 307-322 (the root); Dey and others,
    American Journal of Human Genetics 101 (2017) 37-49 (a score test by saddlepoint).
    """
    used = [one for one in batches if speaks(*one)]
    if not used:
        return ScoreTest(0.0, 0.0, 1.0, math.nan)
    nulls = [null_batch(*one, alpha) for one in used]
    score = sum(null.score for null in nulls)
    variance = sum(
        null.control_information
        * null.perturbed_information
        / (null.control_information + null.perturbed_information)
        for null in nulls
    )
    phi = overdispersion(used, alpha)
    guarded = score / math.sqrt(phi)
    return ScoreTest(score, variance, phi, saddlepoint_root(nulls, guarded, variance, alpha))


def null_batch(control: Arm, perturbed: Arm, alpha: float) -> NullBatch:
    """Fit the common log mean of both arms of a batch, at least one count above 0."""
    pool = Arm(
        np.concatenate([control.counts, perturbed.counts]),
        np.concatenate([control.size_factors, perturbed.size_factors]),
    )
    eta = best_log_mean(pool, alpha, poisson_log_mean(pool), NULL_ITERATIONS, NULL_TOLERANCE).eta
    mu0, mu1 = (arm.size_factors * math.exp(eta) for arm in (control, perturbed))
    return NullBatch(
        mu0,
        mu1,
        float(working_weights(mu0, alpha).sum()),
        float(working_weights(mu1, alpha).sum()),
        float(np.sum((perturbed.counts - mu1) / (1 + alpha * mu1))),
    )


def overdispersion(batches: Sequence[Batch], alpha: float) -> float:
    r"""Return how far the squared score residuals exceed their expectation, at least 1.

    .. math::

        \phi = \max\Big(1, \frac{\sum_i q_i^2 (y_i - \hat\mu_i)^2}{\sum_i \hat\mu_i q_i}\Big)

    with the means of highest likelihood of each arm of each batch, so that an effect does not count
    as noise; arms without counts are left out.

    Parameters
    ----------
    batches, alpha : as in :func:`score_test`
    """
    squares = expected = 0.0
    for arm in (arm for pair in batches for arm in pair):
        if not arm.counts.any():
            continue
        fit = best_log_mean(arm, alpha, poisson_log_mean(arm), NULL_ITERATIONS, NULL_TOLERANCE)
        mu = arm.size_factors * math.exp(fit.eta)
        squares += float(np.sum(((arm.counts - mu) / (1 + alpha * mu)) ** 2))
        expected += float(working_weights(mu, alpha).sum())
    return max(1.0, squares / expected)


def saddlepoint_root(nulls: Sequence[NullBatch], u: float, variance: float, alpha: float) -> float:
    r"""Return the normal deviate whose tail is that of the score.

    With :math:`K'(\hat t) = u`,

    .. math::

        r = \operatorname{sign}(\hat t) \sqrt{2 (\hat t u - K(\hat t))}, \quad
        v = \hat t \sqrt{K''(\hat t)}, \quad
        r^* = r + \frac{1}{r} \log \frac{v}{r}

    and the tail beyond u is :math:`\Phi(-|r^*|)`. Where the nearer tail holds more than one half
    the doubled p-value is 1 and the root 0.

    Parameters
    ----------
    nulls : batches under the null
    u : observed score
    variance : V
    alpha : dispersion above 0
    """
    if abs(u) < NORMAL_BELOW * math.sqrt(variance):
        return u / math.sqrt(variance)
    sign = math.copysign(1.0, u)
    t = _solve(lambda t: cumulants(nulls, t, alpha)[1:], u, variance, _limit(nulls, sign, alpha))
    k, _, curvature = cumulants(nulls, t, alpha)
    r = sign * math.sqrt(2 * (t * u - k))
    root = r + math.log(t * math.sqrt(curvature) / r) / r
    return sign * max(sign * root, 0.0)


def cumulants(nulls: Sequence[NullBatch], t: float, alpha: float) -> tuple[float, float, float]:
    r"""Return K and its first two derivatives.

    The distribution tilted by :math:`e^{t a y}` is again negative binomial, of mean
    :math:`M = \mu e^{ta} / D` with :math:`D = 1 - \alpha \mu (e^{ta} - 1)`, so that
    :math:`K' = \sum a (M - \mu)` and :math:`K'' = \sum a^2 M (1 + \alpha M)`.

    Parameters
    ----------
    nulls, alpha : as in :func:`saddlepoint_root`
    t : inside the interval in which every D is above 0
    """
    k = first = second = 0.0
    for null in nulls:
        total = null.control_information + null.perturbed_information
        for mu, share in (
            (null.perturbed, null.control_information / total),
            (null.control, -null.perturbed_information / total),
        ):
            a = share / (1 + alpha * mu)
            grown = np.expm1(t * a)
            d = 1 - alpha * mu * grown
            tilted = mu * (1 + grown) / d
            k += float(np.sum(-np.log1p(-alpha * mu * grown) / alpha - t * a * mu))
            # M - mu = mu (e^{ta} - 1) (1 + alpha mu) / D
            first += float(np.sum(share * mu * grown / d))
            second += float(np.sum(a**2 * tilted * (1 + alpha * tilted)))
    return k, first, second


def _limit(nulls: Sequence[NullBatch], sign: float, alpha: float) -> float:
    r"""Return the |t| at which a cell's D reaches 0.

    :math:`(1 + x) \log(1 + 1 / x)` falls with :math:`x = \alpha \mu`: the largest mean decides.
    """
    limits = []
    for null in nulls:
        total = null.control_information + null.perturbed_information
        mu, share = null.perturbed, null.control_information
        if sign < 0:
            mu, share = null.control, null.perturbed_information
        x = alpha * float(mu.max())
        limits.append((1 + x) * math.log1p(1 / x) * total / share)
    return min(limits)


def _solve(
    slopes: Callable[[float], tuple[float, float]], u: float, variance: float, limit: float
) -> float:
    """Solve K'(t) = u by Newton's method within a bracket that begins as [0, limit]."""
    sign = math.copysign(1.0, u)
    near, far = 0.0, limit
    # At alpha = 0 and a large control, u / V is the fold change less 1 and t its logarithm.
    t = sign * min(math.log1p(abs(u) / variance) if u > 0 else abs(u) / variance, limit / 2)
    for _ in range(SOLVER_ITERATIONS):
        first, second = slopes(t)
        if sign * (first - u) < 0:
            near = abs(t)
        else:
            far = abs(t)
        step = (u - first) / second
        if not near <= sign * (t + step) <= far:
            step = sign * (near + far) / 2 - t
        t += step
        if abs(step) <= SOLVER_TOLERANCE * abs(t):
            break
    return t


def speaks(control: Arm, perturbed: Arm) -> bool:
    """Return whether a batch has cells of both arms and a count."""
    both = bool(control.counts.size) and bool(perturbed.counts.size)
    return both and bool(control.counts.any() or perturbed.counts.any())
