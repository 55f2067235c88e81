"""Welch's t-test of one gene between one perturbation and the control, and its fold change.

Example: control 0, 2 and perturbed 3, 5, 7 have means 1 and 5 and variances 2 and 4.

>>> result = welch_t([0, 2], [3, 5, 7])
>>> round(result.statistic, 6), round(4 / (7 / 3) ** 0.5, 6)
(2.618615, 2.618615)
>>> round(result.degrees_of_freedom, 6), round(49 / 17, 6)
(2.882353, 2.882353)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad
from scipy.special import betaln, stdtr

from reference.moments import mean, variance

FOLD_CHANGE_PSEUDOCOUNT = 1e-9


class WelchTest(NamedTuple):
    """One Welch test.

    Attributes
    ----------
    statistic : t, positive when the perturbed cells express more
    degrees_of_freedom : Satterthwaite's approximation
    pvalue : two-sided, Student's distribution
    """

    statistic: float
    degrees_of_freedom: float
    pvalue: float


def welch_t(control: ArrayLike, perturbed: ArrayLike) -> WelchTest:
    r"""Compare two means without assuming equal variances.

    .. math::

        t = \frac{\bar x_1 - \bar x_0}{\sqrt{q_0 + q_1}}, \qquad q_k = \frac{v_k}{n_k},
        \qquad
        \nu = \frac{(q_0 + q_1)^2}{q_0^2 / (n_0 - 1) + q_1^2 / (n_1 - 1)}, \qquad
        p = 2 F_\nu(-|t|)

    Parameters
    ----------
    control : (n0,), log-normalized expression of one gene
    perturbed : (n1,), same gene and unit

    Returns
    -------
    WelchTest, all NaN when an arm has fewer than two cells or neither arm varies.

    Notes
    -----
    Source: B. L. Welch, Biometrika 34 (1947) 28-35; F. E. Satterthwaite, Biometrics Bulletin 2
    (1946) 110-114.
    """
    n0, n1 = np.size(control), np.size(perturbed)
    if n0 < 2 or n1 < 2:
        return WelchTest(math.nan, math.nan, math.nan)
    q0, q1 = variance(control) / n0, variance(perturbed) / n1
    if q0 + q1 == 0:
        return WelchTest(math.nan, math.nan, math.nan)
    t = (mean(perturbed) - mean(control)) / math.sqrt(q0 + q1)
    # In shares of the total: the squares of q themselves underflow for tiny variances.
    share0, share1 = q0 / (q0 + q1), q1 / (q0 + q1)
    df = 1 / (share0**2 / (n0 - 1) + share1**2 / (n1 - 1))
    return WelchTest(t, df, float(2 * stdtr(df, -abs(t))))


def log_student_tail(t: float, degrees_of_freedom: float, alternative: str = "two-sided") -> float:
    r"""Return the natural logarithm of the p-value of a t statistic, whatever its size.

    .. math::

        \ln P(|T| > |t|) = \ln \frac{2}{\nu\,B(\frac12, \frac\nu2)} - \frac{\nu w}{2}
        + \ln \int_0^\infty \frac{e^{-z}\,dz}{\sqrt{1 - e^{-w - 2z/\nu}}},
        \qquad w = \ln\left(1 + \frac{t^2}{\nu}\right)

    Parameters
    ----------
    t : statistic
    degrees_of_freedom : of Student's distribution
    alternative : "two-sided", "greater" (large t) or "less" (small t)

    Notes
    -----
    The tail integral of Student's density with :math:`s^2 = \nu (e^{w + 2z/\nu} - 1)`: what is
    small stands before the integral, which is of order one. Where p is a number, its log is taken.
    """
    nu = degrees_of_freedom
    if math.isnan(t) or math.isnan(nu):
        return math.nan
    if alternative != "two-sided" and (t > 0) != (alternative == "greater"):
        return math.log1p(-math.exp(log_student_tail(t, nu)) / 2)
    half = 0.0 if alternative == "two-sided" else math.log(2)
    if math.isinf(t):
        return -math.inf
    p = float(2 * stdtr(nu, -abs(t)))
    if p > 1e-200:
        return math.log(p) - half
    ratio = abs(t) / math.sqrt(nu)
    w = math.log1p(ratio**2) if ratio < 1e100 else 2 * math.log(ratio)
    rest, _ = quad(
        lambda z: math.exp(-z) / math.sqrt(-math.expm1(-w - 2 * z / nu)),
        0, 60, epsabs=0, epsrel=1e-13, limit=200,
    )  # fmt: skip
    before = math.log(2 / nu) - float(betaln(0.5, nu / 2)) - nu * w / 2
    return before + math.log(rest) - half


def log_fold_change(mean_control: float, mean_perturbed: float) -> float:
    r"""Return the log2 fold change of the back-transformed means, as scanpy defines it.

    .. math::

        \mathrm{LFC} = \log_2
        \frac{e^{\bar\ell_1} - 1 + 10^{-9}}{e^{\bar\ell_0} - 1 + 10^{-9}}

    Parameters
    ----------
    mean_control : mean of log1p expression in the control
    mean_perturbed : mean of log1p expression in the perturbed cells

    Returns
    -------
    float, log2 units; 0 when both means are 0, about +-30 when one of them is. The mean of logs is
    the log of a geometric mean, so this is not the fold change of mean counts. Not meaningful for
    means below 0 or data that are not log1p; NaN where the formula has no value.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        perturbed = np.expm1(np.float64(mean_perturbed)) + FOLD_CHANGE_PSEUDOCOUNT
        control = np.expm1(np.float64(mean_control)) + FOLD_CHANGE_PSEUDOCOUNT
        return float(np.log2(perturbed / control))
