r"""Standard error, statistic and p-value of a log fold change.

With :math:`W_k` the working weights of arm k summed over its cells, :math:`M = X^T W X` and
:math:`H = (M + \lambda I)^{-1}`, :math:`\lambda = 10^{-6}`:

============ ==================================== ==============================================
se_method    variance of the log fold change       closed form, D = W0 W1 + l (W0 + 2 W1 + l)
============ ==================================== ==============================================
``fisher``   :math:`H_{11}`                        (W0 + W1 + l) / D
``sandwich`` :math:`(H M H)_{11}`                  (W1^2 W0 + (W0 + l)^2 W1) / D^2
``robust``   :math:`(H B H)_{11}`                  (W1^2 B0 + (W0 + l)^2 B1) / D^2
============ ==================================== ==============================================

``sandwich`` is PyDESeq2's formula. Its filling is the model's own information, so that it differs
from ``fisher`` by terms of order :math:`\lambda / W` only. ``robust`` has the empirical filling
:math:`B_k = \sum (y - \mu)^2 / (1 + \alpha \mu)^2` of Huber and White.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from reference.nb_coefficients import RIDGE, Arm, best_log_mean, poisson_log_mean
from reference.nb_likelihood import log_likelihood, working_weights

SE_METHODS = ("sandwich", "fisher", "robust")


class WaldTest(NamedTuple):
    """One test of a log fold change.

    Attributes
    ----------
    standard_error : natural log units
    statistic : positive when the perturbed cells express more
    pvalue : two-sided, normal
    """

    standard_error: float
    statistic: float
    pvalue: float


def wald_test(
    control: Arm,
    perturbed: Arm,
    intercept: float,
    log_fold_change: float,
    alpha: float,
    se_method: str = "sandwich",
) -> WaldTest:
    r"""Test whether a log fold change is 0.

    .. math::  z = \hat\beta_1 / \mathrm{SE}, \qquad p = \operatorname{erfc}(|z| / \sqrt 2)

    The means are :math:`s_i e^{x_i \beta}`, without any clamp.

    Parameters
    ----------
    control, perturbed : the two arms
    intercept, log_fold_change : natural log
    alpha : dispersion
    se_method : "sandwich", "fisher" or "robust"

    Raises
    ------
    ValueError
        If the method is unknown.
    """
    if se_method not in SE_METHODS:
        raise ValueError(f"se_method={se_method!r}; allowed: {list(SE_METHODS)}.")
    mu0 = control.size_factors * math.exp(intercept)
    mu1 = perturbed.size_factors * math.exp(intercept + log_fold_change)
    w0 = float(working_weights(mu0, alpha).sum())
    w1 = float(working_weights(mu1, alpha).sum())
    det = w0 * w1 + RIDGE * (w0 + 2 * w1 + RIDGE)
    if se_method == "fisher":
        variance = (w0 + w1 + RIDGE) / det
    else:
        fill0, fill1 = w0, w1
        if se_method == "robust":
            fill0 = float(np.sum(((control.counts - mu0) / (1 + alpha * mu0)) ** 2))
            fill1 = float(np.sum(((perturbed.counts - mu1) / (1 + alpha * mu1)) ** 2))
        variance = (w1**2 * fill0 + (w0 + RIDGE) ** 2 * fill1) / det**2
    error = math.sqrt(variance)
    statistic = log_fold_change / error if error > 0 else math.nan
    return WaldTest(error, statistic, math.erfc(abs(statistic) / math.sqrt(2)))


def silent_arm_test(control: Arm, perturbed: Arm, intercept: float, alpha: float) -> float:
    r"""Return the signed root of the likelihood ratio when one arm has no count at all.

    .. math::

        z = \pm \sqrt{2 (\ell_0(\hat\eta_0) + \ell_1(\hat\eta_1) - \ell(\tilde\eta))}

    with :math:`\tilde\eta` the common log mean. Wald's statistic has no value there: the fold
    change of highest likelihood is infinite. The likelihood of the silent arm tends to 1, and the
    ratio stays finite.

    Parameters
    ----------
    control, perturbed : the two arms, one of them without counts
    intercept : fitted log mean of the arm with counts
    alpha : dispersion

    Returns
    -------
    float, negative when the perturbed arm is silent.
    """
    silenced = not perturbed.counts.any()
    arm = control if silenced else perturbed
    pool = Arm(
        np.concatenate([control.counts, perturbed.counts]),
        np.concatenate([control.size_factors, perturbed.size_factors]),
    )
    common = best_log_mean(pool, alpha, poisson_log_mean(pool), 100, 1e-9).eta
    ratio = log_likelihood(arm.counts, arm.size_factors * math.exp(intercept), alpha)
    ratio -= log_likelihood(pool.counts, pool.size_factors * math.exp(common), alpha)
    return math.copysign(math.sqrt(max(2 * ratio, 0)), -1 if silenced else 1)
